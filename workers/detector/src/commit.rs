//! What a commit carries besides the offset: where to start again, what is closed by then, and, of fold, by which definition
//! each metric was counted from where on.
//!
//! The metadata of a commit is text, of which a broker takes 4,096 bytes; a hundred metrics fit:
//! - of fold `1 <replay from> <closed> [<floor> [<metric> …]]`, each metric as `<name hash><definition>:<since>[:<unsent>]`;
//! - of judge `1 <replay from> <closed> [rules=<hash>]`.

use herd_bus::Commit;
use herd_spec::units::{EventTime, Offset};
use herd_spec::wire::Fingerprint;
use xxhash_rust::xxh3::xxh3_64;

/// The position of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset to process.
    pub next: Offset,
    /// The first offset of the oldest window still open: where a successor starts to read.
    pub replay_from: Offset,
    /// Windows that end at or before this are closed; none before the first event.
    pub closed: Option<EventTime>,
    /// What fold keeps besides; none in commits of judge, and in those made before fold kept it.
    pub counting: Option<Counting>,
    /// What judge keeps besides: by which rules all open alerts were raised, see [`crate::judge::watch::Watched::rules`].
    pub rules: Option<Fingerprint>,
}

/// By which definitions the events before the commit were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// Events before this time are late for every metric: whether their ids were seen is no longer known.
    pub floor: Option<EventTime>,
    /// The metrics in force.
    pub metrics: Vec<CountedMetric>,
}

/// A metric in force at a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedMetric {
    /// Hash of its name.
    pub name: Fingerprint,
    /// Its definition.
    pub definition: Fingerprint,
    /// The offset from which on events are counted by this definition.
    pub since: Offset,
    /// Parts of all events before this offset were acknowledged; at most the commit's offset.
    pub sent: Offset,
}

/// Before the hash of judge's rules.
const RULES: &str = "rules=";

/// The hash by which a commit names a metric.
#[must_use]
pub fn name_hash(name: &str) -> Fingerprint {
    Fingerprint::of_hash(xxh3_64(name.as_bytes()))
}

impl Position {
    /// Before anything was processed.
    pub const START: Self =
        Self { next: Offset(0), replay_from: Offset(0), closed: None, counting: None, rules: None };

    /// As the bus takes it.
    #[must_use]
    pub fn to_commit(&self) -> Commit {
        let time = |time: Option<EventTime>| time.map_or_else(|| "-".to_owned(), |time| time.0.to_string());
        let mut metadata = format!("1 {} {}", self.replay_from, time(self.closed));
        if let Some(counting) = &self.counting {
            metadata.push_str(&format!(" {}", time(counting.floor)));
            for metric in &counting.metrics {
                let CountedMetric { name, definition, since, sent } = metric;
                metadata.push_str(&format!(" {name}{definition}:{since}"));
                let unsent = self.next.0 - sent.0;
                if unsent > 0 {
                    metadata.push_str(&format!(":{unsent}"));
                }
            }
        }
        if let Some(rules) = self.rules {
            metadata.push_str(&format!(" {RULES}{rules}"));
        }
        Commit { next: self.next, metadata }
    }

    /// From a commit. One without our metadata (set by hand, by a tool) starts at its offset with nothing open.
    #[must_use]
    pub fn of(commit: &Commit) -> Self {
        let bare = Self { next: commit.next, replay_from: commit.next, ..Self::START };
        let mut fields = commit.metadata.split(' ');
        if fields.next() != Some("1") {
            return bare;
        }
        let (Some(from), Some(closed)) = (fields.next(), fields.next()) else { return bare };
        let (Ok(from), Some(closed)) = (from.parse(), time(closed)) else { return bare };
        let fourth = fields.next();
        let rules = fourth.and_then(|field| Fingerprint::parse(field.strip_prefix(RULES)?));
        let counting = fourth.and_then(|floor| {
            let metrics =
                fields.map(|field| CountedMetric::parse(field, commit.next)).collect::<Option<_>>()?;
            Some(Counting { floor: time(floor)?, metrics })
        });
        Self { replay_from: Offset(from), closed, counting, rules, ..bare }
    }
}

impl CountedMetric {
    fn parse(field: &str, next: Offset) -> Option<Self> {
        let mut values = field.split(':');
        let (name, definition) = values.next()?.split_at_checked(8)?;
        let since = Offset(values.next()?.parse().ok()?);
        let unsent: i64 = values.next().map_or(Some(0), |unsent| unsent.parse().ok())?;
        Some(Self {
            name: Fingerprint::parse(name)?,
            definition: Fingerprint::parse(definition)?,
            since,
            sent: Offset(next.0.checked_sub(unsent)?),
        })
    }
}

/// A time as it is written; `-` is none.
fn time(written: &str) -> Option<Option<EventTime>> {
    match written {
        "-" => Some(None),
        written => Some(Some(EventTime(written.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn metric() -> impl Strategy<Value = (u64, u64, i64, i64)> {
        (any::<u64>(), any::<u64>(), 0..i64::MAX, 0..1_000_000_i64)
    }

    proptest! {
        #[test]
        fn position_round_trips(
            next in 1_000_000..i64::MAX, from in 0..i64::MAX, closed in proptest::option::of(any::<i64>()),
            counting in proptest::option::of((
                proptest::option::of(any::<i64>()), prop::collection::vec(metric(), 0..5)
            )),
        ) {
            let metric = |(name, definition, since, unsent): (u64, u64, i64, i64)| CountedMetric {
                name: Fingerprint::of_hash(name),
                definition: Fingerprint::of_hash(definition),
                since: Offset(since),
                sent: Offset(next - unsent),
            };
            let counting = counting.map(|(floor, metrics)| Counting {
                floor: floor.map(EventTime),
                metrics: metrics.into_iter().map(metric).collect(),
            });
            let position = Position {
                next: Offset(next), replay_from: Offset(from), closed: closed.map(EventTime), counting, rules: None,
            };
            let judged = Position { counting: None, rules: Some(Fingerprint::of_hash(3)), ..position.clone() };
            prop_assert_eq!(Position::of(&judged.to_commit()), judged);
            prop_assert_eq!(Position::of(&position.to_commit()), position);
        }

        #[test]
        fn foreign_metadata_resumes_at_the_committed_offset(metadata in "[^1].{0,40}") {
            let position = Position::of(&Commit { next: Offset(7), metadata });
            let bare = Position { next: Offset(7), replay_from: Offset(7), closed: None, counting: None, rules: None };
            prop_assert_eq!(position, bare);
        }
    }

    #[test]
    fn the_metadata_of_a_hundred_metrics_fits_into_what_a_broker_takes() {
        let metric = CountedMetric {
            name: name_hash("views"),
            definition: Fingerprint::default(),
            since: Offset(99_999_999_999),
            sent: Offset(999_999_000_000),
        };
        let counting = Counting { floor: Some(EventTime(1_800_000_000_000)), metrics: vec![metric; 100] };
        let position = Position {
            next: Offset(999_999_999_999),
            replay_from: Offset(999_999_999_999),
            closed: Some(EventTime(1_800_000_000_000)),
            counting: Some(counting),
            rules: None,
        };
        assert!(position.to_commit().metadata.len() <= 4_096, "{}", position.to_commit().metadata.len());
    }

    #[test]
    fn reads_metadata_without_definitions() {
        let position = Position::of(&Commit { next: Offset(9), metadata: "1 4 1700".into() });
        assert_eq!((position.replay_from, position.closed), (Offset(4), Some(EventTime(1_700))));
        assert_eq!(position.counting, None);
    }
}

//! What is held back in quiet times, until it is summed up. Pure.
//!
//! Whether a message is held back is a function of its alert, of the time at which the record was sent, and of the settings. So a member
//! that takes a partition over finds the same by reading the topic again, from the offset that the commit names (`Mark`); the commit
//! itself goes on, so that quiet times are no lag.

use std::collections::{BTreeMap, BTreeSet};

use herd_spec::plan::{Quiet, QuietPlan};
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dead_letter::Refusal;

/// Alerts that are held back at most. With so many, they are summed up before the quiet time ends.
pub(super) const HELD_MAX: usize = 1_000;

/// A record of the topic.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) timestamp: WallTime,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

/// A record, until what it says is delivered.
pub(super) struct Pending {
    pub(super) source: Source,
    pub(super) received: WallTime,
    /// None: nothing to deliver.
    pub(super) alert: Result<Option<Alert>, Refusal>,
}

impl Pending {
    pub(super) fn alert(&self) -> Option<&Alert> {
        self.alert.as_ref().ok()?.as_ref()
    }
}

/// An alert that is held back.
#[derive(Clone, Debug)]
struct HeldAlert {
    /// Its first record that was held back.
    source: Source,
    /// Its newest record.
    alert: Alert,
    quiet: Quiet,
    /// Whether nobody was told of it before.
    is_new: bool,
}

/// What a commit says of what is held back, in its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Mark {
    /// The first record that is held back.
    pub(super) held_from: Offset,
    /// Quiet times that ended by then were summed up.
    released: WallTime,
    /// What it was held back by.
    settings: String,
}

impl Mark {
    pub(super) fn parse(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok()
    }
}

/// One message about all that was held back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The quiet times, for people.
    pub(crate) names: BTreeSet<String>,
    /// End of the last of them.
    pub(crate) until: WallTime,
    /// The newest record of each alert, oldest alert first.
    pub(crate) alerts: Vec<Alert>,
}

/// What is held back, of all partitions of a member.
#[derive(Debug)]
pub(super) struct Held {
    quiet: BTreeMap<String, QuietPlan>,
    settings: String,
    alerts: BTreeMap<AlertId, HeldAlert>,
    released: WallTime,
}

impl Held {
    /// Nothing yet. `quiet` is the quiet times of each detector.
    pub(super) fn new(quiet: BTreeMap<String, QuietPlan>) -> Self {
        // Maps with string keys have JSON.
        let written = serde_json::to_vec(&quiet).unwrap_or_default();
        let settings = hex::encode(&Sha256::digest(written)[..8]);
        Self { quiet, settings, alerts: BTreeMap::new(), released: WallTime(i64::MIN) }
    }

    /// The quiet time that a message about this record falls in. None: it is to be sent.
    pub(super) fn quiet(&self, alert: &Alert, sent: WallTime) -> Option<Quiet> {
        // What comes after the summary is no longer held back.
        let quiet = self.quiet.get(&alert.detector)?.at(&alert.key, sent);
        let quiet = quiet.filter(|quiet| quiet.until > self.released);
        quiet.or_else(|| self.alerts.get(&alert.id).map(|held| held.quiet.clone()))
    }

    /// The same for a record before the commit: what had been held back there and was not summed up.
    pub(super) fn quiet_before(&self, mark: &Mark, alert: &Alert, sent: WallTime) -> Option<Quiet> {
        if mark.settings != self.settings {
            // What was held back by other settings cannot be told from what was sent: all of it is summed up, rather too much.
            return Some(Quiet { until: WallTime(0), name: "settings before the last change".into() });
        }
        self.quiet(alert, sent).filter(|quiet| quiet.until > mark.released)
    }

    /// Holds a message back. `is_new` means that nobody was told of its alert.
    pub(super) fn hold(&mut self, source: Source, alert: &Alert, quiet: Quiet, is_new: bool) {
        if let Some(held) = self.alerts.get_mut(&alert.id) {
            if held.quiet.until < quiet.until {
                held.quiet = quiet;
            }
            return self.update(alert);
        }
        let held = HeldAlert { source, alert: alert.clone(), quiet, is_new };
        self.alerts.insert(alert.id.clone(), held);
    }

    /// Brings an alert that is held back up to date.
    pub(super) fn update(&mut self, alert: &Alert) {
        let Some(held) = self.alerts.get_mut(&alert.id) else { return };
        let order = |alert: &Alert| {
            (alert.state.rank(), alert.episode.as_ref().map(|episode| episode.until), alert.count)
        };
        let why = |alert: &Alert| alert.explanation.as_ref().map(|why| (why.until, why.events));
        let explained = if why(alert) > why(&held.alert) { alert } else { &held.alert };
        let explanation = explained.explanation.clone();
        if order(alert) > order(&held.alert) {
            held.alert = alert.clone();
        }
        held.alert.explanation = explanation;
    }

    /// What is to be summed up at `now`; None: nothing, or not yet.
    pub(super) fn due(&self, now: WallTime) -> Option<Vec<AlertId>> {
        let is_full = self.alerts.len() >= HELD_MAX;
        let due = self.alerts.iter().filter(|(_, held)| is_full || held.quiet.until <= now);
        let ids: Vec<AlertId> = due.map(|(id, _)| id.clone()).collect();
        (!ids.is_empty()).then_some(ids)
    }

    /// Whether so much is held back that it cannot wait.
    pub(super) fn is_full(&self) -> bool {
        self.alerts.len() >= HELD_MAX
    }

    /// The message about these. None: nobody needs to know, because what was raised was withdrawn.
    pub(super) fn summary(&self, ids: &[AlertId]) -> Option<Summary> {
        let mut due: Vec<&HeldAlert> = ids.iter().filter_map(|id| self.alerts.get(id)).collect();
        due.retain(|held| !(held.is_new && held.alert.state == AlertState::Withdrawn));
        due.sort_by_key(|held| (held.source.timestamp, held.source.partition, held.source.offset));
        let until = due.iter().map(|held| held.quiet.until).max()?;
        Some(Summary {
            names: due.iter().map(|held| held.quiet.name.clone()).collect(),
            until,
            alerts: due.into_iter().map(|held| held.alert.clone()).collect(),
        })
    }

    /// These were summed up. Returns where they came from.
    pub(super) fn release(&mut self, ids: &[AlertId], now: WallTime) -> Vec<Source> {
        let released: Vec<HeldAlert> = ids.iter().filter_map(|id| self.alerts.remove(id)).collect();
        // Where there were too many, the quiet time goes on.
        let ended = released.iter().map(|held| held.quiet.until).filter(|until| *until <= now).max();
        self.released = self.released.max(ended.unwrap_or(self.released));
        released.into_iter().map(|held| held.source).collect()
    }

    /// What a commit of the partition says of it; empty: nothing is held back.
    pub(super) fn metadata(&self, partition: Partition) -> String {
        let of = self.alerts.values().filter(|held| held.source.partition == partition);
        let Some(held_from) = of.map(|held| held.source.offset).min() else { return String::new() };
        let mark = Mark { held_from, released: self.released, settings: self.settings.clone() };
        // Numbers and hexadecimal digits.
        serde_json::to_string(&mark).unwrap_or_default()
    }

    /// Another member has these partitions.
    pub(super) fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.alerts.retain(|_, held| !partitions.contains(&held.source.partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::tests::{alert, explanation};
    use AlertState::{Early, Firing, Resolved, Withdrawn};

    const END: WallTime = WallTime(1_700_031_600_000); // 07:00 UTC after 22:13

    fn quiet(until: WallTime) -> Quiet {
        Quiet { until, name: "22:00–07:00 UTC".into() }
    }

    fn source(partition: u32, offset: i64) -> Source {
        let timestamp = WallTime(1_700_000_011_000 + offset);
        Source { partition: Partition(partition), offset: Offset(offset), timestamp, key: None, value: None }
    }

    #[test]
    fn sums_up_the_newest_of_each_alert_when_the_quiet_time_ends() {
        let mut held = Held::new(BTreeMap::new());
        held.hold(source(0, 7), &alert("mug", Early), quiet(END), true);
        held.hold(source(0, 8), &alert("pot", Early), quiet(END), true);
        held.hold(source(0, 9), &alert("cup", Resolved), quiet(END), false);
        held.update(&Alert { explanation: Some(explanation(9)), ..alert("mug", Firing) });
        held.update(&alert("mug", Resolved));
        held.update(&alert("jar", Firing));
        held.hold(source(0, 10), &alert("pot", Withdrawn), quiet(END), false);
        assert_eq!(held.due(WallTime(END.0 - 1)), None);
        let ids = held.due(END).unwrap();
        let summary = held.summary(&ids).unwrap();
        let shown: Vec<_> = summary.alerts.iter().map(|alert| (alert.key.as_str(), alert.state)).collect();
        assert_eq!(shown, [("mug", Resolved), ("cup", Resolved)], "pot was withdrawn before anybody knew");
        assert_eq!(summary.alerts[0].explanation, Some(explanation(9)));
        assert_eq!(held.metadata(Partition(1)), "");
        assert_eq!(Mark::parse(&held.metadata(Partition(0))).unwrap().held_from, Offset(7));
        assert_eq!(held.release(&ids, END).len(), 3);
        assert_eq!((held.due(END), held.metadata(Partition(0))), (None, String::new()));
    }

    #[test]
    fn a_mark_tells_a_successor_what_was_summed_up() {
        let mut held = Held::new(BTreeMap::new());
        held.hold(source(0, 7), &alert("mug", Early), quiet(WallTime(END.0 + 1)), true);
        held.hold(source(0, 8), &alert("pot", Early), quiet(END), true);
        let ids = held.due(END).unwrap();
        held.release(&ids, END);
        let mark = Mark::parse(&held.metadata(Partition(0))).unwrap();
        assert_eq!((mark.held_from, mark.released), (Offset(7), END));
        let changed = Mark { settings: "other".into(), ..mark };
        let next = Held::new(BTreeMap::new());
        let at = next.quiet_before(&changed, &alert("mug", Early), END).unwrap();
        assert!(at.until < END, "summed up at once");
    }

    #[test]
    fn too_many_are_summed_up_at_once() {
        let mut held = Held::new(BTreeMap::new());
        for n in 0..HELD_MAX {
            assert_eq!(held.due(WallTime(0)), None);
            held.hold(source(0, 1), &alert(&n.to_string(), Firing), quiet(END), true);
        }
        let ids = held.due(WallTime(0)).unwrap();
        assert_eq!((ids.len(), held.release(&ids, WallTime(0)).len()), (HELD_MAX, HELD_MAX));
        assert!(held.released < END, "what comes later is held back again");
    }
}

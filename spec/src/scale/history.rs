//! The recent observations of a stage.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::policy::{LONG, POLL, STALE};
use crate::units::{Offset, Partition, WallTime};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionName {
    /// The topic's full name.
    pub topic: CompactString,
    /// Which of its partitions.
    pub partition: Partition,
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of {}", self.partition, self.topic)
    }
}

/// The progress of a consumer group on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub name: PartitionName,
    /// The offset of its first record.
    pub start: Offset,
    /// The last stable offset.
    pub end: Offset,
    /// The committed offset; none if the group never committed.
    pub committed: Option<Offset>,
}

/// Where a group without committed offsets starts (Kafka's `auto.offset.reset`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// At the first record.
    #[default]
    Earliest,
    /// After the last record of the first observation.
    Latest,
}

/// One observation of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The work.
    pub work: Work,
    /// Whether the group is stable, that is, not rebalancing; true for a stage without a group.
    pub stable: bool,
    /// Mean utilisation of the ready replicas, 0 to 1; none if unknown.
    pub busy: Option<f64>,
}

/// The work of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Every partition of every topic it reads.
    Records(Vec<PartitionProgress>),
    /// A counter of requests served by all replicas together.
    Requests(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: WallTime,
    pub(super) points: Vec<Point>,
    pub(super) stable: bool,
    pub(super) busy: Option<f64>,
}

/// End offset and position of one partition at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) end: i64,
    pub(super) position: i64,
}

impl Point {
    pub(super) fn lag(self) -> u64 {
        (self.end - self.position).max(0).unsigned_abs()
    }
}

/// The observations of a stage over the last two minutes, newest last. Bounded: a sample a poll, a point a partition.
///
/// It restarts after a gap and when partitions are added or removed, because a rate across such a break would be wrong.
#[derive(Clone, Debug, Default)]
pub struct History {
    reset: Reset,
    first_ends: BTreeMap<PartitionName, i64>,
    names: Vec<PartitionName>,
    samples: VecDeque<Sample>,
    failed: Option<(WallTime, String)>,
}

impl History {
    /// A history without observations.
    #[must_use]
    pub fn new(reset: Reset) -> Self {
        Self { reset, ..Self::default() }
    }

    /// Adds an observation at `at`, later than all before.
    pub fn push(&mut self, at: WallTime, observation: Observation) {
        let (names, points) = match observation.work {
            Work::Records(partitions) => self.points(partitions),
            Work::Requests(served) => {
                let served = i64::try_from(served).unwrap_or(i64::MAX);
                (Vec::new(), vec![Point { end: served, position: served }])
            }
        };
        let broken = self.failed.take().is_some()
            || names != self.names
            || self.samples.back().is_some_and(|last| {
                let back = last.points.iter().zip(&points).any(|(old, new)| new.end < old.end);
                back || at <= last.at || at.since(last.at) > STALE
            });
        if broken {
            self.samples.clear();
        }
        self.names = names;
        self.samples.push_back(Sample { at, points, stable: observation.stable, busy: observation.busy });
        while self.samples.front().is_some_and(|first| at.since(first.at) > LONG + POLL) {
            self.samples.pop_front();
        }
    }

    /// Records that a poll failed: rates restart after it.
    pub fn fail(&mut self, at: WallTime, error: impl Into<String>) {
        self.failed = Some((at, error.into()));
    }

    fn points(&mut self, mut partitions: Vec<PartitionProgress>) -> (Vec<PartitionName>, Vec<Point>) {
        partitions.sort_by(|a, b| a.name.cmp(&b.name));
        self.first_ends.retain(|name, _| partitions.iter().any(|one| one.name == *name));
        let points = partitions.iter().map(|one| {
            let first_end = *self.first_ends.entry(one.name.clone()).or_insert(one.end.0);
            let begin = match self.reset {
                Reset::Earliest => one.start.0,
                Reset::Latest => first_end,
            };
            let position = one.committed.map_or(begin, |committed| committed.0).max(one.start.0);
            Point { end: one.end.0, position }
        });
        let points = points.collect();
        (partitions.into_iter().map(|one| one.name).collect(), points)
    }

    pub(super) fn names(&self) -> &[PartitionName] {
        &self.names
    }

    /// The newest sample, if it is not outdated at `now`; otherwise the reason.
    pub(super) fn fresh(&self, now: WallTime) -> Result<&Sample, String> {
        if let Some((at, error)) = &self.failed {
            return Err(format!("the poll {} s ago failed: {error}", now.since(*at).as_secs()));
        }
        let newest = self.samples.back().ok_or("not polled yet")?;
        let age = now.since(newest.at);
        if age > STALE { Err(format!("last polled {} s ago", age.as_secs())) } else { Ok(newest) }
    }

    /// The newest sample that is at least `window` older than the newest one; the oldest if the history is shorter.
    pub(super) fn before(&self, window: Duration) -> Option<&Sample> {
        let newest = self.samples.back()?;
        let from = newest.at.minus(window);
        self.samples.iter().rev().find(|sample| sample.at <= from).or(self.samples.front())
    }

    /// Mean utilisation since `from`; none if it is missing in a sample.
    pub(super) fn busy_since(&self, from: WallTime) -> Option<f64> {
        let values = self.samples.iter().filter(|sample| sample.at > from).map(|sample| sample.busy);
        let values: Vec<f64> = values.collect::<Option<_>>()?;
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }

    /// The sample before the newest one.
    pub(super) fn previous(&self) -> Option<&Sample> {
        self.samples.iter().rev().nth(1)
    }

    pub(super) fn newest(&self) -> Option<&Sample> {
        self.samples.back()
    }
}

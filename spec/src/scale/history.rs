//! What was seen of a stage, lately.

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

/// How far a consumer group is on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProgress {
    /// The partition.
    pub name: PartitionName,
    /// Its first record that still exists.
    pub start: Offset,
    /// The offset after its last stable record.
    pub end: Offset,
    /// The next record the group will read; none: it never committed.
    pub committed: Option<Offset>,
}

/// Where a group begins that never committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// At the first record there is.
    #[default]
    Earliest,
    /// After the last record there was when the stage was first seen.
    Latest,
}

/// One look at a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The work.
    pub work: Work,
    /// Whether the group is not rebalancing; true for a stage without a group.
    pub stable: bool,
    /// Share of their time for which the ready replicas did not wait for work, 0 to 1, the mean of them; none: unknown.
    pub busy: Option<f64>,
}

/// The work of a stage, as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Every partition of every topic it reads.
    Records(Vec<PartitionProgress>),
    /// Requests served since some beginning, all replicas together.
    Requests(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: WallTime,
    pub(super) points: Vec<Point>,
    pub(super) stable: bool,
    pub(super) busy: Option<f64>,
}

/// One partition at one time.
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

/// What was seen of a stage in the last two minutes, newest last. Bounded: a sample a poll, a point a partition.
///
/// It begins anew after a gap and when partitions come or go, because a rate across such a break would be none.
#[derive(Clone, Debug, Default)]
pub struct History {
    reset: Reset,
    first_ends: BTreeMap<PartitionName, i64>,
    names: Vec<PartitionName>,
    samples: VecDeque<Sample>,
    failed: Option<(WallTime, String)>,
}

impl History {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(reset: Reset) -> Self {
        Self { reset, ..Self::default() }
    }

    /// Adds what was seen at `at`, later than anything before.
    pub fn push(&mut self, at: WallTime, seen: Observation) {
        let (names, points) = match seen.work {
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
        self.samples.push_back(Sample { at, points, stable: seen.stable, busy: seen.busy });
        while self.samples.front().is_some_and(|first| at.since(first.at) > LONG + POLL) {
            self.samples.pop_front();
        }
    }

    /// Notes that a look failed, and why: rates begin anew after it.
    pub fn fail(&mut self, at: WallTime, why: impl Into<String>) {
        self.failed = Some((at, why.into()));
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

    /// The newest sample, if it still counts at `now`; otherwise why not.
    pub(super) fn fresh(&self, now: WallTime) -> Result<&Sample, String> {
        if let Some((at, why)) = &self.failed {
            return Err(format!("the look at it {} s ago failed: {why}", now.since(*at).as_secs()));
        }
        let newest = self.samples.back().ok_or("it was not looked at yet")?;
        let age = now.since(newest.at);
        if age > STALE { Err(format!("it was last looked at {} s ago", age.as_secs())) } else { Ok(newest) }
    }

    /// The newest sample at least `window` before the newest one; the oldest there is where history is shorter.
    pub(super) fn before(&self, window: Duration) -> Option<&Sample> {
        let newest = self.samples.back()?;
        let from = newest.at.minus(window);
        self.samples.iter().rev().find(|sample| sample.at <= from).or(self.samples.front())
    }

    /// How busy the replicas were since `from`, in the mean; none where they did not tell at every look.
    pub(super) fn busy_since(&self, from: WallTime) -> Option<f64> {
        let told = self.samples.iter().filter(|sample| sample.at > from).map(|sample| sample.busy);
        let told: Vec<f64> = told.collect::<Option<_>>()?;
        (!told.is_empty()).then(|| told.iter().sum::<f64>() / told.len() as f64)
    }

    /// The sample before the newest one.
    pub(super) fn previous(&self) -> Option<&Sample> {
        self.samples.iter().rev().nth(1)
    }

    pub(super) fn newest(&self) -> Option<&Sample> {
        self.samples.back()
    }
}

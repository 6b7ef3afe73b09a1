//! The state that is kept from one decision to the next.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{FIRST_RESCALE, MAX_RESCALE, MIN_SETTLE, POLL};
use crate::units::{Replicas, WallTime};

/// The state that is kept from one decision to the next. Opaque except for its public fields.
///
/// Serialised, it has the part that is kept over a restart, and changes only when a capacity is learned or a change is decided. The rest
/// is observed again within the stabilisation time, before which no replica is removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// The capacity of one replica; none if unknown.
    pub capacity: Option<Capacity>,
    /// The last change of replicas.
    pub last: Option<Scaling>,
    /// No replicas are added until its end, because the last ones did not raise the output.
    pub downstream: Option<Block>,
    /// How long the last changes took until every replica was ready and the group stable, newest last, at most three.
    pub rescales: VecDeque<Duration>,
    /// A number of replicas with which no replica had too many partitions.
    pub(super) crowded: Option<SpreadMinimum>,
    /// The sum of all end offsets when the stage was scaled to 0.
    pub(super) slept_at: Option<i64>,
    /// When replicas were removed last.
    pub(super) lowered: Option<WallTime>,

    #[serde(skip)]
    pub(super) rescaling: Option<WallTime>,
    #[serde(skip)]
    pub(super) trial: Option<Trial>,
    #[serde(skip)]
    pub(super) stable_since: Option<WallTime>,
    #[serde(skip)]
    pub(super) behind: u8,
    #[serde(skip)]
    pub(super) uneven: u8,
    #[serde(skip)]
    pub(super) trail: VecDeque<DemandSample>,
}

/// The capacity of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Records a second.
    pub records_per_second: f64,
    /// Whether it was measured at the limit or with a known utilisation; otherwise it is a lower bound.
    pub proven: bool,
}

/// A change of the number of replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// When it was decided.
    pub at: WallTime,
    /// From how many.
    pub from: Replicas,
    /// To how many.
    pub to: Replicas,
    /// The reason, as a sentence.
    pub reason: String,
}

/// A time without adding replicas.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Its end.
    pub until: WallTime,
    /// Its length; the next one is twice as long.
    pub length: Duration,
    /// Output in records per second when it began.
    pub output: f64,
}

/// A minimum of replicas, because with fewer one replica had too many partitions although the capacity sufficed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SpreadMinimum {
    /// The number that was needed.
    pub(super) needed: Replicas,
    /// The end of the minimum.
    pub(super) until: WallTime,
    /// Its length; the next one is twice as long.
    pub(super) length: Duration,
}

/// Replicas that were added for a backlog, until it is known whether they raise the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) from: Replicas,
    pub(super) to: Replicas,
    /// Output in records per second before.
    pub(super) output: f64,
    pub(super) capacity: Option<Capacity>,
}

/// The demand at one poll, for the rule that removes replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct DemandSample {
    pub(super) at: WallTime,
    /// Demand in records per second; none if the capacity of a replica was unknown.
    pub(super) demand: Option<f64>,
    pub(super) idle: bool,
}

impl Memory {
    /// How long a change takes: the maximum of the last three, 20 s at first.
    #[must_use]
    pub fn rescale_time(&self) -> Duration {
        self.rescales.iter().max().copied().unwrap_or(FIRST_RESCALE)
    }

    /// The minimum time between two changes.
    pub(super) fn settle(&self) -> Duration {
        self.rescale_time().max(MIN_SETTLE)
    }

    /// The remaining settle time.
    pub(super) fn settling(&self, now: WallTime) -> Duration {
        let since = self.last.as_ref().map_or(Duration::MAX, |last| now.since(last.at));
        self.settle().saturating_sub(since)
    }

    pub(super) fn blocked(&self, now: WallTime) -> Option<&Block> {
        self.downstream.as_ref().filter(|block| now < block.until)
    }

    /// Records a change that will be applied.
    pub(super) fn record_scaling(&mut self, at: WallTime, from: Replicas, to: Replicas, reason: String) {
        if to < from {
            self.lowered = Some(at);
        }
        self.last = Some(Scaling { at, from, to, reason });
        self.rescaling = Some(at);
        self.stable_since = None;
        self.behind = 0;
        self.uneven = 0;
    }

    /// Records whether all replicas are ready and the group is stable, and measures how long a change took.
    pub(super) fn record_stability(&mut self, now: WallTime, desired: Replicas, stable: bool) {
        if !stable {
            self.stable_since = None;
            return;
        }
        self.stable_since.get_or_insert(now);
        if let (Some(begun), Some(last)) = (self.rescaling, &self.last)
            && now > begun
        {
            self.rescaling = None;
            // Not after a change that somebody else made, nor after one to 0 replicas.
            if last.to == desired && last.to.0 > 0 {
                self.rescales.push_back(now.since(begun).min(MAX_RESCALE));
                while self.rescales.len() > 3 {
                    self.rescales.pop_front();
                }
            }
        }
    }

    /// Adds the demand of this poll to the trail, which covers `keep`.
    pub(super) fn push_demand(&mut self, sample: DemandSample, keep: Duration) {
        // After a gap, the time before does not count.
        if self.trail.back().is_some_and(|last| sample.at.since(last.at) > keep.max(4 * POLL)) {
            self.trail.clear();
        }
        self.trail.push_back(sample);
        while self.trail.get(1).is_some_and(|second| sample.at.since(second.at) >= keep) {
            self.trail.pop_front();
        }
    }

    /// Whether the trail covers `keep`; otherwise the missing time.
    pub(super) fn watched(&self, now: WallTime, keep: Duration) -> Result<(), Duration> {
        let covered = self.trail.front().map_or(Duration::ZERO, |first| now.since(first.at));
        if covered >= keep { Ok(()) } else { Err(keep - covered) }
    }
}

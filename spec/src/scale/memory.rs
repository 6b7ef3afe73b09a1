//! What the next decision must know of the earlier ones.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{FIRST_RESCALE, LEAST_SETTLE, LONGEST_RESCALE, POLL};
use crate::units::{Replicas, WallTime};

/// What the next decision must know of the earlier ones. Opaque but for what is public; keep it between calls.
///
/// Serialised, it holds what is worth keeping over a restart, and changes only when something was learnt or decided. The
/// rest is seen anew within the stabilisation time, before which nothing is taken away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// What one replica can do; none: not known yet.
    pub capacity: Option<Capacity>,
    /// The last change.
    pub last: Option<Scaling>,
    /// Until when adding replicas is held to be useless, because the last time it raised nothing.
    pub downstream: Option<Block>,
    /// How long the last changes took until every replica worked, newest last, at most three.
    pub rescales: VecDeque<Duration>,
    /// A count under which some worker was overloaded though the sum was fine.
    pub(super) crowded: Option<Crowded>,
    /// The ends of all partitions together when the stage was put to sleep.
    pub(super) slept_at: Option<i64>,
    /// When replicas were last taken away.
    pub(super) lowered: Option<WallTime>,

    #[serde(skip)]
    pub(super) rescaling: Option<WallTime>,
    #[serde(skip)]
    pub(super) trial: Option<Trial>,
    #[serde(skip)]
    pub(super) calm_since: Option<WallTime>,
    #[serde(skip)]
    pub(super) behind: u8,
    #[serde(skip)]
    pub(super) uneven: u8,
    #[serde(skip)]
    pub(super) trail: VecDeque<Mark>,
}

/// What one replica can do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Records a second.
    pub records_per_second: f64,
    /// Whether it was seen at its limit, or told how busy it was; otherwise it can do at least this.
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
    /// Why, in words.
    pub reason: String,
}

/// A time in which no replicas are added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Its end.
    pub until: WallTime,
    /// Its length; the next one is twice as long.
    pub length: Duration,
    /// Records a second that were worked off when it began.
    pub output: f64,
}

/// A count under which some worker was overloaded though the sum was fine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Crowded {
    /// The count that was needed then.
    pub(super) needed: Replicas,
    /// Until when it is kept.
    pub(super) until: WallTime,
    /// For how long; the next time twice as long.
    pub(super) length: Duration,
}

/// Replicas that were added for a backlog, until it is known whether they help.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) from: Replicas,
    pub(super) to: Replicas,
    /// Records a second worked off before.
    pub(super) output: f64,
    pub(super) capacity: Option<Capacity>,
}

/// One poll, as the rule for taking away remembers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) at: WallTime,
    /// Records a second of capacity that were asked for; none: it was not known how much a replica can do.
    pub(super) demand: Option<f64>,
    pub(super) idle: bool,
}

impl Memory {
    /// How long a change takes: the largest of the last three, 20 s at first.
    #[must_use]
    pub fn rescale_time(&self) -> Duration {
        self.rescales.iter().max().copied().unwrap_or(FIRST_RESCALE)
    }

    /// How long after a change the next may come.
    pub(super) fn settle(&self) -> Duration {
        self.rescale_time().max(LEAST_SETTLE)
    }

    /// What is left of the settle time.
    pub(super) fn settling(&self, now: WallTime) -> Duration {
        let since = self.last.as_ref().map_or(Duration::MAX, |last| now.since(last.at));
        self.settle().saturating_sub(since)
    }

    pub(super) fn blocked(&self, now: WallTime) -> Option<&Block> {
        self.downstream.as_ref().filter(|block| now < block.until)
    }

    /// Notes a change that will be carried out.
    pub(super) fn scaled(&mut self, at: WallTime, from: Replicas, to: Replicas, reason: String) {
        if to < from {
            self.lowered = Some(at);
        }
        self.last = Some(Scaling { at, from, to, reason });
        self.rescaling = Some(at);
        self.calm_since = None;
        self.behind = 0;
        self.uneven = 0;
    }

    /// Notes whether all replicas work and the group is stable, and measures how long a change took.
    pub(super) fn calm(&mut self, now: WallTime, wanted: Replicas, calm: bool) {
        if !calm {
            self.calm_since = None;
            return;
        }
        self.calm_since.get_or_insert(now);
        if let (Some(begun), Some(last)) = (self.rescaling, &self.last)
            && now > begun
        {
            self.rescaling = None;
            // Somebody else's change says nothing of ours, and to none there is nothing to wait for.
            if last.to == wanted && last.to.0 > 0 {
                self.rescales.push_back(now.since(begun).min(LONGEST_RESCALE));
                while self.rescales.len() > 3 {
                    self.rescales.pop_front();
                }
            }
        }
    }

    /// Adds this poll to the trail, which is as long as `keep`.
    pub(super) fn mark(&mut self, mark: Mark, keep: Duration) {
        // Where nothing was seen for long, the time before proves nothing.
        if self.trail.back().is_some_and(|last| mark.at.since(last.at) > keep.max(4 * POLL)) {
            self.trail.clear();
        }
        self.trail.push_back(mark);
        while self.trail.get(1).is_some_and(|second| mark.at.since(second.at) >= keep) {
            self.trail.pop_front();
        }
    }

    /// Whether the trail is as long as `keep`; otherwise what is missing.
    pub(super) fn watched(&self, now: WallTime, keep: Duration) -> Result<(), Duration> {
        let seen = self.trail.front().map_or(Duration::ZERO, |first| now.since(first.at));
        if seen >= keep { Ok(()) } else { Err(keep - seen) }
    }
}

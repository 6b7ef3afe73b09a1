//! What a stage is meant to do, and the numbers of the rule that nobody has to choose.

use std::time::Duration;

use super::schedule::Floor;
use crate::pipeline::{ScalingMode, ScalingSpec};
use crate::plan::StagePlan;
use crate::units::{Replicas, WallTime};

/// How often a stage is observed and decided on.
pub const POLL: Duration = Duration::from_secs(5);
/// How soon it is looked at again where one more look decides whether replicas are added.
pub const SECOND_LOOK: Duration = Duration::from_secs(3);
/// Age from which the newest observation no longer counts: two polls and the time one takes.
pub(super) const STALE: Duration = Duration::from_millis(12_500);
/// Window of the rates that follow a change.
pub(super) const SHORT: Duration = Duration::from_secs(30);
/// Window of the rates that outlast a wave.
pub(super) const LONG: Duration = Duration::from_secs(120);
/// Least time a rate is taken over: two polls, but for what timers are late.
pub(super) const LEAST: Duration = Duration::from_secs(9);
/// A delay up to this is no backlog.
pub(super) const NO_BACKLOG: Duration = Duration::from_secs(10);
/// Time without progress, with lag, after which a partition is stuck.
pub(super) const STUCK: Duration = Duration::from_secs(60);
/// Rescale time as long as none was measured.
pub(super) const FIRST_RESCALE: Duration = Duration::from_secs(20);
/// Least time between a change and the next.
pub(super) const LEAST_SETTLE: Duration = Duration::from_secs(15);
/// A rescale time that was measured longer than this says more about the cluster than about the next one.
pub(super) const LONGEST_RESCALE: Duration = Duration::from_secs(300);
/// Share of the newest value in the capacity's moving average.
pub(super) const SMOOTHING: f64 = 0.3;
/// Records of a partition that stay uncommitted for good: transaction markers.
pub(super) const RESIDUE: u64 = 2;
/// Looks running that must agree before replicas are added.
pub(super) const CONFIRM: u8 = 2;
/// First time for which no replicas are added after adding some raised nothing.
pub(super) const FIRST_BLOCK: Duration = Duration::from_secs(600);
/// Longest of these times, which double.
pub(super) const LONGEST_BLOCK: Duration = Duration::from_secs(4 * 3600);
/// Least share of the expected gain that counts as one.
pub(super) const LEAST_GAIN: f64 = 0.1;
/// Loss of throughput by a change that is taken back.
pub(super) const LOSS: f64 = 0.05;

/// Where a stage's work comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A consumer group's partitions.
    Topic {
        /// Partitions of its largest topic: more replicas than that would idle.
        partitions: u32,
    },
    /// Requests: there is no lag, only how busy the replicas are.
    Requests,
}

/// What a stage is meant to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) fixed: Replicas,
    pub(super) scaling: Option<ScalingSpec>,
    pub(super) floors: Vec<Floor>,
    pub(super) source: Source,
    pub(super) paused: bool,
}

impl Policy {
    /// The policy of a stage. `paused` is the whole pipeline's switch, for those stages that it stops.
    #[must_use]
    pub fn of(stage: &StagePlan, source: Source, paused: bool) -> Self {
        let scaling = stage.scaling.clone();
        // Validation has read every floor before.
        let floors = scaling.iter().flat_map(|scaling| &scaling.floors);
        let floors = floors.filter_map(|floor| Floor::of(floor).ok()).collect();
        Self { fixed: Replicas(stage.replicas), scaling, floors, source, paused }
    }

    /// How many a stage starts with, before anything was observed.
    #[must_use]
    pub fn initial(&self, now: WallTime) -> Replicas {
        match &self.scaling {
            _ if self.paused => Replicas(0),
            Some(scaling) if scaling.mode != ScalingMode::Off => {
                let (least, most) = self.bounds(scaling, now);
                self.fixed.clamp(least, most)
            }
            _ => self.fixed,
        }
    }

    /// The count within its bounds that is nearest to one that runs: until something was decided.
    #[must_use]
    pub fn within(&self, replicas: Replicas, now: WallTime) -> Replicas {
        match &self.scaling {
            Some(scaling) if !self.paused && scaling.mode != ScalingMode::Off => {
                let (least, most) = self.bounds(scaling, now);
                replicas.clamp(least, most)
            }
            _ => self.initial(now),
        }
    }

    /// Fewest and most replicas at `now`. Never more than partitions, whatever else is asked for.
    #[must_use]
    pub(super) fn bounds(&self, scaling: &ScalingSpec, now: WallTime) -> (Replicas, Replicas) {
        let useful = match self.source {
            Source::Topic { partitions } => partitions.max(1),
            Source::Requests => u32::MAX,
        };
        let most = scaling.max.max(1).min(useful);
        let floor = self.floor(now).map_or(0, |floor| floor.min.0);
        // Nothing would be seen of requests that nobody takes, so none would ever wake.
        let least = if self.source == Source::Requests { 1 } else { 0 };
        (Replicas(scaling.min.max(floor).max(least).min(most)), Replicas(most))
    }

    /// The highest floor that holds at `now`.
    pub(super) fn floor(&self, now: WallTime) -> Option<&Floor> {
        self.floors.iter().filter(|floor| floor.holds(now)).max_by_key(|floor| floor.min)
    }
}

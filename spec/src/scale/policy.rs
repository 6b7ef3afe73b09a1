//! The scaling policy of a stage, and the constants of the rule.

use std::time::Duration;

use super::schedule::Floor;
use crate::pipeline::{ScalingMode, ScalingSpec};
use crate::plan::{ScalingPlan, StagePlan};
use crate::units::{Replicas, WallTime};

/// How often a stage is observed and decided on.
pub const POLL: Duration = Duration::from_secs(5);
/// How soon it is polled again where the next poll must confirm that replicas are added.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(3);
/// Age from which the newest observation is outdated: two polls and the time that one takes.
pub(super) const STALE: Duration = Duration::from_millis(12_500);
/// Window of the rates that follow a change quickly.
pub(super) const SHORT: Duration = Duration::from_secs(30);
/// Window of the rates that average a wave.
pub(super) const LONG: Duration = Duration::from_secs(120);
/// Minimum window of a rate: two polls, less the delay of timers.
pub(super) const MIN_WINDOW: Duration = Duration::from_secs(9);
/// A delay up to this is no backlog.
pub(super) const NO_BACKLOG: Duration = Duration::from_secs(10);
/// Time without progress, with lag, after which a partition is stuck.
pub(super) const STUCK: Duration = Duration::from_secs(60);
/// Rescale time until one is measured.
pub(super) const FIRST_RESCALE: Duration = Duration::from_secs(20);
/// Minimum time between two changes.
pub(super) const MIN_SETTLE: Duration = Duration::from_secs(15);
/// Maximum of a measured rescale time: a longer one is a problem of the cluster and does not predict the next.
pub(super) const MAX_RESCALE: Duration = Duration::from_secs(300);
/// Weight of the newest value in the moving average of the capacity.
pub(super) const SMOOTHING: f64 = 0.3;
/// Offsets of a partition that are never committed: transaction markers.
pub(super) const RESIDUE: u64 = 2;
/// Consecutive polls that must agree before replicas are added.
pub(super) const CONFIRM: u8 = 2;
/// First time without adding replicas, after added ones did not raise the output.
pub(super) const FIRST_BLOCK: Duration = Duration::from_secs(600);
/// Maximum of this time, which doubles.
pub(super) const MAX_BLOCK: Duration = Duration::from_secs(4 * 3600);
/// Minimum share of the expected gain that counts as a gain.
pub(super) const MIN_GAIN: f64 = 0.1;
/// Loss of output for which a change is reverted.
pub(super) const LOSS: f64 = 0.05;

/// The source of a stage's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Partitions, read by a consumer group.
    Topic {
        /// Number of partitions of its largest topic: more replicas would be idle.
        partitions: u32,
    },
    /// Requests: there is no lag, only utilisation.
    Requests,
}

/// The scaling policy of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) fixed: Replicas,
    scaling: Option<ScalingPlan>,
    pub(super) source: Source,
    pub(super) paused: bool,
}

impl Policy {
    /// The policy of a stage. `paused` is `spec.paused`, for those stages that it stops.
    #[must_use]
    pub fn of(stage: &StagePlan, source: Source, paused: bool) -> Self {
        Self { fixed: Replicas(stage.replicas), scaling: stage.scaling.clone(), source, paused }
    }

    /// Its bounds and times; none: it runs a fixed number of replicas.
    pub(super) fn scaling(&self) -> Option<&ScalingSpec> {
        self.scaling.as_ref().map(ScalingPlan::spec)
    }

    /// The number of replicas before the first decision.
    #[must_use]
    pub fn initial(&self, now: WallTime) -> Replicas {
        match self.scaling() {
            _ if self.paused => Replicas(0),
            Some(scaling) if scaling.mode != ScalingMode::Off => {
                let (min, max) = self.bounds(scaling, now);
                self.fixed.clamp(min, max)
            }
            _ => self.fixed,
        }
    }

    /// The number within the bounds that is nearest to the current one: until the first decision.
    #[must_use]
    pub fn within(&self, replicas: Replicas, now: WallTime) -> Replicas {
        match self.scaling() {
            Some(scaling) if !self.paused && scaling.mode != ScalingMode::Off => {
                let (min, max) = self.bounds(scaling, now);
                replicas.clamp(min, max)
            }
            _ => self.initial(now),
        }
    }

    /// Minimum and maximum at `now`. Never more than partitions, whatever the spec requests.
    #[must_use]
    pub(super) fn bounds(&self, scaling: &ScalingSpec, now: WallTime) -> (Replicas, Replicas) {
        let useful = match self.source {
            Source::Topic { partitions } => partitions.max(1),
            Source::Requests => u32::MAX,
        };
        let max = scaling.max.max(1).min(useful);
        let floor = self.floor(now).map_or(0, |floor| floor.min.0);
        // Without a replica no request is observed, so nothing would start one again.
        let always = if self.source == Source::Requests { 1 } else { 0 };
        (Replicas(scaling.min.max(floor).max(always).min(max)), Replicas(max))
    }

    /// The active floor with the highest minimum at `now`.
    pub(super) fn floor(&self, now: WallTime) -> Option<&Floor> {
        let floors = self.scaling.iter().flat_map(ScalingPlan::floors);
        floors.filter(|floor| floor.is_active(now)).max_by_key(|floor| floor.min)
    }
}

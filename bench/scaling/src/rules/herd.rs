//! Herd's own rule: the function that runs in production.

use std::time::Duration;

use herd_spec::pipeline::{ScalingSpec, Span};
use herd_spec::plan::{ScalingPlan, StagePlan};
use herd_spec::scale::{
    CONFIRM_AFTER, Decision, History, Memory, Observation, POLL, PartitionName, PartitionProgress, Pods,
    Policy, Reset, Source, Work, decide,
};
use herd_spec::units::{Offset, Partition, Replicas, WallTime};

use super::Rule;
use crate::stage::{Look, Place};
use crate::trace::Trace;

/// Herd's own rule.
pub struct Herd {
    policy: Policy,
    history: History,
    memory: Memory,
    says: String,
    /// The last decision.
    pub last: Option<Decision>,
    /// Whether the replicas tell how busy they are.
    pub busy: bool,
}

impl Herd {
    /// With the settings a pipeline has that says nothing but `min` and `max`.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        Self::with(trace, ScalingSpec::default())
    }

    /// For less delay and less spare.
    #[must_use]
    pub fn tuned(trace: &Trace) -> Self {
        let (catch_up, stabilisation) = (Span::secs(30), Span::secs(180));
        Self::with(trace, ScalingSpec { catch_up, stabilisation, utilisation: 0.8, ..ScalingSpec::default() })
    }

    /// With settings, except for `min` and `max`, which are the trace's.
    #[must_use]
    pub fn with(trace: &Trace, scaling: ScalingSpec) -> Self {
        let scaling = ScalingSpec { min: trace.min, max: trace.max, ..scaling };
        // It has no floors, so there is nothing in it that could be invalid.
        let scaling = ScalingPlan::try_from(scaling).ok();
        let stage = StagePlan { replicas: trace.replicas, scaling, resources: Default::default() };
        Self {
            policy: Policy::of(&stage, Source::Topic { partitions: trace.partitions() }, false),
            history: History::new(Reset::Earliest),
            memory: Memory::default(),
            says: String::new(),
            last: None,
            busy: true,
        }
    }
}

impl Rule for Herd {
    fn replicas(&mut self, look: &Look) -> Option<u32> {
        let since_poll = look.now % POLL.as_secs();
        let unconfirmed = self.last.as_ref().is_some_and(Decision::needs_confirmation);
        if since_poll != 0 && !(unconfirmed && since_poll == CONFIRM_AFTER.as_secs()) {
            return None;
        }
        let now = WallTime(0).plus(Duration::from_secs(look.now));
        match &look.partitions {
            Some(places) => {
                let partitions = places.iter().enumerate().map(|(index, place)| progress(index, *place));
                let work = Work::Records(partitions.collect());
                let busy = look.busy.filter(|_| self.busy);
                self.history.push(now, Observation { work, stable: look.stable, busy });
            }
            None => self.history.fail(now, "the broker does not answer"),
        }
        let pods = Pods { desired: Replicas(look.wanted), ready: Replicas(look.ready) };
        let decision = decide(&self.policy, &self.history, pods, &self.memory, now);
        self.memory = decision.memory.clone();
        self.says = decision.sentence(pods);
        let replicas = decision.replicas.0;
        self.last = Some(decision);
        Some(replicas)
    }

    fn says(&self) -> String {
        self.says.clone()
    }
}

fn progress(index: usize, place: Place) -> PartitionProgress {
    let offset = |count: u64| Offset(i64::try_from(count).unwrap_or(i64::MAX));
    let partition = Partition(u32::try_from(index).unwrap_or(u32::MAX));
    PartitionProgress {
        name: PartitionName { topic: "shop.events".into(), partition },
        start: Offset(0),
        end: offset(place.end),
        committed: Some(offset(place.committed)),
    }
}

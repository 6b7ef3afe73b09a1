//! The rule: which question decides first, and the number of replicas.

use std::time::Duration;

use super::capacity;
use super::history::History;
use super::memory::{DemandSample, Memory, SpreadMinimum, Trial};
use super::policy::{
    CONFIRM, FIRST_BLOCK, MAX_BLOCK, MAX_RESCALE, MIN_WINDOW, NO_BACKLOG, Policy, RESIDUE, SHORT, Source,
};
use super::reason::{Finding, Reason, replicas};
use super::signals::{Signals, rates};
use super::target::{Demand, align, effective, fit};
use super::trial::{self, TrialResult};
use crate::pipeline::{ScalingMode, ScalingSpec};
use crate::units::{Replicas, WallTime};

/// The current replicas of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// `spec.replicas` of its Deployment.
    pub desired: Replicas,
    /// How many are ready.
    pub ready: Replicas,
}

/// How many replicas a stage should have, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The number to apply; the current one where nothing changes.
    pub replicas: Replicas,
    /// The number that would be applied with `mode: Auto`: differs from `replicas` with `mode: Recommend`.
    pub recommended: Replicas,
    /// The reason.
    pub reason: Reason,
    /// Problems that scaling cannot solve.
    pub findings: Vec<Finding>,
    /// Whether the decision is made from fresh data (the condition `ScalingActive`).
    pub active: bool,
    /// The numbers that it is made from; none before the second poll.
    pub signals: Option<Signals>,
    /// The memory for the next decision.
    pub memory: Memory,
}

impl Decision {
    /// Whether replicas are added if another poll confirms it: that need not wait for the regular one.
    #[must_use]
    pub fn needs_confirmation(&self) -> bool {
        matches!(self.reason, Reason::Confirming { .. }) && self.memory.behind < CONFIRM
    }

    /// The decision in one sentence: `3 → 6 replicas: input 5,407 records/s exceeds capacity 4,515 records/s`.
    #[must_use]
    pub fn sentence(&self, pods: Pods) -> String {
        let (now, reason) = (pods.desired, &self.reason);
        if *reason == Reason::Fixed {
            format!("fixed at {}: {reason}", replicas(self.replicas))
        } else if self.recommended == now {
            format!("keeping {}: {reason}", replicas(now))
        } else if self.replicas == self.recommended {
            format!("{now} → {}: {reason}", replicas(self.replicas))
        } else {
            format!("{now} → {} recommended: {reason}", replicas(self.recommended))
        }
    }
}

/// Decides how many replicas a stage should have.
///
/// - `policy`: the scaling policy, from the plan.
/// - `history`: the recent observations.
/// - `pods`: its replicas at `now`.
/// - `memory`: that of the decision before; the default at first.
/// - `now`: the time of the newest observation, or later.
///
/// The decision is within `min` and `max` and never above the number of partitions. It is the current number where data is missing or
/// the group is not stable, and the fixed number where the stage has no `scaling`.
#[must_use]
pub fn decide(policy: &Policy, history: &History, pods: Pods, memory: &Memory, now: WallTime) -> Decision {
    let mut memory = memory.clone();
    let signals = history.fresh(now).ok().and_then(|_| Signals::of(history));
    let active = policy.scaling().is_some_and(|scaling| scaling.mode != ScalingMode::Off)
        && !policy.paused
        && history.fresh(now).is_ok();
    let (recommended, reason) = match policy.scaling() {
        _ if policy.paused => (Replicas(0), Reason::Paused),
        None => (policy.fixed, Reason::Fixed),
        Some(scaling) if scaling.mode == ScalingMode::Off => (pods.desired, Reason::Off),
        Some(scaling) => {
            let signals = signals.as_ref();
            Evaluation { policy, scaling, history, pods, now, signals, memory: &mut memory }.run()
        }
    };
    let only_recommended = policy.scaling().is_some_and(|scaling| scaling.mode == ScalingMode::Recommend);
    let replicas = if only_recommended && !policy.paused { pods.desired } else { recommended };
    if replicas != pods.desired {
        memory.record_scaling(now, pods.desired, replicas, reason.to_string());
        // The end offsets are those of the processed records only if the stage was scaled to 0 for lack of work.
        memory.slept_at = match (&reason, history.newest()) {
            (Reason::Sleep { .. }, Some(newest)) => Some(newest.points.iter().map(|point| point.end).sum()),
            _ => None,
        };
    } else {
        memory.trial = memory.trial.filter(|trial| trial.to == pods.desired);
    }
    let findings = signals.as_ref().map_or_else(Vec::new, |signals| findings(&memory, signals, policy, now));
    Decision { replicas, recommended, reason, findings, active, signals, memory }
}

/// A number of replicas, and its reason.
type Target = (Replicas, Reason);

/// The inputs of one decision.
struct Evaluation<'a> {
    policy: &'a Policy,
    scaling: &'a ScalingSpec,
    history: &'a History,
    pods: Pods,
    now: WallTime,
    signals: Option<&'a Signals>,
    memory: &'a mut Memory,
}

impl Evaluation<'_> {
    fn run(mut self) -> Target {
        let bounds = self.policy.bounds(self.scaling, self.now);
        let stable = match self.history.fresh(self.now) {
            Ok(newest) => newest.stable,
            Err(error) => {
                return self.out_of_bounds(bounds).unwrap_or((self.pods.desired, Reason::NoData { error }));
            }
        };
        let all_ready = self.pods.ready == self.pods.desired;
        self.memory.record_stability(self.now, self.pods.desired, stable && all_ready);
        if self.pods.desired.0 == 0 {
            return self.wake(bounds);
        }
        let Some(signals) = self.signals else {
            return self.out_of_bounds(bounds).unwrap_or((self.pods.desired, Reason::Gathering));
        };
        capacity::learn(self.memory, self.history, signals, self.pods.ready, self.now);
        self.record_demand(signals);
        let trial = trial::evaluate(self.memory, self.history, signals, self.policy.source, self.now);
        if let Some(target) = self.out_of_bounds(bounds) {
            return target;
        }
        if let TrialResult::Back { to, before, after } = trial {
            return (to.clamp(bounds.0, bounds.1), Reason::GoBack { before, after });
        }
        if let Some((wanted, reason)) = self.up(signals, bounds) {
            return self.add(signals, wanted, reason, bounds, stable);
        }
        self.memory.behind = 0;
        self.down(signals, bounds, stable)
    }

    /// A number outside the bounds is corrected without any data.
    fn out_of_bounds(&self, (min, max): (Replicas, Replicas)) -> Option<Target> {
        let now = self.pods.desired;
        if now > max {
            Some((max, Reason::AboveMax { max }))
        } else if now < min {
            let floor = self.policy.floor(self.now).filter(|floor| floor.min.0 > self.scaling.min);
            Some((min, Reason::BelowMin { min, floor: floor.map(ToString::to_string) }))
        } else {
            None
        }
    }

    fn demand(&self) -> Option<Demand<'_>> {
        let capacity = self.memory.capacity?.records_per_second;
        (capacity > 0.0).then_some(Demand { scaling: self.scaling, source: self.policy.source, capacity })
    }

    /// Records the demand for the rule that removes replicas.
    fn record_demand(&mut self, signals: &Signals) {
        let demand = self.demand().map(|demand| demand.as_is(signals));
        let sample = DemandSample { at: self.now, demand, idle: signals.idle() };
        self.memory.push_demand(sample, self.scaling.stabilisation.0);
    }

    /// No replica runs: starts as many as needed as soon as there is work.
    fn wake(&self, bounds: (Replicas, Replicas)) -> Target {
        let Some(newest) = self.history.newest() else { return (Replicas(0), Reason::Gathering) };
        let lags = || newest.points.iter().map(|point| point.lag());
        let lag: u64 = lags().sum();
        let has_input = match (self.memory.slept_at, self.history.previous()) {
            (Some(end), _) => newest.points.iter().map(|point| point.end).sum::<i64>() > end,
            (None, Some(before)) => rates(before, newest, |point| point.end) > 0.0,
            (None, None) => false,
        };
        let floor = self.out_of_bounds(bounds);
        if !has_input && !lags().any(|lag| lag > RESIDUE) {
            return floor.unwrap_or((Replicas(0), Reason::Asleep));
        }
        let wanted = self.demand().map_or(Replicas(1), |demand| {
            // The newest rate alone: input has only just begun.
            let input =
                self.history.previous().map_or(0.0, |before| rates(before, newest, |point| point.end));
            let rescale = self.memory.rescale_time().as_secs_f64();
            let catch_up = self.scaling.catch_up.0.as_secs_f64();
            let waiting = lag as f64 + input * rescale;
            demand.replicas(input / self.scaling.utilisation + waiting / catch_up)
        });
        let wanted = fit(wanted, self.policy.source, self.scaling, bounds).max(Replicas(1));
        match floor {
            Some(floor) if floor.0 >= wanted => floor,
            _ if self.scaling.pause_up => floor.unwrap_or((Replicas(0), Reason::PausedUp { wanted })),
            _ => (wanted, Reason::Wake { lag }),
        }
    }

    /// The number of replicas if more are needed.
    fn up(&mut self, signals: &Signals, bounds: (Replicas, Replicas)) -> Option<Target> {
        let (now, source) = (self.pods.desired, self.policy.source);
        // A capacity that is not proven is a lower bound: without a backlog, an input above it is no reason to add replicas.
        let proven = self.memory.capacity.is_some_and(|capacity| capacity.proven);
        let Some(demand) = self.demand().filter(|_| proven || !signals.no_backlog()) else {
            let backlog = !signals.no_backlog() && !self.drains(signals);
            let doubled = Replicas(now.0.saturating_mul(2));
            return backlog.then_some((doubled, Reason::Doubling { lag: signals.lag }));
        };
        let reason = match source {
            Source::Topic { .. } => self.falls_behind(signals, demand.capacity),
            Source::Requests => self.too_busy(signals, demand.capacity * f64::from(now.0)),
        };
        if let Some(reason) = reason {
            let mut wanted = demand.replicas(demand.to_add(signals, self.memory.rescale_time()));
            if source == Source::Requests && signals.busy.is_some_and(|busy| busy >= 0.95) {
                // Rejected requests are not counted.
                wanted = wanted.max(Replicas(now.0.saturating_mul(2)));
            }
            let wanted = fit(wanted, source, self.scaling, (bounds.0, Replicas(u32::MAX)));
            if wanted > now {
                return Some((wanted, reason));
            }
        }
        self.uneven(signals)
    }

    /// Whether the capacity of all replicas together is too low.
    fn falls_behind(&self, signals: &Signals, capacity: f64) -> Option<Reason> {
        let possible = effective(self.pods.desired, self.policy.source) * capacity;
        // More replicas do not help a partition whose input exceeds the capacity of one.
        let helped = || signals.partitions.iter().filter(|one| !one.stuck);
        let input: f64 = helped().map(|one| one.input.min(capacity)).sum();
        let lag: u64 = helped().filter(|one| one.recent < capacity).map(|one| one.lag).sum();
        // Replicas that are not busy have a higher capacity than known.
        let spare = signals.no_backlog() && signals.busy.is_some_and(|busy| busy < self.max_busy());
        if possible <= input {
            return (!spare).then_some(Reason::Input { input, capacity: possible });
        }
        let catch_up = self.scaling.catch_up.0;
        let drain = lag as f64 / (possible - input);
        (drain > catch_up.as_secs_f64()).then(|| Reason::Backlog {
            lag,
            drain: Duration::try_from_secs_f64(drain).ok(),
            catch_up,
        })
    }

    /// Whether replicas that serve requests have less headroom than they should.
    fn too_busy(&self, signals: &Signals, possible: f64) -> Option<Reason> {
        let busy = signals.busy?.max(signals.recent / possible).min(1.0);
        (busy > self.max_busy()).then_some(Reason::Busy { busy })
    }

    /// The utilisation from which replicas are too busy: half of the headroom is used.
    fn max_busy(&self) -> f64 {
        (1.0 + self.scaling.utilisation) / 2.0
    }

    /// Whether the lag falls fast enough.
    fn drains(&self, signals: &Signals) -> bool {
        let drain = signals.lag as f64 / (signals.output - signals.recent).max(0.0);
        drain <= self.scaling.catch_up.0.as_secs_f64()
    }

    /// Whether one replica has too many partitions: one of them has fallen behind for three polls, although its input is below the
    /// capacity of a replica.
    fn uneven(&mut self, signals: &Signals) -> Option<Target> {
        let Source::Topic { partitions } = self.policy.source else { return None };
        let capacity = self.memory.capacity?.records_per_second;
        let catch_up = self.scaling.catch_up.0.as_secs_f64();
        let late = signals.partitions.iter().filter(|one| {
            let worth_it = one.lag as f64 > capacity;
            !one.stuck && one.recent < capacity && one.behind() && worth_it && one.drain() > catch_up
        });
        let Some(worst) = late.max_by_key(|one| one.lag) else {
            self.memory.uneven = 0;
            return None;
        };
        self.memory.uneven = self.memory.uneven.saturating_add(1);
        let next = align(Replicas(self.pods.desired.0 + 1), self.policy.source, self.scaling);
        (self.memory.uneven >= 3 && next.0 <= partitions)
            .then(|| (next, Reason::Uneven { partition: worst.name.clone(), lag: worst.lag }))
    }

    /// More are needed: limits the step, and checks that nothing prevents the change now.
    fn add(
        &mut self,
        signals: &Signals,
        wanted: Replicas,
        reason: Reason,
        bounds: (Replicas, Replicas),
        stable: bool,
    ) -> Target {
        let now = self.pods.desired;
        let keep = |reason| (now, reason);
        let step = Replicas(now.0.saturating_mul(2).max(now.0.saturating_add(4)));
        let step = align(step, self.policy.source, self.scaling);
        let wanted = fit(wanted.min(step), self.policy.source, self.scaling, bounds);
        self.memory.behind = self.memory.behind.saturating_add(1);
        if wanted <= now {
            let max = bounds.1;
            return keep(Reason::AtMost { max, lag: signals.lag, delay: signals.delay });
        }
        if let Some(reason) = self.transition(stable) {
            return keep(reason);
        }
        if self.scaling.pause_up {
            return keep(Reason::PausedUp { wanted });
        }
        if let Some(block) = self.memory.blocked(self.now) {
            return keep(Reason::DownstreamBound { left: trial::left(block, self.now) });
        }
        // The running trial shows whether more replicas help.
        if self.memory.behind < CONFIRM || self.memory.trial.is_some() {
            return keep(Reason::Confirming { wanted });
        }
        if self.scaling.mode != ScalingMode::Auto {
            // A recommendation has no effect to measure.
        } else if matches!(reason, Reason::Uneven { .. }) {
            self.keep_spread(wanted);
        } else {
            // The current output: the rate over 30 s includes time before the change.
            let lately = self.history.before(MIN_WINDOW).zip(self.history.newest());
            let lately = lately.map_or(0.0, |(from, to)| rates(from, to, |point| point.position));
            let (output, capacity) = (signals.output.max(lately), self.memory.capacity);
            self.memory.trial = Some(Trial { from: now, to: wanted, output, capacity });
        }
        (wanted, reason)
    }

    /// Keeps a number that was needed to spread the partitions, longer each time it is needed again.
    fn keep_spread(&mut self, needed: Replicas) {
        let length = self.memory.crowded.map_or(FIRST_BLOCK, |crowded| (2 * crowded.length).min(MAX_BLOCK));
        self.memory.crowded = Some(SpreadMinimum { needed, until: self.now.plus(length), length });
    }

    /// The transition that prevents a change for now.
    fn transition(&self, stable: bool) -> Option<Reason> {
        let Pods { desired, ready } = self.pods;
        let left = self.memory.settling(self.now);
        if ready != desired {
            Some(Reason::NotReady { ready, desired })
        } else if !stable {
            Some(Reason::Rebalancing)
        } else {
            (!left.is_zero()).then_some(Reason::Settling { left })
        }
    }

    /// Whether replicas may be removed during a transition: when others do not become ready, if enough are ready, or if they have not for
    /// long. Otherwise replicas that the cluster has no room for would never be removed.
    fn may_remove_during(&self, transition: &Reason, wanted: Replicas) -> bool {
        let given_up = self.memory.last.as_ref().is_none_or(|last| self.now.since(last.at) > MAX_RESCALE);
        matches!(transition, Reason::NotReady { .. }) && (self.pods.ready >= wanted || given_up)
    }

    /// Removes replicas, if fewer were enough for all of the stabilisation time.
    fn down(&mut self, signals: &Signals, bounds: (Replicas, Replicas), stable: bool) -> Target {
        let now = self.pods.desired;
        let keep = self.scaling.stabilisation.0;
        let possible = self.demand().map(|demand| demand.capacity * f64::from(now.0));
        let steady = Reason::Steady { input: signals.recent, capacity: possible, delay: signals.delay };
        let (wanted, reason) = self.fewer(signals, bounds);
        if wanted >= now || !signals.no_backlog() {
            return (now, steady);
        }
        if self.scaling.pause_down {
            return (now, Reason::PausedDown { wanted });
        }
        let transition = self.transition(stable);
        if let Some(reason) = transition.filter(|reason| !self.may_remove_during(reason, wanted)) {
            return (now, reason);
        }
        let since = |at: Option<WallTime>| at.map_or(Duration::MAX, |at| self.now.since(at));
        let lowered = keep.saturating_sub(since(self.memory.lowered));
        // The rates follow a step with a delay: the effect of the last change is not in them yet.
        let changed = SHORT.saturating_sub(since(self.memory.last.as_ref().map(|last| last.at)));
        let missing = self.memory.watched(self.now, keep).err().unwrap_or_default();
        let left = missing.max(lowered).max(changed);
        if left.is_zero() { (wanted, reason) } else { (now, Reason::Stabilising { wanted, left }) }
    }

    /// The number for the highest demand of the stabilisation time, at least half of the current one.
    fn fewer(&self, signals: &Signals, bounds: (Replicas, Replicas)) -> Target {
        let (now, source) = (self.pods.desired, self.policy.source);
        let watched = self.scaling.stabilisation.0;
        let idle = self.memory.trail.iter().all(|sample| sample.idle);
        if now.0 == 1 && bounds.0.0 == 0 && idle {
            return (Replicas(0), Reason::Sleep { watched });
        }
        let half = Replicas(now.0.div_ceil(2));
        let crowded = self.memory.crowded.filter(|crowded| self.now < crowded.until);
        let floor = half.max(crowded.map_or(Replicas(0), |crowded| crowded.needed));
        let known = self.memory.capacity.filter(|capacity| capacity.proven).and_then(|_| self.demand());
        let Some(demand) = known else {
            let wanted = fit(floor, source, self.scaling, (bounds.0.max(Replicas(1)), bounds.1));
            return (wanted, if idle { spare(signals, watched) } else { Reason::Probe { watched } });
        };
        let highest = self.memory.trail.iter().filter_map(|sample| sample.demand).fold(0.0, f64::max);
        let wanted = demand.replicas(highest).max(floor);
        let wanted = fit(wanted, source, self.scaling, (bounds.0.max(Replicas(1)), bounds.1));
        (wanted, spare(signals, watched))
    }
}

fn spare(signals: &Signals, watched: Duration) -> Reason {
    Reason::Spare { input: signals.recent, watched }
}

fn findings(memory: &Memory, signals: &Signals, policy: &Policy, now: WallTime) -> Vec<Finding> {
    let mut found = Vec::new();
    let capacity = memory.capacity.filter(|capacity| capacity.proven);
    for one in &signals.partitions {
        let Some(partition) = one.name.clone() else { continue };
        if one.stuck {
            found.push(Finding::StuckPartition { partition, lag: one.lag });
        } else if let (Some(capacity), Source::Topic { .. }) = (capacity, policy.source)
            && one.recent > capacity.records_per_second
            && one.behind()
        {
            let capacity = capacity.records_per_second;
            found.push(Finding::HotPartition { partition, input: one.recent, capacity });
        }
    }
    if let Some(block) = memory.blocked(now)
        && signals.delay.is_none_or(|delay| delay > NO_BACKLOG)
    {
        let left = trial::left(block, now);
        found.push(Finding::DownstreamBound { output: block.output, left });
    }
    found
}

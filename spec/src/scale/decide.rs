//! The order of the questions.

use std::time::Duration;

use super::capacity;
use super::history::History;
use super::memory::{Crowded, Mark, Memory, Trial};
use super::policy::{
    CONFIRM, FIRST_BLOCK, LEAST, LONGEST_BLOCK, LONGEST_RESCALE, NO_BACKLOG, Policy, RESIDUE, SHORT, Source,
};
use super::reason::{Finding, Reason};
use super::signals::{Signals, rates};
use super::target::{Demand, align, effective, fit};
use super::trial::{self, Outcome};
use crate::pipeline::{ScalingMode, ScalingSpec};
use crate::units::{Replicas, WallTime};

/// The replicas of a stage, as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pods {
    /// How many are asked for (`spec.replicas`).
    pub wanted: Replicas,
    /// How many are ready.
    pub ready: Replicas,
}

/// How many replicas a stage should have, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to ask for; the present count where nothing is to be done.
    pub replicas: Replicas,
    /// What would be asked for if decisions were carried out: differs from `replicas` under `mode: Recommend`.
    pub recommended: Replicas,
    /// Why.
    pub reason: Reason,
    /// What scaling cannot put right.
    pub findings: Vec<Finding>,
    /// Whether decisions are made on fresh data (the condition `ScalingActive`).
    pub active: bool,
    /// The numbers behind it; none: there were not enough yet.
    pub signals: Option<Signals>,
    /// To be given to the next call.
    pub memory: Memory,
}

impl Decision {
    /// Whether replicas are added if the next look agrees: it need not wait for the next poll.
    #[must_use]
    pub fn wants_another_look(&self) -> bool {
        matches!(self.reason, Reason::Confirming { .. }) && self.memory.behind < CONFIRM
    }

    /// The decision in one sentence: `3 → 6: 12,000 records wait, …`.
    #[must_use]
    pub fn sentence(&self, pods: Pods) -> String {
        if self.recommended == pods.wanted {
            format!("{} stay: {}", pods.wanted, self.reason)
        } else if self.replicas == self.recommended {
            format!("{} → {}: {}", pods.wanted, self.replicas, self.reason)
        } else {
            format!("{} → {} recommended: {}", pods.wanted, self.recommended, self.reason)
        }
    }
}

/// Decides how many replicas a stage should have.
///
/// - `policy`: what was asked for, from the plan.
/// - `history`: what was seen of it lately.
/// - `pods`: its replicas at `now`.
/// - `memory`: that of the decision before; the default at first.
/// - `now`: the time the newest observation was made, or later.
///
/// The answer lies within `min` and `max`, never above the number of partitions, and is the present count wherever data is
/// missing or the group is not at rest. Where scaling is not asked for, it is the fixed count.
#[must_use]
pub fn decide(policy: &Policy, history: &History, pods: Pods, memory: &Memory, now: WallTime) -> Decision {
    let mut memory = memory.clone();
    let signals = history.fresh(now).ok().and_then(|_| Signals::of(history));
    let active = policy.scaling.as_ref().is_some_and(|scaling| scaling.mode != ScalingMode::Off)
        && !policy.paused
        && history.fresh(now).is_ok();
    let (recommended, reason) = match &policy.scaling {
        _ if policy.paused => (Replicas(0), Reason::Paused),
        None => (policy.fixed, Reason::Fixed),
        Some(scaling) if scaling.mode == ScalingMode::Off => (pods.wanted, Reason::Off),
        Some(scaling) => {
            let signals = signals.as_ref();
            Stage { policy, scaling, history, pods, now, signals, memory: &mut memory }.verdict()
        }
    };
    let only_told = policy.scaling.as_ref().is_some_and(|scaling| scaling.mode == ScalingMode::Recommend);
    let replicas = if only_told && !policy.paused { pods.wanted } else { recommended };
    if replicas != pods.wanted {
        memory.scaled(now, pods.wanted, replicas, reason.to_string());
        // Only who went to sleep by itself knows up to where everything was done.
        memory.slept_at = match (&reason, history.newest()) {
            (Reason::Sleep { .. }, Some(newest)) => Some(newest.points.iter().map(|point| point.end).sum()),
            _ => None,
        };
    } else {
        memory.trial = memory.trial.filter(|trial| trial.to == pods.wanted);
    }
    let findings = signals.as_ref().map_or_else(Vec::new, |signals| findings(&memory, signals, policy, now));
    Decision { replicas, recommended, reason, findings, active, signals, memory }
}

type Verdict = (Replicas, Reason);

/// Everything a verdict is made of.
struct Stage<'a> {
    policy: &'a Policy,
    scaling: &'a ScalingSpec,
    history: &'a History,
    pods: Pods,
    now: WallTime,
    signals: Option<&'a Signals>,
    memory: &'a mut Memory,
}

impl Stage<'_> {
    fn verdict(mut self) -> Verdict {
        let bounds = self.policy.bounds(self.scaling, self.now);
        let stable = match self.history.fresh(self.now) {
            Ok(newest) => newest.stable,
            Err(why) => return self.outside(bounds).unwrap_or((self.pods.wanted, Reason::NoData { why })),
        };
        let calm = stable && self.pods.ready == self.pods.wanted;
        self.memory.calm(self.now, self.pods.wanted, calm);
        if self.pods.wanted.0 == 0 {
            return self.asleep(bounds);
        }
        let Some(signals) = self.signals else {
            return self.outside(bounds).unwrap_or((self.pods.wanted, Reason::Gathering));
        };
        capacity::learn(self.memory, self.history, signals, self.pods.ready, self.now);
        self.remember(signals);
        let outcome = trial::judge(self.memory, self.history, signals, self.policy.source, self.now);
        if let Some(verdict) = self.outside(bounds) {
            return verdict;
        }
        if let Outcome::Back { to, before, after } = outcome {
            return (to.clamp(bounds.0, bounds.1), Reason::GoBack { before, after });
        }
        if let Some((wanted, reason)) = self.up(signals, bounds) {
            return self.add(signals, wanted, reason, bounds, stable);
        }
        self.memory.behind = 0;
        self.down(signals, bounds, stable)
    }

    /// A count outside its bounds is put right whatever the data says.
    fn outside(&self, (least, most): (Replicas, Replicas)) -> Option<Verdict> {
        let now = self.pods.wanted;
        if now > most {
            Some((most, Reason::AboveMax { most }))
        } else if now < least {
            let floor = self.policy.floor(self.now).filter(|floor| floor.min.0 > self.scaling.min);
            Some((least, Reason::BelowMin { least, floor: floor.map(ToString::to_string) }))
        } else {
            None
        }
    }

    fn demand(&self) -> Option<Demand<'_>> {
        let capacity = self.memory.capacity?.records_per_second;
        (capacity > 0.0).then_some(Demand { scaling: self.scaling, source: self.policy.source, capacity })
    }

    /// What the rule for taking away will look back on.
    fn remember(&mut self, signals: &Signals) {
        let demand = self.demand().map(|demand| demand.as_is(signals));
        let mark = Mark { at: self.now, demand, idle: signals.idle() };
        self.memory.mark(mark, self.scaling.stabilisation.0);
    }

    /// Nothing runs: wake as soon as there is something to do, with as many as it takes.
    fn asleep(&self, bounds: (Replicas, Replicas)) -> Verdict {
        let Some(newest) = self.history.newest() else { return (Replicas(0), Reason::Gathering) };
        let lags = || newest.points.iter().map(|point| point.lag());
        let lag: u64 = lags().sum();
        let come = match (self.memory.slept_at, self.history.previous()) {
            (Some(end), _) => newest.points.iter().map(|point| point.end).sum::<i64>() > end,
            (None, Some(before)) => rates(before, newest, |point| point.end) > 0.0,
            (None, None) => false,
        };
        let floor = self.outside(bounds);
        if !come && !lags().any(|lag| lag > RESIDUE) {
            return floor.unwrap_or((Replicas(0), Reason::Asleep));
        }
        let wanted = self.demand().map_or(Replicas(1), |demand| {
            // The newest rate alone: records have only just begun to come.
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

    /// Whether more are needed, how many, and why.
    fn up(&mut self, signals: &Signals, bounds: (Replicas, Replicas)) -> Option<Verdict> {
        let (now, source) = (self.pods.wanted, self.policy.source);
        // What was only seen to be done is no limit: where nothing waits, more coming in than before is no reason yet.
        let proven = self.memory.capacity.is_some_and(|capacity| capacity.proven);
        let Some(demand) = self.demand().filter(|_| proven || !signals.no_backlog()) else {
            let backlog = !signals.no_backlog() && !self.drains(signals);
            let doubled = Replicas(now.0.saturating_mul(2));
            return backlog.then_some((doubled, Reason::Doubling { lag: signals.lag }));
        };
        let reason = match source {
            Source::Topic { .. } => self.behind(signals, demand.capacity),
            Source::Requests => self.too_busy(signals, demand.capacity * f64::from(now.0)),
        };
        if let Some(reason) = reason {
            let mut wanted = demand.replicas(demand.to_add(signals, self.memory.rescale_time()));
            if source == Source::Requests && signals.busy.is_some_and(|busy| busy >= 0.95) {
                // What was turned away is not seen.
                wanted = wanted.max(Replicas(now.0.saturating_mul(2)));
            }
            let wanted = fit(wanted, source, self.scaling, (bounds.0, Replicas(u32::MAX)));
            if wanted > now {
                return Some((wanted, reason));
            }
        }
        self.uneven(signals)
    }

    /// Whether all replicas together do too little.
    fn behind(&self, signals: &Signals, capacity: f64) -> Option<Reason> {
        let possible = effective(self.pods.wanted, self.policy.source) * capacity;
        // A partition that is too hot for one replica cannot be helped by more of them.
        let helped = || signals.partitions.iter().filter(|one| !one.stuck);
        let input: f64 = helped().map(|one| one.input.min(capacity)).sum();
        let lag: u64 = helped().filter(|one| one.recent < capacity).map(|one| one.lag).sum();
        // Replicas with time to spare do more than was thought.
        let spare = signals.no_backlog() && signals.busy.is_some_and(|busy| busy < self.too_much());
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

    /// Whether replicas that serve requests have less room than they should.
    fn too_busy(&self, signals: &Signals, possible: f64) -> Option<Reason> {
        let busy = signals.busy?.max(signals.recent / possible).min(1.0);
        (busy > self.too_much()).then_some(Reason::Busy { busy })
    }

    /// From here on replicas are too busy: half of what is to be kept free is gone.
    fn too_much(&self) -> f64 {
        (1.0 + self.scaling.utilisation) / 2.0
    }

    /// Whether what waits becomes less, fast enough.
    fn drains(&self, signals: &Signals) -> bool {
        let drain = signals.lag as f64 / (signals.output - signals.recent).max(0.0);
        drain <= self.scaling.catch_up.0.as_secs_f64()
    }

    /// Whether one worker has too many partitions: for three polls, one of them falls behind that need not.
    fn uneven(&mut self, signals: &Signals) -> Option<Verdict> {
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
        let next = align(Replicas(self.pods.wanted.0 + 1), self.policy.source, self.scaling);
        (self.memory.uneven >= 3 && next.0 <= partitions)
            .then(|| (next, Reason::Uneven { partition: worst.name.clone(), lag: worst.lag }))
    }

    /// More are needed: as many at once as is wise, if nothing speaks against it now.
    fn add(
        &mut self,
        signals: &Signals,
        wanted: Replicas,
        reason: Reason,
        bounds: (Replicas, Replicas),
        stable: bool,
    ) -> Verdict {
        let now = self.pods.wanted;
        let stay = |reason| (now, reason);
        let step = Replicas(now.0.saturating_mul(2).max(now.0.saturating_add(4)));
        let step = align(step, self.policy.source, self.scaling);
        let wanted = fit(wanted.min(step), self.policy.source, self.scaling, bounds);
        self.memory.behind = self.memory.behind.saturating_add(1);
        if wanted <= now {
            let most = bounds.1;
            return stay(Reason::AtMost { most, lag: signals.lag, delay: signals.delay });
        }
        if let Some(rest) = self.unrest(stable) {
            return stay(rest);
        }
        if self.scaling.pause_up {
            return stay(Reason::PausedUp { wanted });
        }
        if let Some(block) = self.memory.blocked(self.now) {
            return stay(Reason::DownstreamBound { left: trial::left(block, self.now) });
        }
        // Whether the last ones helped decides whether more would.
        if self.memory.behind < CONFIRM || self.memory.trial.is_some() {
            return stay(Reason::Confirming { wanted });
        }
        if self.scaling.mode != ScalingMode::Auto {
            // What is only told has no effect to learn from.
        } else if matches!(reason, Reason::Uneven { .. }) {
            self.crowd(wanted);
        } else {
            // As it is now: the rate over half a minute still has part of the time before.
            let lately = self.history.before(LEAST).zip(self.history.newest());
            let lately = lately.map_or(0.0, |(from, to)| rates(from, to, |point| point.position));
            let (output, capacity) = (signals.output.max(lately), self.memory.capacity);
            self.memory.trial = Some(Trial { from: now, to: wanted, output, capacity });
        }
        (wanted, reason)
    }

    /// Keeps a count that was needed for its spread, longer each time it is needed again.
    fn crowd(&mut self, needed: Replicas) {
        let length =
            self.memory.crowded.map_or(FIRST_BLOCK, |crowded| (2 * crowded.length).min(LONGEST_BLOCK));
        self.memory.crowded = Some(Crowded { needed, until: self.now.plus(length), length });
    }

    /// What keeps a stage from being changed at all, for now.
    fn unrest(&self, stable: bool) -> Option<Reason> {
        let Pods { wanted, ready } = self.pods;
        let left = self.memory.settling(self.now);
        if ready != wanted {
            Some(Reason::NotReady { ready, wanted })
        } else if !stable {
            Some(Reason::Rebalancing)
        } else {
            (!left.is_zero()).then_some(Reason::Settling { left })
        }
    }

    /// Whether replicas that do not get ready keep others from going: not if those that are ready are as many as shall stay, and
    /// not for ever, or they would run on where there is no room for all.
    fn bears(&self, rest: &Reason, wanted: Replicas) -> bool {
        let given_up = self.memory.last.as_ref().is_none_or(|last| self.now.since(last.at) > LONGEST_RESCALE);
        matches!(rest, Reason::NotReady { .. }) && (self.pods.ready >= wanted || given_up)
    }

    /// Whether fewer have been enough for long.
    fn down(&mut self, signals: &Signals, bounds: (Replicas, Replicas), stable: bool) -> Verdict {
        let now = self.pods.wanted;
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
        if let Some(rest) = self.unrest(stable).filter(|rest| !self.bears(rest, wanted)) {
            return (now, rest);
        }
        let since = |at: Option<WallTime>| at.map_or(Duration::MAX, |at| self.now.since(at));
        let lowered = keep.saturating_sub(since(self.memory.lowered));
        // The rates looked back on follow a step with delay: what has just been added is not yet in them.
        let changed = SHORT.saturating_sub(since(self.memory.last.as_ref().map(|last| last.at)));
        let missing = self.memory.watched(self.now, keep).err().unwrap_or_default();
        let left = missing.max(lowered).max(changed);
        if left.is_zero() { (wanted, reason) } else { (now, Reason::Stabilising { wanted, left }) }
    }

    /// The highest need of the stabilisation time, at most half as few as there are.
    fn fewer(&self, signals: &Signals, bounds: (Replicas, Replicas)) -> Verdict {
        let (now, source) = (self.pods.wanted, self.policy.source);
        let watched = self.scaling.stabilisation.0;
        let idle = self.memory.trail.iter().all(|mark| mark.idle);
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
        let highest = self.memory.trail.iter().filter_map(|mark| mark.demand).fold(0.0, f64::max);
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

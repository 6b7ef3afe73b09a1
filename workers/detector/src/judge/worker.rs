//! A member of the judge group: reads parts, fires early at once, and every emit interval closes what can be closed, emits
//! provisional values, then (once windows and alerts are acknowledged) saves the baselines, then (once these are) commits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herd_bus::{Bus, BusError, Consumer, Membership, Outgoing, Producer, Record};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, Start, TakeOver};
use herd_spec::plan::Plan;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{Alert, Fingerprint, PartRecord, metric_key};
use herd_stage::Clock;

use super::output::{Output, ReadOutcome, Saved};
use super::partition::JudgePartition;
use super::review::{self, Review};
use super::watch::{Index, Watched};
use crate::DetectorError;
use crate::commit::Position;
use crate::metrics::JudgeMetrics;
use crate::outbox::{CYCLE_PATIENCE, Outbox};
use crate::partitioner::judge_of;

/// Records of one fetch, at most.
const FETCH_MAX: usize = 8_192;
/// How long the broker may take with the ends of partitions, and with the baselines of one partition between two records.
const SCAN_PATIENCE: Duration = Duration::from_secs(30);

/// Header of a tombstone in `baselines`: the newest closed window when the key was forgotten.
const FORGOTTEN_AT: &str = "herd.forgotten-at";

/// What a member of the judge group does.
pub struct Judge<B: Bus, C> {
    bus: B,
    outputs: Outputs<B::Producer>,
    clock: C,
    pipeline: String,
    watched: Vec<Arc<Watched>>,
    /// See [`Watched::rules`].
    rules: Fingerprint,
    /// How many partitions `parts` has.
    judge_count: u32,
    partitions: BTreeMap<Partition, Owned>,
    interval: Duration,
    next_tick: WallTime,
    /// Whether the last cycle left windows open that could be closed.
    is_behind: bool,
    /// The time of the fetch under way.
    now: WallTime,
    phase: Phase,
}

struct Owned {
    state: JudgePartition,
    /// Whether open alerts may be left of other rules.
    review: Option<Review>,
}

/// Where a cycle stands: records go out in this order, each kind once the one before it is acknowledged.
enum Phase {
    Reading,
    /// It is to begin.
    Due,
    /// Windows and alerts are under way, and what detectors know of all keys together.
    Outputs(Commits),
    /// Baselines are under way.
    Baselines(Commits),
}

impl<B: Bus, C: Clock> Judge<B, C> {
    /// Joins the group.
    ///
    /// # Errors
    /// If the bus refuses, or `baselines` and `parts` do not have the same number of partitions.
    pub fn join(
        plan: &Plan,
        bus: &B,
        clock: C,
        member: &str,
        counters: JudgeMetrics,
    ) -> Result<Member<Self>, DetectorError> {
        let topics = Topics {
            windows: plan.topics.windows.name.clone(),
            alerts: plan.topics.alerts.name.clone(),
            baselines: plan.topics.baselines.name.clone(),
        };
        let topic = &plan.topics.parts.name;
        let (parts, baselines) = (bus.partitions(topic)?, bus.partitions(&topics.baselines)?);
        if parts != baselines {
            return Err(DetectorError::Bus(BusError::Refused {
                doing: format!("reading {topic} and {}", topics.baselines),
                why: format!(
                    "they have {parts} and {baselines} partitions and must have the same number: delete both topics, or create a pipeline with another name and another `topicPrefix`"
                ),
            }));
        }
        let watched = Watched::all(plan);
        let membership = Membership::Group { group: &plan.groups.judge, instance: Some(member) };
        let consumer = bus.consumer(topic, membership)?;
        let outbox = Outbox::new(bus.producer(&format!("{member}-judge"))?);
        let waiting = counters.waiting.clone();
        watched.iter().for_each(|watched| counters.watch(watched));
        let now = clock.now();
        let judge = Self {
            outputs: Outputs { outbox, topics, counters },
            bus: bus.clone(),
            pipeline: plan.pipeline.to_string(),
            rules: Watched::rules(&watched),
            watched,
            judge_count: parts,
            interval: plan.emit_interval(),
            next_tick: now.plus(plan.emit_interval()),
            is_behind: false,
            now,
            partitions: BTreeMap::new(),
            phase: Phase::Reading,
            clock: clock.clone(),
        };
        Ok(Member::new(consumer, judge, clock, Some(waiting)))
    }
}

impl<B: Bus, C: Clock> Processor for Judge<B, C> {
    type Consumer = B::Consumer;
    type Clock = C;
    type Error = DetectorError;

    fn bus_error(&self, error: BusError) -> DetectorError {
        error.into()
    }

    fn demand(&mut self, wait: Duration) -> Option<Demand> {
        if self.is_busy() {
            return None;
        }
        self.now = self.clock.now();
        if std::mem::take(&mut self.is_behind) {
            // Many windows close one cycle after the other: a look in between is how the member hears of a rebalance.
            return Some(Demand { limit: 1, wait: Duration::ZERO, idle: false });
        }
        if self.now >= self.next_tick {
            self.next_tick = self.now.plus(self.interval);
            self.phase = Phase::Due;
            return None;
        }
        Some(Demand { limit: FETCH_MAX, wait: wait.min(self.next_tick.since(self.now)), idle: true })
    }

    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, DetectorError> {
        let mut starts = Vec::with_capacity(partitions.len());
        let mut disowned: BTreeMap<String, usize> = BTreeMap::new();
        let ends = assignment.consumer().end_offsets(partitions, SCAN_PATIENCE)?;
        for (partition, commit) in assignment.consumer().committed(partitions)? {
            let mut position = commit.as_ref().map_or(Position::START, Position::of);
            if ends.iter().any(|(of, end)| *of == partition && position.next > *end) {
                tracing::warn!(%partition, next = %position.next, "the committed offset is beyond the end of the partition, because the topic was recreated or lost records: reading from its start");
                (position.next, position.replay_from) = (Offset(0), Offset(0));
            }
            let state = self.resume(partition, &position)?;
            for (metric, count) in state.disowned() {
                *disowned.entry(metric).or_default() += count;
            }
            let review =
                commit.as_ref().and_then(|_| Review::needed(position.rules, self.rules, self.clock.now()));
            self.partitions.insert(partition, Owned { state, review });
            let (from, committed) = (position.replay_from, commit.map(|_| position.to_commit()));
            starts.push(Start { partition, from, committed });
        }
        for (metric, count) in disowned {
            tracing::warn!(
                metric,
                count,
                "baselines deleted, because the metric has another definition, or the metric or its detectors were removed; detectors \
                 alert again after their warmup"
            );
        }
        Ok(TakeOver::Begin(starts))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), DetectorError> {
        let Some(owned) = self.partitions.get_mut(&record.partition) else { return Ok(()) };
        let (partition, offset) = (record.partition, record.offset);
        self.outputs.counters.part();
        let part = match record.value.map(PartRecord::parse) {
            Some(Ok(part)) => part,
            Some(Err(error)) => {
                owned.state.skip(offset);
                self.outputs.counters.malformed(partition, offset, &error.to_string());
                return Ok(());
            }
            None => {
                owned.state.skip(offset);
                return Ok(());
            }
        };
        let (outputs, now) = (&mut self.outputs, self.now);
        match owned.state.read(offset, &part, now, &mut |output| outputs.send(now, output))? {
            ReadOutcome::Taken => {}
            ReadOutcome::Late => self.outputs.counters.late_part(),
            ReadOutcome::Unknown => {
                let why = "it is of a metric that this pipeline does not have, or damaged";
                self.outputs.counters.malformed(partition, offset, why);
            }
        }
        Ok(())
    }

    fn advance(
        &mut self,
        _assignment: &mut Assignment<Self>,
        wait: Duration,
    ) -> Result<Commits, DetectorError> {
        match std::mem::replace(&mut self.phase, Phase::Reading) {
            Phase::Reading => {}
            Phase::Due => self.begin_cycle()?,
            Phase::Outputs(commits) if self.outputs.outbox.settled(wait)? => {
                self.save_baselines()?;
                self.phase = Phase::Baselines(commits);
            }
            Phase::Baselines(commits) if self.outputs.outbox.settled(wait)? => return Ok(commits),
            unsettled => self.phase = unsettled,
        }
        Ok(Vec::new())
    }

    fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Outputs(_) | Phase::Baselines(_))
    }

    fn flush(
        &mut self,
        _assignment: &mut Assignment<Self>,
        _why: Flush<'_>,
    ) -> Result<Commits, DetectorError> {
        // Never a second cycle on top of one that is under way: a successor that judges again what was not saved finds what was known
        // then for the windows of one cycle.
        if !self.is_busy() {
            self.begin_cycle()?;
        }
        Ok(Vec::new())
    }

    fn patience(&self) -> Duration {
        CYCLE_PATIENCE
    }

    fn overdue(&mut self) -> Result<(), DetectorError> {
        Err(DetectorError::Slow { what: "windows, alerts and baselines" })
    }

    fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.partitions.retain(|partition, _| !partitions.contains(partition));
    }
}

impl<B: Bus, C: Clock> Judge<B, C> {
    /// The state of a partition at `position`, with its baselines.
    fn resume(&self, partition: Partition, position: &Position) -> Result<JudgePartition, DetectorError> {
        let mut state = JudgePartition::resume(&self.pipeline, position, &self.watched)
            .watching_totals(partition, self.judge_count);
        let mut records = 0_u64;
        self.bus.scan(&self.outputs.topics.baselines, partition, SCAN_PATIENCE, &mut |record| {
            let Some(key) = record.key else { return };
            state.recall(key, record.value, forgotten_at(record));
            records += 1;
        })?;
        tracing::info!(%partition, from = %position.replay_from, next = %position.next, records, "taking over a partition of parts and its baselines");
        Ok(state)
    }

    fn begin_cycle(&mut self) -> Result<(), DetectorError> {
        let now = self.clock.now();
        self.review(now)?;
        let mut commits = Vec::new();
        let (mut open_keys, mut baselines) = (0, 0);
        let mut activities = vec![Vec::new(); self.watched.len()];
        let mut is_behind = false;
        for (partition, owned) in &mut self.partitions {
            let outputs = &mut self.outputs;
            let mut out = |output: Output<'_>| outputs.send(now, output);
            owned.state.resolve_disowned(&mut out)?;
            let closed = owned.state.close(&mut out)?;
            owned.state.emit_provisional(&mut out)?;
            owned.state.save_populations(|key, saved| outputs.save(*partition, now, key, &saved))?;
            outputs.counters.closed(closed);
            is_behind |= owned.state.is_behind();
            let mut position = owned.state.position();
            position.rules = owned.review.map_or(Some(self.rules), |review| review.committed());
            commits.push((*partition, position.to_commit()));
            let (open, remembered) = owned.state.holds();
            open_keys += open;
            baselines += remembered;
            for (activities, activity) in activities.iter_mut().zip(owned.state.take_activity()) {
                activities.push(activity);
            }
        }
        if is_behind {
            self.next_tick = now; // more windows can close as soon as these are saved
        }
        self.is_behind = is_behind;
        self.outputs.counters.holds(open_keys, baselines);
        for (watched, activities) in self.watched.iter().zip(&activities) {
            self.outputs.counters.activity(watched, activities);
        }
        self.phase = Phase::Outputs(commits);
        Ok(())
    }

    /// Has the open alerts looked through where the rules were changed.
    fn review(&mut self, now: WallTime) -> Result<(), DetectorError> {
        let is_due = |owned: &Owned| owned.review.is_some_and(|review| review.is_due(now));
        if !self.partitions.values().any(is_due) {
            return Ok(());
        }
        let open = review::open_alerts(&self.bus, &self.outputs.topics.alerts, SCAN_PATIENCE)?;
        for (partition, owned) in self.partitions.iter_mut().filter(|(_, owned)| is_due(owned)) {
            let is_ours = |alert: &&Alert| {
                judge_of(&metric_key(&alert.metric, &alert.key), self.judge_count) == *partition
            };
            for alert in open.iter().filter(is_ours) {
                owned.state.review(alert.clone());
            }
            owned.review = owned.review.and_then(|review| review.next(now));
        }
        Ok(())
    }

    fn save_baselines(&mut self) -> Result<(), DetectorError> {
        let now = self.clock.now();
        for (partition, owned) in &mut self.partitions {
            owned.state.save(|key, saved| self.outputs.save(*partition, now, key, &saved))?;
        }
        Ok(())
    }
}

/// Where what a judge produces goes.
struct Outputs<P> {
    outbox: Outbox<P>,
    topics: Topics,
    counters: JudgeMetrics,
}

struct Topics {
    windows: String,
    alerts: String,
    baselines: String,
}

impl<P: Producer> Outputs<P> {
    fn send(&mut self, now: WallTime, output: Output<'_>) -> Result<(), DetectorError> {
        let record = |topic, key| Outgoing {
            topic,
            partition: None,
            key: Some(key),
            value: None,
            timestamp: now,
            headers: &[],
        };
        match output {
            Output::Window(window) => {
                let key = metric_key(&window.metric, &window.key);
                self.outbox.send(record(&self.topics.windows, key.as_slice()), |out| window.write(out))
            }
            Output::Alert(alert) => {
                self.counters.alert(&alert);
                self.outbox.send(record(&self.topics.alerts, alert.id.0.as_bytes()), |out| alert.write(out))
            }
        }
    }

    fn save(
        &mut self,
        partition: Partition,
        now: WallTime,
        key: &[u8],
        saved: &Saved<'_>,
    ) -> Result<(), DetectorError> {
        let to = Outgoing {
            topic: &self.topics.baselines,
            partition: Some(partition),
            key: Some(key),
            value: None,
            timestamp: now,
            headers: &[],
        };
        match saved {
            Saved::Kept(record) => self.outbox.send(to, |out| out.extend_from_slice(record)),
            Saved::Forgotten(at) => {
                let at = at.to_string();
                self.outbox.forget(Outgoing { headers: &[(FORGOTTEN_AT, at.as_bytes())], ..to })
            }
        }
    }
}

/// When a tombstone says its key was forgotten; one without our header (written by hand) means for good.
fn forgotten_at(tombstone: &Record<'_>) -> Index {
    let header = tombstone.headers.iter().find(|(name, _)| *name == FORGOTTEN_AT);
    header.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(Index::MAX)
}

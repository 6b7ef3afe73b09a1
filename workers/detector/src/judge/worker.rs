//! A member of the judge group: reads parts, fires early at once, and every emit interval says running values, closes what
//! can be closed, then (once windows and alerts are acknowledged) saves the baselines, then (once these are) commits.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_bus::{Bus, BusError, Change, Consumer, Membership, Outgoing, Record};
use herd_spec::plan::Plan;
use herd_spec::units::{Partition, WallTime};
use herd_spec::wire::{Alert, Definition, PartRecord, metric_key};
use herd_stage::Clock;

use super::docket::{Docket, Heard, Output, Saved};
use super::review::{self, Review};
use super::watch::{Index, Watched};
use crate::DetectorError;
use crate::commit::Position;
use crate::metrics::JudgeMetrics;
use crate::outbox::Outbox;
use crate::partition::judge_of;

/// Records of one fetch, at most.
const FETCH_LIMIT: usize = 8_192;
/// How long the broker may take with the baselines of one partition, between two records.
const SCAN_PATIENCE: Duration = Duration::from_secs(30);

/// Header of a tombstone in `baselines`: the newest closed window when the key was forgotten.
const FORGOTTEN_AT: &str = "herd.forgotten-at";

/// A member of the judge group.
pub struct Judge<B: Bus, C> {
    bus: B,
    consumer: B::Consumer,
    outbox: Outbox<B::Producer>,
    clock: C,
    pipeline: String,
    watched: Vec<Watched>,
    /// See [`Watched::rules`].
    rules: Definition,
    /// How many partitions `parts` has.
    judge_count: u32,
    topics: Topics,
    counters: JudgeMetrics,
    dockets: BTreeMap<Partition, Owned>,
    interval: Duration,
    next_tick: WallTime,
    phase: Phase,
}

struct Topics {
    parts: String,
    windows: String,
    alerts: String,
    baselines: String,
}

struct Owned {
    docket: Docket,
    committed: Option<Position>,
    /// Whether open alerts may be left of other rules.
    review: Option<Review>,
}

/// Where a cycle stands: records go out in this order, each kind once the one before it is acknowledged.
enum Phase {
    Reading,
    /// Windows and alerts are under way.
    Outputs(Vec<(Partition, Position)>),
    /// Baselines are under way.
    Baselines(Vec<(Partition, Position)>),
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
    ) -> Result<Self, DetectorError> {
        let topics = Topics {
            parts: plan.topics.parts.name.clone(),
            windows: plan.topics.windows.name.clone(),
            alerts: plan.topics.alerts.name.clone(),
            baselines: plan.topics.baselines.name.clone(),
        };
        let (parts, baselines) = (bus.partitions(&topics.parts)?, bus.partitions(&topics.baselines)?);
        if parts != baselines {
            return Err(DetectorError::Bus(BusError::Refused {
                doing: format!("reading {} and {}", topics.parts, topics.baselines),
                why: format!(
                    "they have {parts} and {baselines} partitions and must have the same number: create both anew"
                ),
            }));
        }
        let watched = Watched::all(plan);
        let membership = Membership::Group { group: &plan.groups.judge, instance: Some(member) };
        Ok(Self {
            consumer: bus.consumer(&topics.parts, membership)?,
            outbox: Outbox::new(bus.producer(&format!("{member}-judge"))?),
            bus: bus.clone(),
            pipeline: plan.pipeline.to_string(),
            rules: Watched::rules(&watched),
            watched,
            judge_count: parts,
            interval: plan.emit_interval(),
            next_tick: clock.now().plus(plan.emit_interval()),
            dockets: BTreeMap::new(),
            phase: Phase::Reading,
            clock,
            topics,
            counters,
        })
    }

    /// Does the next thing, waiting at most `wait` for something to do.
    ///
    /// # Errors
    /// What stops the stage; it starts again from its commit.
    pub fn step(&mut self, wait: Duration) -> Result<(), DetectorError> {
        match std::mem::replace(&mut self.phase, Phase::Reading) {
            Phase::Reading => self.read(wait),
            Phase::Outputs(positions) => {
                if self.outbox.settled(wait)? {
                    self.save_baselines()?;
                    self.phase = Phase::Baselines(positions);
                } else {
                    self.phase = Phase::Outputs(positions);
                }
                Ok(())
            }
            Phase::Baselines(positions) => {
                if self.outbox.settled(wait)? {
                    self.commit(&positions)?;
                } else {
                    self.phase = Phase::Baselines(positions);
                }
                Ok(())
            }
        }
    }

    /// Finishes what is under way and leaves the group.
    ///
    /// # Errors
    /// If that fails; a successor then replays a little more.
    pub fn finish(mut self) -> Result<(), DetectorError> {
        self.settle_cycle()?;
        self.begin_cycle()?;
        self.settle_cycle()?;
        self.consumer.close();
        Ok(())
    }

    fn read(&mut self, wait: Duration) -> Result<(), DetectorError> {
        let now = self.clock.now();
        if now >= self.next_tick {
            self.next_tick = now.plus(self.interval);
            return self.begin_cycle();
        }
        let wait = wait.min(self.next_tick.since(now));
        let mut failed = None;
        let (dockets, watched, counters) = (&mut self.dockets, &self.watched, &self.counters);
        let (outbox, topics, clock) = (&mut self.outbox, &self.topics, &self.clock);
        let (begun, mut found) = (clock.instant(), None);
        let fetched = self.consumer.fetch(wait, FETCH_LIMIT, |record| {
            found.get_or_insert_with(|| clock.instant());
            let Some(owned) = dockets.get_mut(&record.partition) else { return };
            counters.part();
            match record.value.map(PartRecord::parse) {
                Some(Ok(part)) => {
                    let mut out =
                        |output: Output<'_>| send(outbox, topics, counters, now, output, &mut failed);
                    match owned.docket.read(record.offset, &part, watched, now, &mut out) {
                        Heard::Taken => {}
                        Heard::Late => counters.late_part(),
                        Heard::Unknown => {
                            counters.malformed(
                                record.partition,
                                record.offset,
                                "it is of a metric that this pipeline does not have, or damaged",
                            );
                        }
                    }
                }
                Some(Err(error)) => {
                    owned.docket.skip(record.offset);
                    counters.malformed(record.partition, record.offset, &error.to_string());
                }
                None => owned.docket.skip(record.offset),
            }
        })?;
        counters.waiting.waited(begun, found.unwrap_or_else(|| clock.instant()));
        if let Some(error) = failed {
            return Err(error);
        }
        for change in fetched.changes {
            self.reassign(change)?;
        }
        Ok(())
    }

    fn reassign(&mut self, change: Change) -> Result<(), DetectorError> {
        match change {
            Change::Assigned(partitions) => self.take_over(&partitions),
            Change::Revoked(partitions) => {
                self.begin_cycle()?;
                match self.settle_cycle() {
                    Err(DetectorError::Bus(BusError::NotOwner { .. })) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
                self.drop_dockets(&partitions)
            }
            Change::Lost(partitions) => self.drop_dockets(&partitions),
        }
    }

    fn drop_dockets(&mut self, partitions: &[Partition]) -> Result<(), DetectorError> {
        for partition in partitions {
            self.dockets.remove(partition);
        }
        Ok(self.consumer.release(partitions)?)
    }

    fn take_over(&mut self, partitions: &[Partition]) -> Result<(), DetectorError> {
        let mut from = Vec::with_capacity(partitions.len());
        let mut disowned: BTreeMap<String, usize> = BTreeMap::new();
        for (partition, commit) in self.consumer.committed(partitions)? {
            let position = commit.as_ref().map_or(Position::START, Position::of);
            let mut docket = Docket::resume(&self.pipeline, &position, &self.watched);
            let mut records = 0_u64;
            let watched = &self.watched;
            self.bus.scan(&self.topics.baselines, partition, SCAN_PATIENCE, &mut |record| {
                let Some(key) = record.key else { return };
                docket.recall(key, record.value, forgotten_at(record), watched);
                records += 1;
            })?;
            tracing::info!(%partition, from = %position.replay_from, next = %position.next, records, "taking over a partition of parts and its baselines");
            for (metric, count) in docket.disowned() {
                *disowned.entry(metric).or_default() += count;
            }
            from.push((partition, position.replay_from));
            let review =
                commit.as_ref().and_then(|_| Review::needed(position.rules, self.rules, self.clock.now()));
            self.dockets.insert(partition, Owned { docket, committed: commit.map(|_| position), review });
        }
        for (metric, count) in disowned {
            tracing::warn!(
                metric,
                count,
                "baselines are deleted: they were learnt from another definition of this metric, or the metric or its \
                 detectors are gone; what is usual is learnt anew"
            );
        }
        Ok(self.consumer.start(&from)?)
    }

    fn begin_cycle(&mut self) -> Result<(), DetectorError> {
        let now = self.clock.now();
        self.review(now)?;
        let mut failed = None;
        let mut positions = Vec::new();
        let (mut open_keys, mut baselines) = (0, 0);
        for (partition, owned) in &mut self.dockets {
            let (outbox, topics, counters) = (&mut self.outbox, &self.topics, &self.counters);
            let mut out = |output: Output<'_>| send(outbox, topics, counters, now, output, &mut failed);
            owned.docket.resolve_disowned(&mut out);
            let closed = owned.docket.close(&self.watched, &mut out);
            owned.docket.say_running(&self.watched, &mut out);
            self.counters.closed(closed);
            let mut position = owned.docket.position();
            position.rules = owned.review.map_or(Some(self.rules), |review| review.committed());
            if owned.committed.as_ref() != Some(&position) {
                positions.push((*partition, position));
            }
            let (open, remembered) = owned.docket.holds();
            open_keys += open;
            baselines += remembered;
        }
        self.counters.holds(open_keys, baselines);
        self.phase = Phase::Outputs(positions);
        failed.map_or(Ok(()), Err)
    }

    /// Has the open alerts looked through where the rules were changed.
    fn review(&mut self, now: WallTime) -> Result<(), DetectorError> {
        let is_due = |owned: &Owned| owned.review.is_some_and(|review| review.is_due(now));
        if !self.dockets.values().any(is_due) {
            return Ok(());
        }
        let open = review::open_alerts(&self.bus, &self.topics.alerts, SCAN_PATIENCE)?;
        for (partition, owned) in self.dockets.iter_mut().filter(|(_, owned)| is_due(owned)) {
            let is_ours = |alert: &&Alert| {
                judge_of(&metric_key(&alert.metric, &alert.key), self.judge_count) == *partition
            };
            for alert in open.iter().filter(is_ours) {
                owned.docket.review(alert.clone(), &self.watched);
            }
            owned.review = owned.review.and_then(|review| review.next(now));
        }
        Ok(())
    }

    fn save_baselines(&mut self) -> Result<(), DetectorError> {
        let now = self.clock.now();
        for (partition, owned) in &mut self.dockets {
            let (outbox, topic) = (&mut self.outbox, self.topics.baselines.as_str());
            owned.docket.save(&self.watched, |key, saved| {
                let to = Outgoing {
                    topic,
                    partition: Some(*partition),
                    key: Some(key),
                    value: None,
                    timestamp: now,
                    headers: &[],
                };
                match saved {
                    Saved::Kept(record) => outbox.send(to, |out| out.extend_from_slice(&record)),
                    Saved::Forgotten(at) => {
                        let at = at.to_string();
                        outbox.forget(Outgoing { headers: &[(FORGOTTEN_AT, at.as_bytes())], ..to })
                    }
                }
            })?;
        }
        Ok(())
    }

    fn commit(&mut self, positions: &[(Partition, Position)]) -> Result<(), DetectorError> {
        if positions.is_empty() {
            return Ok(());
        }
        let commits: Vec<_> =
            positions.iter().map(|(partition, position)| (*partition, position.to_commit())).collect();
        self.consumer.commit(&commits)?;
        for (partition, position) in positions {
            if let Some(owned) = self.dockets.get_mut(partition) {
                owned.committed = Some(position.clone());
            }
        }
        Ok(())
    }

    /// Steps until no cycle is under way.
    fn settle_cycle(&mut self) -> Result<(), DetectorError> {
        let deadline = self.clock.now().plus(Duration::from_secs(60));
        while !matches!(self.phase, Phase::Reading) {
            if self.clock.now() > deadline {
                return Err(DetectorError::Slow { what: "windows, alerts and baselines" });
            }
            self.step(Duration::from_millis(100))?;
        }
        Ok(())
    }
}

/// When a tombstone says its key was forgotten; one without a word of ours (written by hand) means for good.
fn forgotten_at(tombstone: &Record<'_>) -> Index {
    let header = tombstone.headers.iter().find(|(name, _)| *name == FORGOTTEN_AT);
    header.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(Index::MAX)
}

/// Sends what a docket says; the first failure is kept and the rest is not sent.
fn send<P: herd_bus::Producer>(
    outbox: &mut Outbox<P>,
    topics: &Topics,
    counters: &JudgeMetrics,
    now: WallTime,
    output: Output<'_>,
    failed: &mut Option<DetectorError>,
) {
    if failed.is_some() {
        return;
    }
    let record = |topic, key| Outgoing {
        topic,
        partition: None,
        key: Some(key),
        value: None,
        timestamp: now,
        headers: &[],
    };
    let sent = match output {
        Output::Window(window) => {
            let key = metric_key(&window.metric, &window.key);
            outbox.send(record(topics.windows.as_str(), key.as_slice()), |out| window.write(out))
        }
        Output::Alert(alert) => {
            counters.alert(&alert.detector, alert.state);
            outbox.send(record(topics.alerts.as_str(), alert.id.0.as_bytes()), |out| alert.write(out))
        }
    };
    *failed = sent.err();
}

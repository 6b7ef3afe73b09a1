//! A member of the fold group: applies events, and every emit interval sends parts, then (once these are acknowledged) the
//! watermarks, then (once these are) commits. The order is what makes a crash between any two steps harmless.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_bus::{Bus, BusError, Change, Consumer, Membership, Outgoing};
use herd_spec::plan::Plan;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{EventRef, PartRecord, SourceState, metric_key};
use herd_stage::Clock;

use super::source::Source;
use crate::DetectorError;
use crate::commit::Position;
use crate::metric::Metrics;
use crate::metrics::FoldMetrics;
use crate::outbox::Outbox;
use crate::partition::judge_of;

/// Records of one fetch, at most: bounds how late an emit can be.
const FETCH_LIMIT: usize = 8_192;
/// How long a broker may take to say where its logs end (without an answer nothing is idle), and how many there are.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often sources are counted. Sooner than producers see partitions that were added (10 s): every judge must know of them
/// before it closes windows that they count in, whether or not anybody reads them yet.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// A member of the fold group.
pub struct Fold<B: Bus, C> {
    bus: B,
    consumer: B::Consumer,
    outbox: Outbox<B::Producer>,
    clock: C,
    metrics: Metrics,
    topics: Topics,
    group: String,
    counters: FoldMetrics,
    sources: BTreeMap<Partition, Owned>,
    /// How many partitions `events` has, and `parts`.
    source_count: u32,
    judge_count: u32,
    next_count: WallTime,
    interval: Duration,
    next_emit: WallTime,
    /// When each metric is next due.
    next_due: Vec<WallTime>,
    phase: Phase,
}

struct Topics {
    events: String,
    parts: String,
}

struct Owned {
    source: Source,
    committed: Option<Position>,
}

/// Where an emit cycle stands.
enum Phase {
    Folding,
    /// Parts are under way; these words follow when they are acknowledged.
    Parts(Cycle),
    /// The words are under way; the commit follows when they are acknowledged.
    Words(Cycle),
}

/// What a cycle promises, as it stood when its parts were sent.
struct Cycle {
    words: Vec<(Partition, SourceState, WallTime)>,
    positions: Vec<(Partition, Position)>,
}

impl<B: Bus, C: Clock> Fold<B, C> {
    /// Joins the group.
    ///
    /// # Errors
    /// If the bus refuses.
    pub fn join(
        plan: &Plan,
        bus: &B,
        clock: C,
        member: &str,
        counters: FoldMetrics,
    ) -> Result<Self, DetectorError> {
        let metrics = Metrics::of(plan);
        let topics =
            Topics { events: plan.topics.events.name.clone(), parts: plan.topics.parts.name.clone() };
        let membership = Membership::Group { group: &plan.groups.fold, instance: Some(member) };
        let now = clock.now();
        Ok(Self {
            consumer: bus.consumer(&topics.events, membership)?,
            outbox: Outbox::new(bus.producer(&format!("{member}-fold"))?),
            source_count: bus.partitions(&topics.events)?,
            judge_count: bus.partitions(&topics.parts)?,
            next_count: now,
            bus: bus.clone(),
            next_due: vec![now; metrics.all.len()],
            interval: plan.emit_interval(),
            next_emit: now.plus(plan.emit_interval()),
            group: plan.groups.fold.clone(),
            sources: BTreeMap::new(),
            phase: Phase::Folding,
            clock,
            metrics,
            topics,
            counters,
        })
    }

    /// Does the next thing, waiting at most `wait` for something to do.
    ///
    /// # Errors
    /// What stops the stage; it starts again from its commit.
    pub fn step(&mut self, wait: Duration) -> Result<(), DetectorError> {
        match std::mem::replace(&mut self.phase, Phase::Folding) {
            Phase::Folding => self.fold(wait),
            Phase::Parts(cycle) => {
                if self.outbox.settled(wait)? {
                    self.send_words(&cycle)?;
                    self.phase = Phase::Words(cycle);
                } else {
                    self.phase = Phase::Parts(cycle);
                }
                Ok(())
            }
            Phase::Words(cycle) => {
                if self.outbox.settled(wait)? {
                    self.commit(&cycle)?;
                } else {
                    self.phase = Phase::Words(cycle);
                }
                Ok(())
            }
        }
    }

    /// Finishes what is under way, sends and commits everything, and leaves the group.
    ///
    /// # Errors
    /// If that fails; a successor then replays a little more.
    pub fn finish(mut self) -> Result<(), DetectorError> {
        self.settle_cycle()?;
        self.begin_cycle(true)?;
        self.settle_cycle()?;
        self.consumer.close();
        Ok(())
    }

    fn fold(&mut self, wait: Duration) -> Result<(), DetectorError> {
        let now = self.clock.now();
        if now >= self.next_emit {
            self.next_emit = now.plus(self.interval);
            return self.begin_cycle(false);
        }
        let wait = wait.min(self.next_emit.since(now));
        let (metrics, sources, counters) = (&self.metrics, &mut self.sources, &self.counters);
        let clock = &self.clock;
        let mut arrived = now;
        let mut handed = 0_u32;
        let (begun, mut found) = (clock.instant(), None);
        let fetched = self.consumer.fetch(wait, FETCH_LIMIT, |record| {
            // The clock is asked once for many records: only idleness is reckoned from it, in seconds.
            if handed.is_multiple_of(256) {
                arrived = clock.now();
                found.get_or_insert_with(|| clock.instant());
            }
            handed += 1;
            let Some(owned) = sources.get_mut(&record.partition) else { return };
            match record.value.map(EventRef::parse) {
                Some(Ok(event)) => {
                    let seen = owned.source.apply(record.offset, &event, metrics, arrived);
                    counters.saw(seen);
                }
                Some(Err(error)) => {
                    owned.source.skip(record.offset, arrived);
                    counters.malformed(record.partition, record.offset, &error);
                }
                None => owned.source.skip(record.offset, arrived),
            }
        })?;
        counters.waiting.waited(begun, found.unwrap_or_else(|| clock.instant()));
        for change in fetched.changes {
            self.reassign(change)?;
        }
        Ok(())
    }

    fn reassign(&mut self, change: Change) -> Result<(), DetectorError> {
        match change {
            Change::Assigned(partitions) => self.take_over(&partitions),
            Change::Revoked(partitions) => {
                // In good order: whoever comes next has nothing to replay but open windows.
                self.begin_cycle(true)?;
                match self.settle_cycle() {
                    Err(DetectorError::Bus(BusError::NotOwner { .. })) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
                self.drop_sources(&partitions)
            }
            Change::Lost(partitions) => self.drop_sources(&partitions),
        }
    }

    fn drop_sources(&mut self, partitions: &[Partition]) -> Result<(), DetectorError> {
        for partition in partitions {
            self.sources.remove(partition);
        }
        Ok(self.consumer.release(partitions)?)
    }

    fn take_over(&mut self, partitions: &[Partition]) -> Result<(), DetectorError> {
        self.source_count = self.bus.partitions(&self.topics.events)?;
        let progress = self.bus.progress(&self.topics.events, &self.group)?;
        let now = self.clock.now();
        let mut from = Vec::with_capacity(partitions.len());
        for (partition, commit) in self.consumer.committed(partitions)? {
            let mut position = commit.as_ref().map_or(Position::START, Position::of);
            if let Some(log) = progress.iter().find(|progress| progress.partition == partition) {
                position = within(position, log.start, log.end);
            }
            tracing::info!(%partition, from = %position.replay_from, next = %position.next, "taking over a source");
            from.push((partition, position.replay_from));
            let source = Source::resume(partition, &position, &self.metrics, now);
            for (place, since) in source.began(&position, &self.metrics) {
                tracing::info!(%partition, metric = %self.metrics.all[place].name, %since, "the metric is new or has a new definition: events from this offset on are counted by it");
            }
            self.sources.insert(partition, Owned { source, committed: commit.map(|_| position) });
        }
        Ok(self.consumer.start(&from)?)
    }

    /// Sends the parts of all sources. `all`: also of metrics that are not due yet.
    fn begin_cycle(&mut self, all: bool) -> Result<(), DetectorError> {
        let now = self.clock.now();
        let due: Vec<bool> = self.next_due.iter().map(|time| all || now >= *time).collect();
        for ((next, metric), due) in self.next_due.iter_mut().zip(&self.metrics.all).zip(&due) {
            if *due {
                // A little early is on time: cycles come at the shortest interval, give or take a fetch.
                *next = now.plus(metric.emit).minus(self.interval / 2);
            }
        }
        self.count_sources(now);
        let ends = self.ends(now);
        let mut cycle = Cycle { words: Vec::new(), positions: Vec::new() };
        let patience = 2 * self.interval;
        let everything = vec![true; due.len()];
        for (partition, owned) in &mut self.sources {
            let at_end = ends.get(partition).is_some_and(|end| owned.source.next() >= *end);
            let state = owned.source.state(now, at_end, patience);
            cycle.words.extend(state.map(|state| (*partition, state, now)));
            // An idle source vouches for what others announce, which may close windows of metrics that are not due.
            let due = if state == Some(SourceState::Idle) { &everything } else { &due };
            let (outbox, topic, judges) = (&mut self.outbox, self.topics.parts.as_str(), self.judge_count);
            let mut failed = None;
            owned.source.emit(&self.metrics, due, |part| {
                if failed.is_some() {
                    return;
                }
                let key = metric_key(&part.metric, &part.key);
                let record = Outgoing {
                    topic,
                    partition: Some(judge_of(&key, judges)),
                    key: Some(&key),
                    value: None,
                    timestamp: now,
                    headers: &[],
                };
                failed = outbox.send(record, |out| PartRecord::Part(part).write(out)).err();
            });
            if let Some(error) = failed {
                return Err(error);
            }
            let position = owned.source.position(&self.metrics);
            if owned.committed.as_ref() != Some(&position) {
                cycle.positions.push((*partition, position));
            }
        }
        let keys = self.sources.values().map(|owned| owned.source.open_keys()).sum();
        self.counters.open_keys(keys);
        self.phase = Phase::Parts(cycle);
        Ok(())
    }

    fn count_sources(&mut self, now: WallTime) {
        if now < self.next_count {
            return;
        }
        self.next_count = now.plus(COUNT_EVERY);
        match self.consumer.partitions(PATIENCE) {
            // Partitions are never taken away; one who does not know yet must not contradict.
            Ok(count) => self.source_count = count.max(self.source_count),
            Err(error) => tracing::warn!(%error, "whether there are more sources is not known"),
        }
    }

    /// Where the logs of quiet sources end: asked after `now` was read, so what had been sent by `now` lies before.
    fn ends(&mut self, now: WallTime) -> BTreeMap<Partition, Offset> {
        let patience = 2 * self.interval;
        let quiet: Vec<Partition> = self
            .sources
            .iter()
            .filter(|(_, owned)| owned.source.is_quiet(now, patience))
            .map(|(partition, _)| *partition)
            .collect();
        if quiet.is_empty() {
            return BTreeMap::new();
        }
        match self.consumer.end_offsets(&quiet, PATIENCE) {
            Ok(ends) => ends.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "where the sources end is not known; none counts as idle");
                BTreeMap::new()
            }
        }
    }

    fn send_words(&mut self, cycle: &Cycle) -> Result<(), DetectorError> {
        for (partition, state, at) in &cycle.words {
            let Some(owned) = self.sources.get(partition) else { continue };
            let word = owned.source.speak(*state, self.source_count, *at);
            for judge in 0..self.judge_count {
                let record = Outgoing {
                    topic: &self.topics.parts,
                    partition: Some(Partition(judge)),
                    key: Some(b"watermark"),
                    value: None,
                    timestamp: *at,
                    headers: &[],
                };
                self.outbox.send(record, |out| PartRecord::Watermark(word).write(out))?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, cycle: &Cycle) -> Result<(), DetectorError> {
        if cycle.positions.is_empty() {
            return Ok(());
        }
        let commits: Vec<_> =
            cycle.positions.iter().map(|(partition, position)| (*partition, position.to_commit())).collect();
        self.consumer.commit(&commits)?;
        for (partition, position) in &cycle.positions {
            if let Some(owned) = self.sources.get_mut(partition) {
                owned.committed = Some(position.clone());
            }
        }
        Ok(())
    }

    /// Steps until no cycle is under way.
    fn settle_cycle(&mut self) -> Result<(), DetectorError> {
        let deadline = self.clock.now().plus(Duration::from_secs(60));
        while !matches!(self.phase, Phase::Folding) {
            if self.clock.now() > deadline {
                return Err(DetectorError::Slow { what: "parts and watermarks" });
            }
            self.step(Duration::from_millis(100))?;
        }
        Ok(())
    }
}

/// A position whose log has since been cut (retention) or made anew (the topic was deleted and created).
fn within(position: Position, start: Offset, end: Offset) -> Position {
    if position.next > end {
        tracing::warn!(next = %position.next, %end, "the log ends before what was committed: it was made anew; starting over");
        return Position { next: start, replay_from: start, ..Position::START };
    }
    Position { next: position.next.max(start), replay_from: position.replay_from.max(start), ..position }
}

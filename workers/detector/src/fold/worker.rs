//! A member of the fold group: applies events, and every emit interval sends parts, then (once these are acknowledged) the
//! watermarks, then (once these are) commits. The order is what makes a crash between any two steps harmless.
//!
//! Early parts go out in between: parts of a few keys, then the totals of their windows, and no commit. As parts are cumulative and
//! nothing is taken for sent by them, they may come twice or not at all.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_bus::{Bus, BusError, Consumer, Membership, Outgoing, Producer, Record};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, Start, TakeOver};
use herd_spec::plan::Plan;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{EventRef, Part, PartRecord, SourceState, SourceTotal, metric_key};
use herd_stage::Clock;

use super::source::Source;
use crate::DetectorError;
use crate::commit::Position;
use crate::metric::Metrics;
use crate::metrics::FoldMetrics;
use crate::outbox::{CYCLE_PATIENCE, Outbox};
use crate::partitioner::judge_of;

/// Records of one fetch, at most: bounds how late an emit can be.
const FETCH_MAX: usize = 8_192;
/// How long a broker may take to say where its logs end (without an answer nothing is idle), and how many there are.
const PATIENCE: Duration = Duration::from_secs(1);
/// Totals in one record, at most: a total takes about a hundred bytes, and a broker takes a record of a megabyte.
const TOTALS_A_RECORD: usize = 1_000;
/// The clock is asked once for so many records: only idleness is reckoned from it, in seconds.
const CLOCK_EVERY: u32 = 256;
/// How often sources are counted. Sooner than producers see partitions that were added (10 s): every judge must know of them
/// before it closes windows that they count in, whether or not anybody reads them yet.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Between two sendings of early parts, at least.
const EARLY_INTERVAL: Duration = Duration::from_millis(100);
/// Early parts take at most one part of so many of a member's time: while they are under way it reads no events.
const EARLY_SHARE: u32 = 10;

/// What a member of the fold group does.
pub struct Fold<B: Bus, C> {
    bus: B,
    outbox: Outbox<B::Producer>,
    clock: C,
    metrics: Metrics,
    topics: Topics,
    group: String,
    counters: FoldMetrics,
    sources: BTreeMap<Partition, Source>,
    /// How many partitions `events` has, and `parts`.
    source_count: u32,
    judge_count: u32,
    next_count: WallTime,
    interval: Duration,
    next_emit: WallTime,
    /// When each metric is next due.
    next_due: Vec<WallTime>,
    /// When early parts are next due; none if no metric sends them.
    next_early: Option<WallTime>,
    /// Whether an event came since parts were last sent.
    is_changed: bool,
    phase: Phase,
    /// When the last records came, about: the clock is asked once for [`CLOCK_EVERY`] of them.
    arrived: WallTime,
    /// Records since the clock was asked.
    handed: u32,
}

struct Topics {
    events: String,
    parts: String,
}

/// Where an emit cycle stands.
enum Phase {
    Folding,
    /// It is to begin.
    Due,
    /// Early parts are to be sent.
    EarlyDue,
    /// Parts are under way; the watermarks follow when they are acknowledged.
    Parts(Cycle),
    /// The watermarks are under way; the commit follows when they are acknowledged.
    Watermarks(Cycle),
}

/// What a source will announce once its parts are acknowledged.
struct Announcement {
    source: Partition,
    /// None if it announces totals only, and vouches for nothing.
    state: Option<SourceState>,
    totals: Vec<SourceTotal>,
}

/// What a cycle promises, as it stood when its parts were sent.
struct Cycle {
    begun: WallTime,
    watermarks: Vec<Announcement>,
    commits: Commits,
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
    ) -> Result<Member<Self>, DetectorError> {
        let metrics = Metrics::of(plan);
        let topics =
            Topics { events: plan.topics.events.name.clone(), parts: plan.topics.parts.name.clone() };
        let membership = Membership::Group { group: &plan.groups.fold, instance: Some(member) };
        let now = clock.now();
        let consumer = bus.consumer(&topics.events, membership)?;
        let waiting = counters.waiting.clone();
        let fold = Self {
            outbox: Outbox::new(bus.producer(&format!("{member}-fold"))?),
            source_count: bus.partitions(&topics.events)?,
            judge_count: bus.partitions(&topics.parts)?,
            next_count: now,
            bus: bus.clone(),
            next_due: vec![now; metrics.all.len()],
            next_early: metrics.all.iter().any(|metric| metric.early_parts).then_some(now),
            is_changed: false,
            interval: plan.emit_interval(),
            next_emit: now.plus(plan.emit_interval()),
            group: plan.groups.fold.clone(),
            sources: BTreeMap::new(),
            phase: Phase::Folding,
            arrived: now,
            handed: 0,
            clock: clock.clone(),
            metrics,
            topics,
            counters,
        };
        Ok(Member::new(consumer, fold, clock, Some(waiting)))
    }
}

impl<B: Bus, C: Clock> Processor for Fold<B, C> {
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
        let now = self.clock.now();
        if now >= self.next_emit {
            self.next_emit = now.plus(self.interval);
            self.phase = Phase::Due;
            return None;
        }
        let mut wait = wait.min(self.next_emit.since(now));
        if let Some(next) = self.next_early.filter(|_| self.is_changed) {
            if now >= next {
                self.phase = Phase::EarlyDue;
                return None;
            }
            wait = wait.min(next.since(now));
        }
        self.handed = CLOCK_EVERY;
        Some(Demand { limit: FETCH_MAX, wait, idle: true })
    }

    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, DetectorError> {
        self.source_count = self.bus.partitions(&self.topics.events)?;
        let progress = self.bus.progress(&self.topics.events, &self.group)?;
        let now = self.clock.now();
        let mut starts = Vec::with_capacity(partitions.len());
        for (partition, commit) in assignment.consumer().committed(partitions)? {
            let mut position = commit.as_ref().map_or(Position::START, Position::of);
            if let Some(log) = progress.iter().find(|progress| progress.partition == partition) {
                position = within(position, log.start, log.end);
            }
            tracing::info!(%partition, from = %position.replay_from, next = %position.next, "taking over a source");
            let source = Source::resume(partition, &position, &self.metrics, now);
            for (place, since) in source.began(&position, &self.metrics) {
                tracing::info!(%partition, metric = %self.metrics.all[place].name, %since, "the metric is new or has a new definition: events from this offset on are counted by it");
            }
            self.sources.insert(partition, source);
            let (from, committed) = (position.replay_from, commit.map(|_| position.to_commit()));
            starts.push(Start { partition, from, committed });
        }
        Ok(TakeOver::Begin(starts))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), DetectorError> {
        if self.handed == CLOCK_EVERY {
            (self.arrived, self.handed) = (self.clock.now(), 0);
        }
        (self.handed, self.is_changed) = (self.handed + 1, true);
        let Some(source) = self.sources.get_mut(&record.partition) else { return Ok(()) };
        match record.value.map(EventRef::parse) {
            Some(Ok(event)) => {
                let seen = source.apply(record.offset, &event, &self.metrics, self.arrived);
                self.counters.saw(seen);
            }
            Some(Err(error)) => {
                source.skip(record.offset, self.arrived);
                self.counters.malformed(record.partition, record.offset, &error);
            }
            None => source.skip(record.offset, self.arrived),
        }
        Ok(())
    }

    fn advance(
        &mut self,
        assignment: &mut Assignment<Self>,
        wait: Duration,
    ) -> Result<Commits, DetectorError> {
        match std::mem::replace(&mut self.phase, Phase::Folding) {
            Phase::Folding => {}
            Phase::Due => self.begin_cycle(assignment.consumer(), false)?,
            Phase::EarlyDue => self.begin_early_cycle()?,
            Phase::Parts(cycle) if self.outbox.settled(wait)? => {
                self.send_watermarks(&cycle)?;
                self.phase = Phase::Watermarks(cycle);
            }
            Phase::Watermarks(cycle) if self.outbox.settled(wait)? => {
                let now = self.clock.now();
                let pause = EARLY_INTERVAL.max((EARLY_SHARE - 1) * now.since(cycle.begun));
                self.next_early = self.next_early.map(|_| now.plus(pause));
                return Ok(cycle.commits);
            }
            unsettled => self.phase = unsettled,
        }
        Ok(Vec::new())
    }

    fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Parts(_) | Phase::Watermarks(_))
    }

    fn flush(
        &mut self,
        assignment: &mut Assignment<Self>,
        _why: Flush<'_>,
    ) -> Result<Commits, DetectorError> {
        // Whoever comes next has nothing to replay but open windows.
        self.begin_cycle(assignment.consumer(), true)?;
        Ok(Vec::new())
    }

    fn patience(&self) -> Duration {
        CYCLE_PATIENCE
    }

    fn overdue(&mut self) -> Result<(), DetectorError> {
        Err(DetectorError::Slow { what: "parts and watermarks" })
    }

    fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.sources.retain(|partition, _| !partitions.contains(partition));
    }
}

impl<B: Bus, C: Clock> Fold<B, C> {
    /// Sends the parts of all sources. `all`: also of metrics that are not due yet.
    fn begin_cycle(&mut self, consumer: &mut B::Consumer, all: bool) -> Result<(), DetectorError> {
        let now = self.clock.now();
        let due: Vec<bool> = self.next_due.iter().map(|time| all || now >= *time).collect();
        for ((next, metric), due) in self.next_due.iter_mut().zip(&self.metrics.all).zip(&due) {
            if *due {
                // A little early is on time: cycles come at the shortest interval, give or take a fetch.
                *next = now.plus(metric.emit).minus(self.interval / 2);
            }
        }
        self.count_sources(consumer, now);
        let ends = self.ends(consumer, now);
        let mut cycle = Cycle { begun: now, watermarks: Vec::new(), commits: Vec::new() };
        self.is_changed = false;
        let patience = 2 * self.interval;
        let everything = vec![true; due.len()];
        for (partition, source) in &mut self.sources {
            let at_end = ends.get(partition).is_some_and(|end| source.next() >= *end);
            let state = source.state(now, at_end, patience);
            if let Some(state) = state {
                let totals = source.take_totals(&self.metrics);
                cycle.watermarks.push(Announcement { source: *partition, state: Some(state), totals });
            }
            // An idle source vouches for what others announce, which may close windows of metrics that are not due.
            let due = if state == Some(SourceState::Idle) { &everything } else { &due };
            let to = Parts { topic: &self.topics.parts, judges: self.judge_count, now };
            source.emit(&self.metrics, due, |part| to.send(&mut self.outbox, part))?;
            cycle.commits.push((*partition, source.position(&self.metrics).to_commit()));
        }
        let keys = self.sources.values().map(Source::open_keys).sum();
        self.counters.open_keys(keys);
        self.phase = Phase::Parts(cycle);
        Ok(())
    }

    /// Sends the parts of the keys that grow fastest.
    fn begin_early_cycle(&mut self) -> Result<(), DetectorError> {
        let now = self.clock.now();
        let mut cycle = Cycle { begun: now, watermarks: Vec::new(), commits: Vec::new() };
        let to = Parts { topic: &self.topics.parts, judges: self.judge_count, now };
        let mut count = 0;
        for (partition, source) in &mut self.sources {
            let totals = source.emit_early(&self.metrics, |part| {
                count += 1;
                to.send(&mut self.outbox, part)
            })?;
            if !totals.is_empty() {
                cycle.watermarks.push(Announcement { source: *partition, state: None, totals });
            }
        }
        self.is_changed = false;
        self.counters.early_parts(count);
        self.phase = Phase::Parts(cycle);
        Ok(())
    }

    fn count_sources(&mut self, consumer: &mut B::Consumer, now: WallTime) {
        if now < self.next_count {
            return;
        }
        self.next_count = now.plus(COUNT_EVERY);
        match consumer.partitions(PATIENCE) {
            // Partitions are never taken away; one who does not know yet must not contradict.
            Ok(count) => self.source_count = count.max(self.source_count),
            Err(error) => tracing::warn!(%error, "counting the partitions of `events` failed, retrying"),
        }
    }

    /// Where the logs of quiet sources end: asked after `now` was read, so what had been sent by `now` lies before.
    fn ends(&self, consumer: &mut B::Consumer, now: WallTime) -> BTreeMap<Partition, Offset> {
        let patience = 2 * self.interval;
        let quiet: Vec<Partition> = self
            .sources
            .iter()
            .filter(|(_, source)| source.is_quiet(now, patience))
            .map(|(partition, _)| *partition)
            .collect();
        if quiet.is_empty() {
            return BTreeMap::new();
        }
        match consumer.end_offsets(&quiet, PATIENCE) {
            Ok(ends) => ends.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "fetching end offsets failed: no source is treated as idle until the next attempt");
                BTreeMap::new()
            }
        }
    }

    fn send_watermarks(&mut self, cycle: &Cycle) -> Result<(), DetectorError> {
        for Announcement { source, state, totals } in &cycle.watermarks {
            let Some(source) = self.sources.get(source) else { continue };
            let mut chunks = totals.chunks(TOTALS_A_RECORD).peekable();
            loop {
                let totals = chunks.next().unwrap_or_default().to_vec();
                let is_last = chunks.peek().is_none();
                // The rest of the totals must come first: so far it vouches for nothing, its own or others'.
                let state = state.filter(|_| is_last);
                let watermark = source.watermark(state, self.source_count, cycle.begun, totals);
                let watermark = PartRecord::Watermark(watermark);
                for judge in 0..self.judge_count {
                    let record = Outgoing {
                        topic: &self.topics.parts,
                        partition: Some(Partition(judge)),
                        key: Some(b"watermark"),
                        value: None,
                        timestamp: cycle.begun,
                        headers: &[],
                    };
                    self.outbox.send(record, |out| watermark.write(out))?;
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Where parts are sent.
struct Parts<'a> {
    topic: &'a str,
    judges: u32,
    now: WallTime,
}

impl Parts<'_> {
    fn send<P: Producer>(&self, outbox: &mut Outbox<P>, part: Part<'_>) -> Result<(), DetectorError> {
        let key = metric_key(&part.metric, &part.key);
        let record = Outgoing {
            topic: self.topic,
            partition: Some(judge_of(&key, self.judges)),
            key: Some(&key),
            value: None,
            timestamp: self.now,
            headers: &[],
        };
        outbox.send(record, |out| PartRecord::Part(part).write(out))
    }
}

/// A position whose log has since been cut (retention) or made anew (the topic was deleted and created).
fn within(position: Position, start: Offset, end: Offset) -> Position {
    if position.next > end {
        tracing::warn!(next = %position.next, %end, "the committed offset is beyond the end of the partition, because the topic was recreated or lost records: reading from its start");
        return Position { next: start, replay_from: start, ..Position::START };
    }
    Position { next: position.next.max(start), replay_from: position.replay_from.max(start), ..position }
}

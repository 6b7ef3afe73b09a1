//! What a member of the group of a sink of alerts does.
//!
//! A thread drives the consumer; messages go out from tasks, a few at a time, those of one alert in order. While they do,
//! the consumer is held but stays a member of its group, however slow the receiver is. The position is committed after
//! the last message of what was sent off was taken or given up, so each is sent at least once. A message waits up to two seconds for the
//! explanation of its alert (`ready`); meanwhile further records are taken in.
//!
//! Messages of quiet times are held back (`held`), and sent as one once such a time has ended and no record waits.
//!
//! Records of an alert come as long as it lasts, but only its beginning and its end are told. A member that takes a partition over
//! reads the records before the commit once more, to know what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herd_bus::{Acks, Bus, BusError, Commit, Consumer, Membership, Record, SendError};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, Start, TakeOver};
use herd_spec::plan::{Quiet, QuietPlan};
use herd_spec::units::{Offset, Partition};
use herd_spec::wire::{Alert, AlertId, Severity};
use herd_stage::backoff::{Pace, Pauses};
use herd_stage::{Clock, Stage, SystemClock, Waiting};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::deliver::{Alerts, Outgoing, Report, deliver, lock};
use super::held::{Held, Mark, Pending, Source};
use super::notified::{Notified, Told};
use super::ready::{Explanations, Taken, ready};
use super::receiver::{Message, Receiver};
use super::sender::{Sender, Undelivered};
use crate::SinkError;
use crate::dead_letter::{DeadLetters, Refusal, RefusedRecord};
use crate::metrics::{SinkLabels, SinkMetrics};

/// Records taken at once.
const FETCH_MAX: usize = 64;
/// Records that wait, or are under way. With so many, no message waits for its explanation.
const BATCH_MAX: usize = 1_024;
/// Detectors of which it is remembered that they explain. A pipeline has at most 100; others may have been removed.
const EXPLAINING_MAX: usize = 1_000;
/// Records before the commit of a partition from which a member learns what was told of the alerts that go on. An alert without a
/// record among them is told again if it is brought up to date after a restart.
const REREAD: i64 = 10_000;
/// How long the broker may take to say where its partitions end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon the end of a delivery, or a request to stop, is noticed.
const STEP: Duration = Duration::from_millis(50);
/// How long messages under way may take after a request to stop.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Setup {
    pub(super) sink: String,
    pub(super) group: String,
    pub(super) member: String,
    pub(super) topic: String,
    pub(super) dead_letter: String,
    pub(super) min_severity: Severity,
    /// The quiet times of each detector.
    pub(super) quiet: BTreeMap<String, QuietPlan>,
    pub(super) stage: Stage,
    pub(super) runtime: Handle,
}

type SummaryDelivery = JoinHandle<Result<(), Undelivered>>;

pub(super) struct AlertSink<B: Bus, R> {
    setup: Setup,
    dead_letters: DeadLetters<B::Producer>,
    metrics: SinkMetrics,
    sender: Arc<Sender<R>>,
    memory: Arc<Mutex<Notified>>,
    /// Where each partition goes on: earlier records were delivered by a member before.
    delivered: BTreeMap<Partition, Offset>,
    batch: Vec<Pending>,
    /// The detectors with an alert that was explained: only messages of theirs wait for an explanation.
    explaining: BTreeSet<String>,
    /// The places in the batch of what is under way.
    sent: BTreeSet<usize>,
    /// The quiet time of each of these that falls in one.
    quiet: BTreeMap<usize, Quiet>,
    /// The delivery of these.
    delivery: Option<JoinHandle<Report>>,
    held: Held,
    /// What the commits of members before say of what they held back.
    marks: BTreeMap<Partition, Mark>,
    /// The alerts that are summed up, and the delivery of the summary.
    summary: Option<(Vec<AlertId>, SummaryDelivery)>,
    /// Whether the consumer is held.
    is_held: bool,
    /// Whether the last fetch brought a record, or the consumer was held: then there may be more.
    has_more: bool,
    pauses: Pauses,
}

impl<B: Bus, R: Receiver> AlertSink<B, R> {
    pub(super) fn join(setup: Setup, bus: &B, sender: Sender<R>) -> Result<Member<Self>, SinkError> {
        let failed = |source| SinkError::Bus { sink: setup.sink.clone(), source };
        let connector = format!("sink.{}", setup.sink);
        let producer = bus.producer(&connector).map_err(failed)?;
        let membership = Membership::Group { group: &setup.group, instance: Some(&setup.member) };
        let consumer = bus.consumer(&setup.topic, membership).map_err(failed)?;
        let waiting = Waiting::register(&setup.stage, R::KIND);
        let sink = Self {
            dead_letters: DeadLetters {
                producer,
                topic: setup.dead_letter.clone(),
                source: setup.topic.clone(),
                connector,
            },
            metrics: SinkMetrics::of(&setup.stage),
            sender: Arc::new(sender),
            memory: Arc::default(),
            delivered: BTreeMap::new(),
            batch: Vec::new(),
            explaining: BTreeSet::new(),
            sent: BTreeSet::new(),
            quiet: BTreeMap::new(),
            held: Held::new(setup.quiet.clone()),
            marks: BTreeMap::new(),
            summary: None,
            is_held: false,
            has_more: false,
            delivery: None,
            pauses: Pace::STORE.pauses(),
            setup,
        };
        Ok(Member::new(consumer, sink, SystemClock, Some(waiting)))
    }

    fn is_stopping(&self) -> bool {
        self.setup.stage.shutdown.is_cancelled()
    }

    /// The places of the records that may be delivered now.
    fn ready(&self) -> BTreeSet<usize> {
        let records: Vec<Taken<'_>> = self
            .batch
            .iter()
            .map(|pending| Taken {
                partition: pending.source.partition,
                since: pending.source.timestamp.min(pending.received),
                alert: pending.alert(),
            })
            .collect();
        let memory = lock(&self.memory);
        let is_full = self.batch.len() >= BATCH_MAX;
        ready(&records, &self.explaining, |id| memory.told(id), is_full, SystemClock.now())
    }

    /// Starts the messages of what is to be sent, each with the latest explanation that has come.
    fn send_off(&mut self) -> JoinHandle<Report> {
        let explanations = Explanations::of(self.batch.iter().filter_map(Pending::alert));
        let mut alerts = Alerts::new();
        self.quiet.clear();
        for index in &self.sent {
            let Some(pending) = self.batch.get(*index) else { continue };
            if let Some(alert) = pending.alert() {
                let quiet = self.held.quiet(alert, pending.source.timestamp);
                let is_quiet = quiet.is_some();
                self.quiet.extend(quiet.map(|quiet| (*index, quiet)));
                let mut alert = alert.clone();
                if let Some(explanation) = explanations.get(&alert.id) {
                    alert.explanation = Some(explanation.clone());
                }
                let records = alerts.entry(alert.id.clone()).or_default();
                records.push(Outgoing { index: *index, alert, is_quiet });
            }
        }
        let (sender, memory) = (Arc::clone(&self.sender), Arc::clone(&self.memory));
        self.setup.runtime.spawn(deliver(sender, memory, alerts))
    }

    /// What came of the delivery; none while it goes on after `wait`.
    fn report<T>(&self, delivery: &mut JoinHandle<T>, wait: Duration) -> Result<Option<T>, SinkError> {
        if !delivery.is_finished() && wait.is_zero() {
            return Ok(None);
        }
        match self.setup.runtime.block_on(async { tokio::time::timeout(wait, delivery).await }) {
            Err(_) => Ok(None),
            Ok(Ok(report)) => Ok(Some(report)),
            Ok(Err(_)) => Err(SinkError::Thread {
                sink: self.setup.sink.clone(),
                part: "message deliveries",
                why: "panicked".into(),
            }),
        }
    }

    /// Sends what was refused or given up to the dead-letter topic; then what was sent is through.
    fn conclude(&mut self, report: Report) -> Result<Commits, SinkError> {
        let put = |(index, why): (usize, Undelivered)| (index, Refusal::put(why.class(R::KIND), &why));
        let mut refused: Vec<(usize, Refusal)> = report.undelivered.into_iter().map(put).collect();
        for index in &self.sent {
            if let Some(Err(refusal)) = self.batch.get(*index).map(|pending| &pending.alert) {
                refused.push((*index, refusal.clone()));
            }
        }
        for (index, refusal) in &refused {
            let Some(pending) = self.batch.get(*index) else { continue };
            if !self.send_dead_letter(&pending.source, refusal)? {
                return Ok(Vec::new());
            }
        }
        for (id, told) in report.told {
            lock(&self.memory).remember(id, told);
        }
        let mut next: BTreeMap<Partition, Offset> = BTreeMap::new();
        let sent = std::mem::take(&mut self.sent);
        let is_new: BTreeMap<usize, bool> = report.held.into_iter().collect();
        let mut quiet = std::mem::take(&mut self.quiet);
        let mut rest = Vec::new();
        for (index, pending) in std::mem::take(&mut self.batch).into_iter().enumerate() {
            if sent.contains(&index) {
                let reached = next.entry(pending.source.partition).or_default();
                *reached = pending.source.offset.next().max(*reached);
                let held = is_new.get(&index).zip(quiet.remove(&index));
                self.hold_back(pending, held.map(|(is_new, quiet)| (quiet, *is_new)));
            } else {
                rest.push(pending);
            }
        }
        self.batch = rest;
        self.delivered.extend(next.iter().map(|(partition, next)| (*partition, *next)));
        Ok(self.commits(next.into_keys()))
    }

    /// Holds back the message of a record, or takes in what it says of an alert that is held back.
    fn hold_back(&mut self, pending: Pending, quiet: Option<(Quiet, bool)>) {
        let Ok(Some(alert)) = pending.alert else { return };
        match quiet {
            Some((quiet, is_new)) => self.held.hold(pending.source, &alert, quiet, is_new),
            None => self.held.update(&alert),
        }
    }

    /// How far these partitions are delivered, and what is held back of them.
    fn commits(&self, partitions: impl Iterator<Item = Partition>) -> Commits {
        let commit = |partition: Partition| {
            let next = *self.delivered.get(&partition)?;
            Some((partition, Commit { next, metadata: self.held.metadata(partition) }))
        };
        partitions.filter_map(commit).collect()
    }

    /// Starts the message about quiet times that have ended, when no record waits: it may be about one. None: there is none.
    fn send_summary(&mut self) -> Result<Option<Commits>, SinkError> {
        let now = SystemClock.now();
        let is_through = self.batch.is_empty() && !self.has_more;
        let Some(ids) = self.held.due(now).filter(|_| is_through || self.held.is_full()) else {
            return Ok(None);
        };
        let Some(summary) = self.held.summary(&ids) else { return self.release(&ids, None).map(Some) };
        let sender = Arc::clone(&self.sender);
        let delivery = async move { sender.deliver(Message::Summary(&summary)).await };
        self.summary = Some((ids, self.setup.runtime.spawn(delivery)));
        Ok(Some(Vec::new()))
    }

    /// Ends the holding back of alerts that were summed up, or could not be: then each goes to the dead-letter topic.
    fn release(&mut self, ids: &[AlertId], undelivered: Option<Undelivered>) -> Result<Commits, SinkError> {
        let sources = self.held.release(ids, SystemClock.now());
        let refusal = undelivered.map(|why| Refusal::put(why.class(R::KIND), &why));
        for source in &sources {
            if let Some(refusal) = &refusal
                && !self.send_dead_letter(source, refusal)?
            {
                return Ok(Vec::new());
            }
        }
        let partitions: BTreeSet<Partition> = sources.iter().map(|source| source.partition).collect();
        Ok(self.commits(partitions.into_iter()))
    }

    /// Sends one refused record, and waits until the topic has it. False: told to stop before.
    fn send_dead_letter(&self, source: &Source, refusal: &Refusal) -> Result<bool, SinkError> {
        let undeliverable = |why| SinkError::DeadLetter {
            sink: self.setup.sink.clone(),
            topic: self.setup.dead_letter.clone(),
            why,
        };
        let record = RefusedRecord {
            partition: source.partition,
            offset: source.offset,
            timestamp: source.timestamp,
            key: source.key.as_deref(),
            value: source.value.as_deref(),
            refusal,
        };
        loop {
            let acks = Acks::new();
            match self.dead_letters.send(&record, acks.expect(0)) {
                Ok(()) => {
                    while !acks.wait(STEP) {
                        if self.is_stopping() {
                            return Ok(false);
                        }
                    }
                    if let Some((_, error)) = acks.take_failed().into_iter().next() {
                        return Err(undeliverable(error.why));
                    }
                    self.metrics
                        .dead_letters
                        .get_or_create(&SinkLabels { sink: self.setup.sink.clone() })
                        .inc();
                    tracing::warn!(sink = self.setup.sink, refusal.message, "not delivered");
                    return Ok(true);
                }
                Err(SendError::Refused(why)) => return Err(undeliverable(why)),
                Err(SendError::Full | SendError::Unavailable(_)) if self.is_stopping() => return Ok(false),
                // The producer drains its queue by itself.
                Err(SendError::Full | SendError::Unavailable(_)) => std::thread::sleep(STEP),
            }
        }
    }

    /// Learns from a record before the commit what was told of its alert, and whether that was held back.
    fn recall(&mut self, pending: Pending) {
        let Some(alert) = pending.alert() else { return };
        let mut memory = lock(&self.memory);
        let before = memory.told(&alert.id);
        let (told, message) = before.after(alert.state);
        memory.remember(alert.id.clone(), told);
        drop(memory);
        let mark = self.marks.get(&pending.source.partition);
        let mark = mark.filter(|mark| message && pending.source.offset >= mark.held_from);
        let quiet = mark.and_then(|mark| self.held.quiet_before(mark, alert, pending.source.timestamp));
        self.hold_back(pending, quiet.map(|quiet| (quiet, before == Told::Nothing)));
    }

    /// What is under way starts again, and remembers what was delivered.
    fn abort(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.abort();
        }
        if let Some((_, summary)) = self.summary.take() {
            summary.abort();
        }
        self.sent.clear();
    }

    fn hold(&mut self, assignment: &mut Assignment<Self>, held: bool) -> Result<(), SinkError> {
        self.is_held = held;
        assignment.hold(held).map_err(|error| self.bus_error(error))
    }
}

impl<B: Bus, R: Receiver> Processor for AlertSink<B, R> {
    type Consumer = B::Consumer;
    type Clock = SystemClock;
    type Error = SinkError;

    fn bus_error(&self, source: BusError) -> SinkError {
        SinkError::Bus { sink: self.setup.sink.clone(), source }
    }

    fn demand(&mut self, wait: Duration) -> Option<Demand> {
        let limit = FETCH_MAX.min(BATCH_MAX.saturating_sub(self.batch.len())).max(1);
        self.has_more = self.is_held;
        // While a message is on its way, it is not idle.
        Some(Demand { limit, wait: wait.min(STEP), idle: !self.is_busy() })
    }

    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, SinkError> {
        let committed = match assignment.consumer().committed(partitions) {
            Ok(committed) => committed,
            Err(error) if error.is_retryable() => return Ok(TakeOver::Later(self.pauses.next())),
            Err(error) => return Err(self.bus_error(error)),
        };
        let ends = match assignment.consumer().end_offsets(partitions, PATIENCE) {
            Ok(ends) => ends,
            Err(error) if error.is_retryable() => return Ok(TakeOver::Later(self.pauses.next())),
            Err(error) => return Err(self.bus_error(error)),
        };
        self.pauses.reset();
        let start = |(partition, commit): (Partition, Option<Commit>)| {
            let next = commit.as_ref().map_or(Offset(0), |commit| commit.next);
            let end = ends.iter().find(|(of, _)| *of == partition).map(|(_, end)| *end);
            // A commit beyond the end is of a topic that was recreated: nothing of this one was delivered.
            let next = if end.is_some_and(|end| next > end) { Offset(0) } else { next };
            self.delivered.insert(partition, next);
            let mark = commit.as_ref().filter(|commit| commit.next == next);
            let mark = mark.and_then(|commit| Mark::parse(&commit.metadata));
            let from = mark.as_ref().map_or(next.0, |mark| mark.held_from.0).min(next.0 - REREAD);
            self.marks.remove(&partition);
            self.marks.extend(mark.map(|mark| (partition, mark)));
            // The consumer begins with the first record that the topic still has.
            Start { partition, from: Offset(from.max(0)), committed: commit }
        };
        Ok(TakeOver::Begin(committed.into_iter().map(start).collect()))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.has_more = true;
        let least = self.setup.min_severity;
        let alert = match record.value.map(Alert::parse) {
            None => Ok(None),
            Some(Ok(alert)) => Ok(Some(alert).filter(|alert| alert.severity >= least)),
            Some(Err(error)) => Err(Refusal::malformed(&error)),
        };
        if let Ok(Some(Alert { detector, explanation: Some(_), .. })) = &alert
            && self.explaining.len() < EXPLAINING_MAX
            && !self.explaining.contains(detector)
        {
            self.explaining.insert(detector.clone());
        }
        let source = Source {
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
        };
        let pending = Pending { source, received: SystemClock.now(), alert };
        if self.delivered.get(&record.partition).is_some_and(|next| record.offset < *next) {
            self.recall(pending);
        } else {
            self.batch.push(pending);
        }
        Ok(())
    }

    /// Sends off what is ready, or sees to what has come back.
    fn advance(&mut self, assignment: &mut Assignment<Self>, wait: Duration) -> Result<Commits, SinkError> {
        if let Some((ids, mut summary)) = self.summary.take() {
            match self.report(&mut summary, wait)? {
                None => self.summary = Some((ids, summary)),
                Some(done) => return self.release(&ids, done.err()),
            }
            return Ok(Vec::new());
        }
        match self.delivery.take() {
            None if self.is_stopping() => self.hold(assignment, false)?,
            None => {
                if let Some(commits) = self.send_summary()? {
                    self.hold(assignment, self.summary.is_some())?;
                    return Ok(commits);
                }
                self.sent = self.ready();
                self.hold(assignment, !self.sent.is_empty())?;
                if !self.sent.is_empty() {
                    self.delivery = Some(self.send_off());
                }
            }
            Some(mut delivery) => match self.report(&mut delivery, wait)? {
                None => self.delivery = Some(delivery),
                Some(report) => return self.conclude(report),
            },
        }
        Ok(Vec::new())
    }

    fn is_busy(&self) -> bool {
        self.delivery.is_some() || self.summary.is_some()
    }

    /// What is not through by then comes again.
    fn flush(&mut self, _assignment: &mut Assignment<Self>, _why: Flush<'_>) -> Result<Commits, SinkError> {
        self.abort();
        Ok(Vec::new())
    }

    fn patience(&self) -> Duration {
        FINISH_PATIENCE
    }

    fn overdue(&mut self) -> Result<(), SinkError> {
        self.abort();
        Ok(())
    }

    fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.abort();
        self.held.drop_partitions(partitions);
        self.marks.retain(|partition, _| !partitions.contains(partition));
        self.batch.retain(|pending| !partitions.contains(&pending.source.partition));
        self.delivered.retain(|partition, _| !partitions.contains(partition));
    }

    /// Whoever has the partition now delivers it again.
    fn commit_failed(&mut self, error: BusError) -> Result<(), SinkError> {
        match error {
            BusError::NotOwner { .. } => Ok(()),
            error => Err(self.bus_error(error)),
        }
    }
}

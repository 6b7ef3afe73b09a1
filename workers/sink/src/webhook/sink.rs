//! What a member of a webhook sink's group does.
//!
//! A thread drives the consumer; messages go out from tasks, a few at a time, those of one alert in order. While they do,
//! the consumer is held but stays a member of its group, however slow the endpoint is. The position is committed after
//! the last message of what was sent off was taken or given up, so each is sent at least once. A message waits up to two seconds for the
//! explanation of its alert (`ready`); meanwhile further records are taken in.
//!
//! Records of an alert come as long as it lasts, but only its beginning and its end are told. A member that takes a partition over
//! reads the records before the commit once more, to know what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use herd_bus::{Acks, Bus, BusError, Commit, Consumer, Membership, Record, SendError};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, Start, TakeOver};
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{Alert, Severity};
use herd_stage::backoff::{Pace, Pauses};
use herd_stage::{Clock, Stage, SystemClock, Waiting};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::deliver::{Alerts, Report, deliver, lock};
use super::notified::Notified;
use super::post::{Post, Undelivered};
use super::ready::{Explanations, Taken, ready};
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
    pub(super) stage: Stage,
    pub(super) runtime: Handle,
}

/// A record, until what it says is delivered.
struct Pending {
    partition: Partition,
    offset: Offset,
    timestamp: WallTime,
    received: WallTime,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// None: nothing to deliver.
    alert: Result<Option<Alert>, Refusal>,
}

impl Pending {
    fn alert(&self) -> Option<&Alert> {
        self.alert.as_ref().ok()?.as_ref()
    }
}

pub(super) struct WebhookSink<B: Bus> {
    setup: Setup,
    dead_letters: DeadLetters<B::Producer>,
    metrics: SinkMetrics,
    post: Arc<Post<SystemClock>>,
    memory: Arc<Mutex<Notified>>,
    /// Where each partition goes on: earlier records were delivered by a member before.
    delivered: BTreeMap<Partition, Offset>,
    batch: Vec<Pending>,
    /// The detectors with an alert that was explained: only messages of theirs wait for an explanation.
    explaining: BTreeSet<String>,
    /// The places in the batch of what is under way.
    sent: BTreeSet<usize>,
    /// The delivery of these.
    delivery: Option<JoinHandle<Report>>,
    pauses: Pauses,
}

impl<B: Bus> WebhookSink<B> {
    pub(super) fn join(setup: Setup, bus: &B, post: Post<SystemClock>) -> Result<Member<Self>, SinkError> {
        let failed = |source| SinkError::Bus { sink: setup.sink.clone(), source };
        let connector = format!("sink.{}", setup.sink);
        let producer = bus.producer(&connector).map_err(failed)?;
        let membership = Membership::Group { group: &setup.group, instance: Some(&setup.member) };
        let consumer = bus.consumer(&setup.topic, membership).map_err(failed)?;
        let waiting = Waiting::register(&setup.stage, "webhook");
        let sink = Self {
            dead_letters: DeadLetters {
                producer,
                topic: setup.dead_letter.clone(),
                source: setup.topic.clone(),
                connector,
            },
            metrics: SinkMetrics::of(&setup.stage),
            post: Arc::new(post),
            memory: Arc::default(),
            delivered: BTreeMap::new(),
            batch: Vec::new(),
            explaining: BTreeSet::new(),
            sent: BTreeSet::new(),
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
                partition: pending.partition,
                since: pending.timestamp.min(pending.received),
                alert: pending.alert(),
            })
            .collect();
        let memory = lock(&self.memory);
        let is_full = self.batch.len() >= BATCH_MAX;
        ready(&records, &self.explaining, |id| memory.told(id), is_full, SystemClock.now())
    }

    /// Starts the messages of what is to be sent, each with the latest explanation that has come.
    fn send_off(&self) -> JoinHandle<Report> {
        let explanations = Explanations::of(self.batch.iter().filter_map(Pending::alert));
        let mut alerts = Alerts::new();
        for index in &self.sent {
            if let Some(alert) = self.batch.get(*index).and_then(Pending::alert) {
                let mut alert = alert.clone();
                if let Some(explanation) = explanations.get(&alert.id) {
                    alert.explanation = Some(explanation.clone());
                }
                alerts.entry(alert.id.clone()).or_default().push((*index, alert));
            }
        }
        let (post, memory) = (Arc::clone(&self.post), Arc::clone(&self.memory));
        self.setup.runtime.spawn(deliver(post, memory, alerts))
    }

    /// What came of the delivery; none while it goes on after `wait`.
    fn report(&self, delivery: &mut JoinHandle<Report>, wait: Duration) -> Result<Option<Report>, SinkError> {
        if !delivery.is_finished() && wait.is_zero() {
            return Ok(None);
        }
        match self.setup.runtime.block_on(async { tokio::time::timeout(wait, delivery).await }) {
            Err(_) => Ok(None),
            Ok(Ok(report)) => Ok(Some(report)),
            Ok(Err(_)) => Err(SinkError::Thread {
                sink: self.setup.sink.clone(),
                part: "webhook deliveries",
                why: "panicked".into(),
            }),
        }
    }

    /// Sends what was refused or given up to the dead-letter topic; then what was sent is through.
    fn conclude(&mut self, report: Report) -> Result<Commits, SinkError> {
        let put = |(index, why): (usize, Undelivered)| (index, Refusal::put(why.class(), &why));
        let mut refused: Vec<(usize, Refusal)> = report.undelivered.into_iter().map(put).collect();
        for index in &self.sent {
            if let Some(Err(refusal)) = self.batch.get(*index).map(|pending| &pending.alert) {
                refused.push((*index, refusal.clone()));
            }
        }
        for (index, refusal) in &refused {
            if !self.send_dead_letter(*index, refusal)? {
                return Ok(Vec::new());
            }
        }
        for (id, told) in report.told {
            lock(&self.memory).remember(id, told);
        }
        let mut next: BTreeMap<Partition, Offset> = BTreeMap::new();
        let sent = std::mem::take(&mut self.sent);
        let mut rest = Vec::new();
        for (index, pending) in std::mem::take(&mut self.batch).into_iter().enumerate() {
            if sent.contains(&index) {
                let reached = next.entry(pending.partition).or_default();
                *reached = pending.offset.next().max(*reached);
            } else {
                rest.push(pending);
            }
        }
        self.batch = rest;
        let commit = |(partition, next)| (partition, Commit { next, metadata: String::new() });
        Ok(next.into_iter().map(commit).collect())
    }

    /// Sends one refused record, and waits until the topic has it. False: told to stop before.
    fn send_dead_letter(&self, index: usize, refusal: &Refusal) -> Result<bool, SinkError> {
        let undeliverable = |why| SinkError::DeadLetter {
            sink: self.setup.sink.clone(),
            topic: self.setup.dead_letter.clone(),
            why,
        };
        let Some(pending) = self.batch.get(index) else { return Ok(true) };
        let record = RefusedRecord {
            partition: pending.partition,
            offset: pending.offset,
            timestamp: pending.timestamp,
            key: pending.key.as_deref(),
            value: pending.value.as_deref(),
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

    /// What is under way starts again, and remembers what was delivered.
    fn abort(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.abort();
        }
        self.sent.clear();
    }

    fn hold(&self, assignment: &mut Assignment<Self>, held: bool) -> Result<(), SinkError> {
        assignment.hold(held).map_err(|error| self.bus_error(error))
    }
}

impl<B: Bus> Processor for WebhookSink<B> {
    type Consumer = B::Consumer;
    type Clock = SystemClock;
    type Error = SinkError;

    fn bus_error(&self, source: BusError) -> SinkError {
        SinkError::Bus { sink: self.setup.sink.clone(), source }
    }

    fn demand(&mut self, wait: Duration) -> Option<Demand> {
        let limit = FETCH_MAX.min(BATCH_MAX.saturating_sub(self.batch.len())).max(1);
        // While a message is on its way, it is not idle.
        Some(Demand { limit, wait: wait.min(STEP), idle: self.delivery.is_none() })
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
            // The consumer begins with the first record that the topic still has.
            Start { partition, from: Offset((next.0 - REREAD).max(0)), committed: commit }
        };
        Ok(TakeOver::Begin(committed.into_iter().map(start).collect()))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
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
        if self.delivered.get(&record.partition).is_some_and(|next| record.offset < *next) {
            if let Ok(Some(alert)) = alert {
                let mut memory = lock(&self.memory);
                let (told, _) = memory.told(&alert.id).after(alert.state);
                memory.remember(alert.id, told);
            }
            return Ok(());
        }
        self.batch.push(Pending {
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            received: SystemClock.now(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            alert,
        });
        Ok(())
    }

    /// Sends off what is ready, or sees to what has come back.
    fn advance(&mut self, assignment: &mut Assignment<Self>, wait: Duration) -> Result<Commits, SinkError> {
        match self.delivery.take() {
            None if self.is_stopping() => self.hold(assignment, false)?,
            None => {
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
        self.delivery.is_some()
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
        self.batch.retain(|pending| !partitions.contains(&pending.partition));
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

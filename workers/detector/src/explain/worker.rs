//! A member of the group `explain`: reads alerts, reads the events of those that are to be explained again, and sends the same records
//! with their explanation.
//!
//! Nothing exact depends on it. Records of alerts may come twice and out of order, and of an explanation the latest counts; so what a
//! member did before it died is done again, or not at all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use herd_bus::{Bus, BusError, Commit, Consumer, Membership, Outgoing, Record, Since};
use herd_member::{Assignment, Commits, Demand, Flush, Member, Processor, Start, TakeOver};
use herd_spec::plan::{DetectorPlan, MetricPlan, Plan};
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState, EventRef};
use herd_stage::Clock;

use super::question::LONGEST_REFERENCE;
use super::{Episodes, Look, Question};
use crate::DetectorError;
use crate::metrics::ExplainMetrics;
use crate::outbox::{CYCLE_PATIENCE, Outbox};

/// Records fetched at once.
const FETCH_MAX: usize = 512;
/// Most events that one look goes through; of more, the newest.
const EVENTS_MAX: u64 = 400_000;
/// Alerts that one look explains, the oldest first: each holds samples of about half a megabyte.
const LOOK_MAX: usize = 32;
/// Alerts that wait for a look; the oldest gives way.
const WAITING_MAX: usize = 1_000;
/// Alerts of which it is remembered what was told.
const TOLD_MAX: usize = 10_000;
/// Records that are older are not explained any more: a new member of an old pipeline begins with those that are kept.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the events of an alert are asked for.
const ATTEMPTS: u32 = 5;
/// How long the broker may take with a partition of events, between two records.
const SCAN_PATIENCE: Duration = Duration::from_secs(5);
/// How much an excess must have grown for the alert to be explained again while it lasts.
const GROWTH: f64 = 2.0;

/// What a member of the group does.
pub struct Explain<B: Bus, C> {
    bus: B,
    clock: C,
    events: String,
    alerts: String,
    partitions: u32,
    metrics: Vec<MetricPlan>,
    detectors: Vec<DetectorPlan>,
    /// Events may be so much ahead of the time at which they were received.
    skew: Duration,
    outbox: Outbox<B::Producer>,
    waiting: VecDeque<Waiting>,
    episodes: Episodes,
    told: BTreeMap<AlertId, Told>,
    order: VecDeque<AlertId>,
    next: BTreeMap<Partition, Offset>,
    next_look: WallTime,
    attempts: u32,
    /// Since when records are under way.
    sending: Option<WallTime>,
    counters: ExplainMetrics,
}

/// An alert that is to be explained.
struct Waiting {
    partition: Partition,
    offset: Offset,
    alert: Alert,
}

/// What was told of an alert.
#[derive(Clone, Copy)]
struct Told {
    excess: f64,
    is_over: bool,
}

impl<B: Bus, C: Clock> Explain<B, C> {
    /// Whether any detector of the plan explains its alerts.
    #[must_use]
    pub fn is_asked_for(plan: &Plan) -> bool {
        !plan.groups.explain.is_empty() && plan.detectors.iter().any(|detector| !detector.explain.is_empty())
    }

    /// Joins the group.
    ///
    /// # Errors
    /// If the bus refuses.
    pub fn join(
        plan: &Plan,
        bus: &B,
        clock: C,
        member: &str,
        counters: ExplainMetrics,
    ) -> Result<Member<Self>, DetectorError> {
        let detectors: Vec<DetectorPlan> =
            plan.detectors.iter().filter(|detector| !detector.explain.is_empty()).cloned().collect();
        let (events, alerts) = (plan.topics.events.name.clone(), plan.topics.alerts.name.clone());
        let membership = Membership::Group { group: &plan.groups.explain, instance: Some(member) };
        let consumer = bus.consumer(&alerts, membership)?;
        let explain = Self {
            bus: bus.clone(),
            clock: clock.clone(),
            partitions: bus.partitions(&events)?.max(1),
            events,
            alerts,
            metrics: plan.metrics.clone(),
            detectors,
            skew: plan.events.max_clock_skew,
            outbox: Outbox::new(bus.producer(&format!("{member}-explain"))?),
            waiting: VecDeque::new(),
            episodes: Episodes::default(),
            told: BTreeMap::new(),
            order: VecDeque::new(),
            next: BTreeMap::new(),
            next_look: clock.now(),
            attempts: 0,
            sending: None,
            counters,
        };
        Ok(Member::new(consumer, explain, clock, None))
    }

    /// Whether this record of an alert is to be explained.
    fn wants(&self, alert: &Alert) -> bool {
        if !matches!(alert.state, AlertState::Early | AlertState::Firing | AlertState::Resolved) {
            return false;
        }
        // Nothing came: there is nothing to look at.
        let is_silence = alert.count == 0 && alert.value == 0.0;
        let is_explained = self.detectors.iter().any(|of| of.name == *alert.detector);
        let is_new = match self.told.get(&alert.id) {
            None => true,
            Some(told) if told.is_over => false,
            Some(told) => {
                alert.state == AlertState::Resolved || excess(alert) >= GROWTH * told.excess.max(1.0)
            }
        };
        is_explained && is_new && !is_silence
    }

    /// Remembers what was told of an alert.
    fn note(&mut self, alert: &Alert) {
        let told = Told { excess: excess(alert), is_over: alert.state == AlertState::Resolved };
        match self.told.get_mut(&alert.id) {
            Some(known) => {
                known.excess = known.excess.max(told.excess);
                known.is_over |= told.is_over;
            }
            None => {
                self.told.insert(alert.id.clone(), told);
                self.order.push_back(alert.id.clone());
                if self.order.len() > TOLD_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.told.remove(&oldest);
                }
            }
        }
    }

    /// Reads the events once for all alerts that wait, and sends what it found.
    fn look(&mut self, now: WallTime) -> Result<(), DetectorError> {
        let count = self.waiting.len().min(LOOK_MAX);
        let waiting: Vec<Waiting> = self.waiting.drain(..count).collect();
        let question = |waiting: &Waiting| {
            let detector = self.detectors.iter().find(|of| of.name == *waiting.alert.detector)?;
            let metric = self.metrics.iter().find(|of| of.name == detector.metric)?;
            let question = Question::of(&waiting.alert, metric, detector.explain.clone(), LONGEST_REFERENCE);
            Some(question.except(self.episodes.others(&waiting.alert)))
        };
        let (asked, questions): (Vec<Waiting>, Vec<Question>) = waiting
            .into_iter()
            .filter_map(|waiting| question(&waiting).map(|question| (waiting, question)))
            .unzip();
        let mut look = Look::new(questions);
        let Some(begin) = look.begin() else { return Ok(()) };
        let begun = self.clock.instant();
        let sampled = match self.read(begin, &mut look) {
            Ok(sampled) => sampled,
            Err(error) if error.is_retryable() && self.attempts < ATTEMPTS => {
                self.attempts += 1;
                self.next_look = now.plus(PAUSE * self.attempts);
                tracing::debug!(%error, "the events of alerts cannot be read now");
                asked.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(%error, alerts = asked.len(), "alerts are not explained, because their events cannot be read");
                self.counters.passed_over(asked.len());
                asked.iter().for_each(|waiting| self.note(&waiting.alert));
                self.attempts = 0;
                return Ok(());
            }
        };
        self.attempts = 0;
        self.counters.looked(self.clock.instant() - begun);
        for (waiting, explanation) in asked.into_iter().zip(look.finish(sampled)) {
            self.note(&waiting.alert);
            let Some(explanation) = explanation else {
                self.counters.passed_over(1);
                continue;
            };
            let alert = Alert { explanation: Some(explanation), ..waiting.alert };
            let record = Outgoing {
                topic: &self.alerts,
                partition: None,
                key: Some(alert.id.0.as_bytes()),
                value: None,
                timestamp: now,
                headers: &[],
            };
            self.outbox.send(record, |out| alert.write(out))?;
            self.counters.explained();
            self.sending = Some(now);
        }
        Ok(())
    }

    /// Reads all events from a time on; whether older ones were left out because they are too many.
    fn read(&self, begin: EventTime, look: &mut Look) -> Result<bool, BusError> {
        let since =
            Since { time: WallTime(begin.0).minus(self.skew), most: EVENTS_MAX / u64::from(self.partitions) };
        let mut cut = false;
        for partition in (0..self.partitions).map(Partition) {
            let scanned =
                self.bus.scan_since(&self.events, partition, since, SCAN_PATIENCE, &mut |record| {
                    if let Some(Ok(event)) = record.value.map(EventRef::parse) {
                        look.add(&event);
                    }
                })?;
            cut |= scanned.cut;
        }
        Ok(cut)
    }

    /// Everything before the first alert that waits is done.
    fn commits(&self) -> Commits {
        let first = |partition: Partition| {
            let of = self.waiting.iter().filter(|waiting| waiting.partition == partition);
            of.map(|waiting| waiting.offset).min()
        };
        let commit = |(partition, next): (&Partition, &Offset)| {
            let next = first(*partition).unwrap_or(*next);
            (*partition, Commit { next, metadata: String::new() })
        };
        self.next.iter().filter(|(_, next)| **next > Offset(0)).map(commit).collect()
    }
}

fn excess(alert: &Alert) -> f64 {
    alert.episode.as_ref().map_or(alert.value - alert.expected, |episode| episode.excess).abs()
}

impl<B: Bus, C: Clock> Processor for Explain<B, C> {
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
        let wait = if self.waiting.is_empty() { wait } else { wait.min(self.next_look.since(now)) };
        Some(Demand { limit: FETCH_MAX, wait, idle: true })
    }

    fn take_over(
        &mut self,
        assignment: &mut Assignment<Self>,
        partitions: &[Partition],
    ) -> Result<TakeOver, DetectorError> {
        let consumer = assignment.consumer();
        let ends = consumer.end_offsets(partitions, SCAN_PATIENCE)?;
        let start = |(partition, commit): (Partition, Option<Commit>)| {
            let next = commit.as_ref().map_or(Offset(0), |commit| commit.next);
            // A commit beyond the end is of a topic that was recreated.
            let is_beyond = ends.iter().any(|(of, end)| *of == partition && next > *end);
            Start { partition, from: if is_beyond { Offset(0) } else { next }, committed: commit }
        };
        let starts: Vec<Start> = consumer.committed(partitions)?.into_iter().map(start).collect();
        self.next.extend(starts.iter().map(|start| (start.partition, start.from)));
        Ok(TakeOver::Begin(starts))
    }

    fn process(&mut self, record: &Record<'_>) -> Result<(), DetectorError> {
        let (partition, offset) = (record.partition, record.offset);
        self.next.insert(partition, offset.next());
        let is_old = self.clock.now().since(record.timestamp) > MAX_AGE;
        let Some(Ok(alert)) = record.value.filter(|_| !is_old).map(Alert::parse) else { return Ok(()) };
        self.episodes.note(&alert);
        if alert.explanation.is_some() {
            self.note(&alert);
            return Ok(());
        }
        if self.wants(&alert) {
            // Of an alert the newest record is explained; and it is committed that the older one was not.
            self.waiting.retain(|waiting| waiting.alert.id != alert.id);
            self.waiting.push_back(Waiting { partition, offset, alert });
            if self.waiting.len() > WAITING_MAX {
                self.waiting.pop_front();
                self.counters.passed_over(1);
            }
        }
        Ok(())
    }

    fn advance(
        &mut self,
        _assignment: &mut Assignment<Self>,
        wait: Duration,
    ) -> Result<Commits, DetectorError> {
        let now = self.clock.now();
        if let Some(since) = self.sending {
            if !self.outbox.settled(wait)? {
                let is_slow = now.since(since) > CYCLE_PATIENCE;
                return if is_slow {
                    Err(DetectorError::Slow { what: "explanations" })
                } else {
                    Ok(Vec::new())
                };
            }
            self.sending = None;
        } else if !self.waiting.is_empty() && now >= self.next_look {
            self.next_look = now.plus(PAUSE);
            self.look(now)?;
            if self.sending.is_some() {
                return Ok(Vec::new());
            }
        }
        Ok(self.commits())
    }

    fn is_busy(&self) -> bool {
        self.sending.is_some()
    }

    fn flush(
        &mut self,
        _assignment: &mut Assignment<Self>,
        _why: Flush<'_>,
    ) -> Result<Commits, DetectorError> {
        // What waits is explained by a successor.
        Ok(if self.is_busy() { Vec::new() } else { self.commits() })
    }

    fn patience(&self) -> Duration {
        CYCLE_PATIENCE
    }

    fn overdue(&mut self) -> Result<(), DetectorError> {
        Err(DetectorError::Slow { what: "explanations" })
    }

    fn drop_partitions(&mut self, partitions: &[Partition]) {
        self.waiting.retain(|waiting| !partitions.contains(&waiting.partition));
        self.next.retain(|partition, _| !partitions.contains(partition));
    }
}

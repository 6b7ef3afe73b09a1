//! The protocol with one of its rules broken, at the seam of the bus: the stages are what they are, and the bus lies to them.
//! Each of these must be caught by the seeds, or the seeds prove nothing.

use std::sync::Arc;
use std::time::Duration;

use herd_bus::simulated::{SimulatedBus, SimulatedConsumer, SimulatedProducer};
use herd_bus::{
    Ack, Acks, Bus, BusError, Commit, Consumer, Fetched, Membership, Outgoing, Producer, Progress, Record,
    Scanned, SendError, Since,
};
use herd_spec::plan::{ALL_KEY, AlertLimit, Algorithm, MetricPlan, Plan, TopicPlan};
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{EventRef, PartRecord, SourceState, SourceTotal, metric_key};
use parking_lot::Mutex;

use crate::plan::{ALERTS, BASELINES, EVENTS, PARTS, WINDOWS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Fold commits before its parts are acknowledged.
    FoldCommitsFirst,
    /// Judge commits before its windows, alerts and baselines are acknowledged.
    JudgeCommitsFirst,
    /// Who takes a source over begins at the committed offset.
    FoldReplaysNothing,
    /// Who takes a partition of parts over begins at the committed offset.
    JudgeReplaysNothing,
    /// Who takes a source over counts into closed windows too.
    ReplaysIntoClosedWindows,
    /// Of a source's parts the last counts, whatever its version.
    LastPartWins,
    /// Watermarks overtake the parts before them.
    WatermarksFirst,
    /// Idle and empty sources have no say in what is closed.
    IdleIsLeftOut,
    /// Baselines are saved before the windows and alerts they stand for are out.
    BaselineFirst,
    /// Sinks store without looking where the position stands. (See `tables`.)
    NoFence,
    /// Nobody looks whether an event came before.
    NoDedupe,
    /// Who takes a source over is not told by which definitions events were counted.
    DefinitionsForgotten,
    /// Parts of definitions that a judge does not have are passed over.
    OtherDefinitionsDropped,
    /// Values that a source counted before and after another definition count as one.
    SinceIgnored,
    /// Baselines are kept whatever they were learnt from.
    BaselinesKept,
    /// Baselines of other definitions are passed over, and the alerts that fire in them.
    OtherBaselinesIgnored,
    /// Judges do not learn how much traffic other partitions have.
    TotalsDropped,
    /// What one source has counted over all keys counts twice.
    TotalsOfOneSourceTwice,
    /// Of a source's totals of a window the first counts, whatever its version.
    FirstTotalWins,
    /// Of a source's totals of a window the last counts, whatever its version.
    LastTotalWins,
    /// Totals that are announced with early parts close windows.
    EarlyTotalsClose,
    /// What the keys of a partition have in common is not saved.
    PopulationNotSaved,
    /// It is saved, but after the keys.
    PopulationAfterKeys,
    /// What is known of the traffic of a whole metric is not saved.
    TotalNotSaved,
    /// Detectors do not keep to the budget of the plan, but to the default.
    BudgetIgnored,
}

impl Mutant {
    pub(crate) const ALL: [Self; 25] = [
        Self::FoldCommitsFirst,
        Self::JudgeCommitsFirst,
        Self::FoldReplaysNothing,
        Self::JudgeReplaysNothing,
        Self::ReplaysIntoClosedWindows,
        Self::LastPartWins,
        Self::WatermarksFirst,
        Self::IdleIsLeftOut,
        Self::BaselineFirst,
        Self::NoFence,
        Self::NoDedupe,
        Self::DefinitionsForgotten,
        Self::OtherDefinitionsDropped,
        Self::SinceIgnored,
        Self::BaselinesKept,
        Self::OtherBaselinesIgnored,
        Self::TotalsDropped,
        Self::TotalsOfOneSourceTwice,
        Self::FirstTotalWins,
        Self::LastTotalWins,
        Self::EarlyTotalsClose,
        Self::PopulationNotSaved,
        Self::PopulationAfterKeys,
        Self::TotalNotSaved,
        Self::BudgetIgnored,
    ];

    /// Whether only changes of the spec can show it.
    pub(crate) fn is_of_changes(self) -> bool {
        matches!(
            self,
            Self::DefinitionsForgotten
                | Self::OtherDefinitionsDropped
                | Self::SinceIgnored
                | Self::BaselinesKept
                | Self::OtherBaselinesIgnored
        )
    }
}

impl Mutant {
    /// The plan as members get it.
    pub(crate) fn plan(mutant: Option<Self>, mut plan: Plan) -> Plan {
        for detector in plan.detectors.iter_mut().filter(|_| mutant == Some(Self::BudgetIgnored)) {
            if let Algorithm::Crowd(limit @ AlertLimit::Budget(_)) = &mut detector.algorithm {
                *limit = AlertLimit::DEFAULT;
            }
        }
        plan
    }
}

/// Whether a record of `baselines` is of what the keys of a partition have in common.
fn is_population(key: Option<&[u8]>) -> bool {
    let of_detector =
        key.and_then(|key| key.split(|byte| *byte == 0x1F).next()).is_some_and(|of| of.contains(&b'/'));
    of_detector && !is_total(key)
}

/// Whether it is of the traffic of a whole metric.
fn is_total(key: Option<&[u8]>) -> bool {
    key.is_some_and(|key| key.ends_with(ALL_KEY.as_bytes()))
}

#[derive(Clone)]
pub(crate) struct MutantBus {
    pub(crate) bus: SimulatedBus,
    pub(crate) mutant: Option<Mutant>,
}

impl Bus for MutantBus {
    type Producer = MutantProducer;
    type Consumer = MutantConsumer;

    fn producer(&self, name: &str) -> Result<MutantProducer, BusError> {
        // Stages name their producers after themselves.
        let applies = |mutant: &Mutant| match mutant {
            Mutant::FoldCommitsFirst | Mutant::WatermarksFirst => name.ends_with("-fold"),
            Mutant::JudgeCommitsFirst
            | Mutant::BaselineFirst
            | Mutant::PopulationNotSaved
            | Mutant::PopulationAfterKeys
            | Mutant::TotalNotSaved => name.ends_with("-judge"),
            _ => false,
        };
        Ok(MutantProducer {
            producer: self.bus.producer(name)?,
            bus: self.bus.clone(),
            mutant: self.mutant.filter(applies),
            held: Arc::default(),
        })
    }

    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<MutantConsumer, BusError> {
        let folds = matches!(membership, Membership::Group { group, .. } if group.ends_with(".fold"));
        let applies = |mutant: &Mutant| match mutant {
            Mutant::FoldReplaysNothing
            | Mutant::ReplaysIntoClosedWindows
            | Mutant::NoDedupe
            | Mutant::DefinitionsForgotten => topic == EVENTS && folds,
            Mutant::JudgeReplaysNothing
            | Mutant::LastPartWins
            | Mutant::IdleIsLeftOut
            | Mutant::OtherDefinitionsDropped
            | Mutant::SinceIgnored
            | Mutant::TotalsDropped
            | Mutant::TotalsOfOneSourceTwice
            | Mutant::FirstTotalWins
            | Mutant::LastTotalWins
            | Mutant::EarlyTotalsClose => topic == PARTS,
            _ => false,
        };
        let consumer = self.bus.consumer(topic, membership)?;
        Ok(MutantConsumer { consumer, mutant: self.mutant.filter(applies) })
    }

    fn ensure_topics(&self, topics: &[&TopicPlan]) -> Result<(), BusError> {
        self.bus.ensure_topics(topics)
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        self.bus.partitions(topic)
    }

    fn scan(
        &self,
        topic: &str,
        partition: Partition,
        patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError> {
        match self.mutant {
            Some(Mutant::OtherBaselinesIgnored) => self.bus.scan(topic, partition, patience, &mut |record| {
                let plan = crate::plan::of(1, 1);
                let of = record.key.and_then(|key| std::str::from_utf8(key).ok()?.split('\u{1F}').next());
                let is_original = |metric: &MetricPlan| {
                    of == Some(&*format!("{}@{}", metric.name, metric.baseline_definition()))
                };
                if plan.metrics.iter().any(is_original) {
                    each(record);
                }
            }),
            // To whom it is told that every record is of every definition, one of them is the right one.
            Some(Mutant::BaselinesKept) => self.bus.scan(topic, partition, patience, &mut |record| {
                let Some((of, key)) =
                    record.key.and_then(|key| std::str::from_utf8(key).ok()?.split_once('\u{1F}'))
                else {
                    return each(record);
                };
                let name = of.split('@').next().unwrap_or_default();
                let known = crate::change::known(name);
                if known.is_empty() {
                    return each(record);
                }
                for metric in known {
                    let of = format!("{}@{}", metric.name, metric.baseline_definition());
                    each(&Record { key: Some(&metric_key(&of, key)), ..*record });
                }
            }),
            _ => self.bus.scan(topic, partition, patience, each),
        }
    }

    fn scan_since(
        &self,
        topic: &str,
        partition: Partition,
        since: Since,
        patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Scanned, BusError> {
        self.bus.scan_since(topic, partition, since, patience, each)
    }

    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError> {
        self.bus.progress(topic, group)
    }

    fn ping(&self, patience: Duration) -> Result<(), BusError> {
        self.bus.ping(patience)
    }
}

/// A record kept back.
struct Held {
    topic: String,
    partition: Option<Partition>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp: WallTime,
}

#[derive(Clone)]
pub(crate) struct MutantProducer {
    producer: SimulatedProducer,
    bus: SimulatedBus,
    mutant: Option<Mutant>,
    held: Arc<Mutex<Vec<Held>>>,
}

/// An acknowledgement that nobody waits for.
fn nobody() -> Ack {
    Acks::new().expect(0)
}

impl MutantProducer {
    fn hold(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        self.held.lock().push(Held {
            topic: record.topic.to_owned(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp: record.timestamp,
        });
        ack.report(Ok(()));
        Ok(())
    }

    /// Sends what was held back of those chosen.
    fn release(&self, chosen: impl Fn(&Held) -> bool) -> Result<(), SendError> {
        let (out, kept) = std::mem::take(&mut *self.held.lock()).into_iter().partition(chosen);
        *self.held.lock() = kept;
        let out: Vec<Held> = out;
        for held in &out {
            let record = Outgoing {
                topic: &held.topic,
                partition: held.partition,
                key: held.key.as_deref(),
                value: held.value.as_deref(),
                timestamp: held.timestamp,
                headers: &[],
            };
            // There may be no room for a while; a mutant has patience.
            while let Err(SendError::Full) = self.producer.send(&record, nobody()) {
                self.producer.flush(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

impl Producer for MutantProducer {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        match self.mutant {
            Some(Mutant::FoldCommitsFirst | Mutant::JudgeCommitsFirst) => {
                let sent = self.producer.send(record, nobody());
                if sent.is_ok() {
                    ack.report(Ok(()));
                } else {
                    ack.cancel();
                }
                sent
            }
            Some(Mutant::WatermarksFirst) if record.key != Some(b"watermark") => self.hold(record, ack),
            Some(Mutant::WatermarksFirst) => {
                self.producer.send(record, ack)?;
                self.bus.settle();
                self.release(|held| held.partition == record.partition)
            }
            Some(Mutant::BaselineFirst) if [WINDOWS, ALERTS].contains(&record.topic) => {
                // Those of a cycle that saved nothing.
                self.release(|held| held.timestamp < record.timestamp)?;
                self.hold(record, ack)
            }
            Some(Mutant::BaselineFirst) => {
                self.producer.send(record, ack)?;
                self.bus.settle();
                self.release(|_| true)
            }
            Some(Mutant::PopulationNotSaved) if is_population(record.key) => {
                ack.report(Ok(()));
                Ok(())
            }
            Some(Mutant::TotalNotSaved) if is_total(record.key) => {
                ack.report(Ok(()));
                Ok(())
            }
            Some(Mutant::PopulationAfterKeys) if record.topic == BASELINES => {
                // With those of the next cycle.
                self.release(|held| held.timestamp < record.timestamp)?;
                if is_population(record.key) {
                    self.hold(record, ack)
                } else {
                    self.producer.send(record, ack)
                }
            }
            _ => self.producer.send(record, ack),
        }
    }

    fn flush(&self, patience: Duration) -> usize {
        self.producer.flush(patience)
    }
}

pub(crate) struct MutantConsumer {
    consumer: SimulatedConsumer,
    mutant: Option<Mutant>,
}

/// The record's value as the mutant has it.
fn altered(mutant: Mutant, record: &Record<'_>) -> Option<Vec<u8>> {
    let value = record.value?;
    let mut out = Vec::new();
    if mutant == Mutant::NoDedupe {
        let mut event = EventRef::parse(value).ok()?;
        event.event_id = format!("{}#{}", event.event_id, record.offset).into();
        return serde_json::to_vec(&event).ok();
    }
    match (mutant, PartRecord::parse(value).ok()?) {
        (Mutant::LastPartWins, PartRecord::Part(mut part)) => {
            part.version = record.offset;
            PartRecord::Part(part).write(&mut out);
        }
        (Mutant::OtherDefinitionsDropped, PartRecord::Part(mut part)) if part.shape.is_some() => {
            let original = crate::plan::of(1, 1);
            let of = original.metric(&part.metric)?;
            if part.shape.is_some_and(|shape| shape.definition != of.definition()) {
                part.metric = "nobody's".into();
                part.shape = None;
            }
            PartRecord::Part(part).write(&mut out);
        }
        (Mutant::SinceIgnored, PartRecord::Part(mut part)) => {
            part.since = Offset(0);
            PartRecord::Part(part).write(&mut out);
        }
        (Mutant::IdleIsLeftOut, PartRecord::Watermark(mut watermark))
            if watermark.state != SourceState::Active =>
        {
            watermark.watermark = Some(EventTime(4_000_000_000_000));
            watermark.state = SourceState::Active;
            PartRecord::Watermark(watermark).write(&mut out);
        }
        (Mutant::EarlyTotalsClose, PartRecord::Watermark(mut watermark))
            if watermark.watermark.is_none() && watermark.state == SourceState::Active =>
        {
            watermark.watermark = watermark.totals.iter().map(|total| total.start).max();
            PartRecord::Watermark(watermark).write(&mut out);
        }
        (Mutant::TotalsDropped, PartRecord::Watermark(mut watermark)) => {
            watermark.totals.clear();
            PartRecord::Watermark(watermark).write(&mut out);
        }
        (Mutant::TotalsOfOneSourceTwice, PartRecord::Watermark(mut watermark)) if watermark.source.0 == 0 => {
            let again: Vec<SourceTotal> = watermark.totals.clone();
            watermark
                .totals
                .extend(again.into_iter().map(|total| SourceTotal { since: Offset(-1), ..total }));
            PartRecord::Watermark(watermark).write(&mut out);
        }
        (Mutant::FirstTotalWins | Mutant::LastTotalWins, PartRecord::Watermark(mut watermark)) => {
            let is_first = mutant == Mutant::FirstTotalWins;
            let version = if is_first { Offset(i64::MAX - record.offset.0) } else { record.offset };
            watermark.totals.iter_mut().for_each(|total| total.version = version);
            PartRecord::Watermark(watermark).write(&mut out);
        }
        _ => return None,
    }
    Some(out)
}

impl Consumer for MutantConsumer {
    fn fetch<E, F>(&mut self, wait: Duration, limit: usize, mut each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>,
    {
        let Some(mutant) = self.mutant else { return self.consumer.fetch(wait, limit, each) };
        self.consumer.fetch(wait, limit, |record| match altered(mutant, record) {
            Some(value) => each(&Record { value: Some(&value), ..*record }),
            None => each(record),
        })
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        self.consumer.start(from)
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        self.consumer.release(partitions)
    }

    fn pause(&mut self, partitions: &[Partition], paused: bool) -> Result<(), BusError> {
        self.consumer.pause(partitions, paused)
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        let mut commits = self.consumer.committed(partitions)?;
        for commit in commits.iter_mut().filter_map(|(_, commit)| commit.as_mut()) {
            let words: Vec<&str> = commit.metadata.split(' ').collect();
            commit.metadata = match self.mutant {
                Some(Mutant::FoldReplaysNothing | Mutant::JudgeReplaysNothing) => {
                    format!("1 {} {}", commit.next, words[2])
                }
                Some(Mutant::ReplaysIntoClosedWindows) => format!("1 {} -", words[1]),
                Some(Mutant::DefinitionsForgotten) => words[..3].join(" "),
                _ => continue,
            };
        }
        Ok(commits)
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        self.consumer.commit(commits)
    }

    fn partitions(&mut self, patience: Duration) -> Result<u32, BusError> {
        self.consumer.partitions(patience)
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        patience: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        self.consumer.end_offsets(partitions, patience)
    }

    fn close(self) {
        self.consumer.close();
    }
}

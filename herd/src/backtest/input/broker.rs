//! Events of the `events` topic, of Kafka or of the embedded broker of `herd up`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use herd_bus::embedded::EmbeddedBus;
use herd_bus::kafka::KafkaBus;
use herd_bus::{Bus, BusError};
use herd_spec::plan::{Plan, TopicPlan};
use herd_spec::units::{EventTime, Partition};
use herd_spec::wire::EventRef;
use herd_stage::Secrets;

use super::{Events, InputError, InputEvent, Opened};

/// How long a broker may be silent.
const PATIENCE: Duration = Duration::from_secs(15);
/// Records of a batch, and batches that are read ahead of each partition.
const BATCH: usize = 1_024;
const AHEAD: usize = 2;
/// The group whose progress is asked for; nothing is ever committed for it.
const GROUP: &str = "herd-backtest";

const KAFKA: &str =
    "check spec.kafka.bootstrapServers, that the brokers are running, and that the pipeline has run there";
const EMBEDDED: &str =
    "if `herd up` is running on this directory, stop it first: only one process can open the embedded broker";

/// The `events` topic of a pipeline.
pub(crate) struct TopicInput {
    topic: TopicPlan,
    broker: Broker,
}

enum Broker {
    Kafka(KafkaBus),
    Embedded(EmbeddedBus),
}

impl TopicInput {
    /// The topic of `plan`, on its Kafka, or without one on the embedded broker in the folder `bus` of `data`.
    ///
    /// # Errors
    /// If the settings are refused, or the folder cannot be opened.
    pub(crate) fn new(plan: &Plan, secrets: &Secrets, data: &std::path::Path) -> Result<Self, InputError> {
        let topic = plan.topics.events.clone();
        let broker = match &plan.kafka {
            Some(kafka) => {
                let kafka = herd_workers::kafka::connect(kafka, secrets, "herd-backtest");
                Broker::Kafka(
                    kafka.map_err(|error| InputError::Broker { why: error.to_string(), help: KAFKA })?,
                )
            }
            None => {
                let path: PathBuf = data.join("bus");
                if !path.is_dir() {
                    return Err(InputError::NoData { path });
                }
                let embedded = EmbeddedBus::open(&path);
                Broker::Embedded(
                    embedded
                        .map_err(|error| InputError::Broker { why: error.to_string(), help: EMBEDDED })?,
                )
            }
        };
        Ok(Self { topic, broker })
    }

    /// The topic's name.
    pub(super) fn name(&self) -> &str {
        &self.topic.name
    }

    /// How long it keeps events, for messages.
    pub(super) fn keeps(&self) -> Option<String> {
        let retention = self.topic.config.get("retention.ms")?.parse().ok()?;
        let days = Duration::from_millis(retention).as_secs_f64() / 86_400.0;
        Some(format!("it keeps records for {days:.1} days: see spec.kafka.retention"))
    }

    /// Opens it: everything up to where it ends now.
    ///
    /// # Errors
    /// If the broker does not answer, or the topic does not exist.
    pub(super) fn open(&self) -> Result<Opened, InputError> {
        match &self.broker {
            Broker::Kafka(bus) => open(bus, &self.topic.name)
                .map_err(|error| InputError::Broker { why: error.to_string(), help: KAFKA }),
            Broker::Embedded(bus) => open(bus, &self.topic.name)
                .map_err(|error| InputError::Broker { why: error.to_string(), help: EMBEDDED }),
        }
    }
}

fn open<B: Bus>(bus: &B, topic: &str) -> Result<Opened, BusError> {
    let progress = bus.progress(topic, GROUP)?;
    let total: i64 = progress.iter().map(|partition| partition.end.0 - partition.start.0).sum();
    let has_expired = progress.iter().any(|partition| partition.start.0 > 0);
    let partitions = progress.iter().map(|partition| partition.partition.0 + 1).max().unwrap_or(0);
    let unreadable = Arc::new(AtomicU64::new(0));
    let mut readers = Vec::with_capacity(progress.len());
    for place in progress.iter().filter(|place| place.start < place.end) {
        let (sender, batches) = sync_channel(AHEAD);
        let (bus, topic, partition) = (bus.clone(), topic.to_owned(), place.partition);
        let unreadable = Arc::clone(&unreadable);
        let read = move || read(&bus, &topic, partition, &sender, &unreadable);
        let spawned = std::thread::Builder::new().name(format!("read-{partition}")).spawn(read);
        spawned.map_err(|error| BusError::Unavailable {
            doing: "starting a reader".into(),
            why: error.to_string(),
        })?;
        let reader =
            Reader { partition, batches, batch: Batch::default(), at: 0, reached: EventTime(i64::MIN) };
        readers.push(reader);
    }
    let events = TopicEvents { readers, next: BinaryHeap::new(), current: None, is_begun: false, unreadable };
    Ok(Opened { events: Box::new(events), partitions, total: u64::try_from(total).ok(), has_expired })
}

/// Records of a partition, one after the other, with their times.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    records: Vec<(usize, EventTime)>,
}

/// Reads a partition into batches. Ends when nobody takes them.
fn read<B: Bus>(
    bus: &B,
    topic: &str,
    partition: Partition,
    sender: &SyncSender<Result<Batch, BusError>>,
    unreadable: &AtomicU64,
) {
    let mut batch = Batch::default();
    let mut is_wanted = true;
    let scanned = bus.scan(topic, partition, PATIENCE, &mut |record| {
        // A scan cannot be broken off, but it need not cost anything.
        if !is_wanted {
            return;
        }
        let value = record.value.unwrap_or_default();
        let Ok(event) = EventRef::parse(value) else {
            unreadable.fetch_add(1, Ordering::Relaxed);
            return;
        };
        batch.bytes.extend_from_slice(value);
        batch.records.push((batch.bytes.len(), event.time));
        if batch.records.len() == BATCH {
            is_wanted = sender.send(Ok(std::mem::take(&mut batch))).is_ok();
        }
    });
    // If nobody listens, nobody has to know.
    let _ = match scanned {
        Ok(_) if batch.records.is_empty() => Ok(()),
        Ok(_) => sender.send(Ok(batch)),
        Err(error) => sender.send(Err(error)),
    };
}

/// A partition: its batches, and how far it has got.
struct Reader {
    partition: Partition,
    batches: Receiver<Result<Batch, BusError>>,
    batch: Batch,
    at: usize,
    reached: EventTime,
}

impl Reader {
    /// Goes on to the next record; the time that is reached with it, or none at the end.
    fn advance(&mut self) -> Result<Option<EventTime>, BusError> {
        if self.at >= self.batch.records.len() {
            let Ok(batch) = self.batches.recv() else { return Ok(None) };
            self.batch = batch?;
            self.at = 0;
        }
        let time = self.batch.records.get(self.at).map(|(_, time)| *time);
        self.reached = time.map_or(self.reached, |time| self.reached.max(time));
        Ok(time.map(|_| self.reached))
    }

    fn take(&mut self) -> &[u8] {
        let end = |place: usize| self.batch.records.get(place).map_or(0, |(end, _)| *end);
        let begin = if self.at == 0 { 0 } else { end(self.at - 1) };
        let record = begin..end(self.at);
        self.at += 1;
        self.batch.bytes.get(record).unwrap_or_default()
    }
}

struct TopicEvents {
    readers: Vec<Reader>,
    /// The time that each reader has reached with its next record, earliest first.
    next: BinaryHeap<Reverse<(EventTime, usize)>>,
    /// The reader of the last event, which is not in `next`.
    current: Option<usize>,
    is_begun: bool,
    unreadable: Arc<AtomicU64>,
}

impl TopicEvents {
    fn advance(&mut self, place: usize) -> Result<(), InputError> {
        let reader = &mut self.readers[place];
        let help = "check that the brokers are still running";
        let reached =
            reader.advance().map_err(|error| InputError::Broker { why: error.to_string(), help })?;
        if let Some(reached) = reached {
            self.next.push(Reverse((reached, place)));
        }
        Ok(())
    }

    fn select(&mut self) -> Result<Option<usize>, InputError> {
        if !self.is_begun {
            self.is_begun = true;
            (0..self.readers.len()).try_for_each(|place| self.advance(place))?;
        } else if let Some(place) = self.current.take() {
            self.advance(place)?;
        }
        Ok(self.next.pop().map(|Reverse((_, place))| place))
    }
}

impl Events for TopicEvents {
    fn next_event(&mut self) -> Option<Result<InputEvent<'_>, InputError>> {
        let place = match self.select() {
            Ok(place) => place?,
            Err(error) => return Some(Err(error)),
        };
        self.current = Some(place);
        let reader = &mut self.readers[place];
        let partition = reader.partition;
        // It was read once, by the thread of the partition.
        let event = EventRef::parse(reader.take()).map_err(|_| InputError::Ended);
        Some(event.map(|event| InputEvent::Accepted { partition, event }))
    }

    fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }
}

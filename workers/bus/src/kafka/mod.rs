//! Apache Kafka through librdkafka.
//!
//! - `settings` is what clients are told, `context` what librdkafka calls back, `error` what its errors mean, `failure` why a connection failed;
//! - `producer` sends, `consumer` receives, `record` is what that hands out, `commits` keeps what a consumer has
//!   yet to commit, `unread` notices what a group does not read;
//! - `admin` creates topics, `topics` looks after them one by one, `look` sees how far many of them are;
//! - `requests` are those that need no member; they go through one reader.
//!
//! A stage's thread polls; records are lent from librdkafka's buffers. Rebalances are written down by the callback and
//! answered when the stage calls [`crate::Consumer::start`] and [`crate::Consumer::release`].

mod admin;
mod commits;
mod consumer;
mod context;
mod error;
mod failure;
mod look;
mod producer;
mod reading;
mod record;
mod requests;
mod settings;
mod topics;
mod unread;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition};
use parking_lot::Mutex;
use rdkafka::admin::AdminClient;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset as KafkaOffset;

pub use consumer::KafkaConsumer;
pub use look::{Places, TopicSize};
pub use producer::KafkaProducer;
pub use settings::{KafkaSaslSettings, KafkaSettings, KafkaTlsSettings};
pub use topics::TopicFacts;

use crate::{Bus, BusError, Membership, Progress, Record, Scanned, Since};
use context::Plain;
use error::bus_error;
use requests::{offsets_at, partitions_of};

/// How long a broker may take to answer where the caller does not say.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest single wait in librdkafka, so that other things get their turn.
const POLL: Duration = Duration::from_millis(250);
/// Errors among the lines of a log that are read at once.
const LOG_LINES: usize = 100;
/// A group's reader that nobody has asked for this long is closed.
const GROUP_IDLE: Duration = Duration::from_secs(120);

/// A Kafka cluster.
#[derive(Clone)]
pub struct KafkaBus {
    inner: Arc<Inner>,
}

/// A client that answers for one group, with when it was used last.
type GroupReader = (Arc<BaseConsumer<Plain>>, Instant);

struct Inner {
    settings: KafkaSettings,
    /// What all clients that only ask call back.
    plain: Plain,
    /// Answers questions about topics.
    reader: BaseConsumer<Plain>,
    /// One for each group whose progress was asked for lately, with when that was.
    groups: Mutex<HashMap<String, GroupReader>>,
    admin: Mutex<Option<Arc<AdminClient<Plain>>>>,
    /// Where partitions began when that was asked last.
    starts: Mutex<Option<look::Starts>>,
}

impl fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaBus").field(&self.inner.settings).finish()
    }
}

impl KafkaBus {
    /// Prepares to talk to a cluster. Connections are made when they are needed: use [`Bus::ping`] to see whether it answers.
    ///
    /// # Errors
    /// If the settings are refused.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, BusError> {
        let group = format!("{}.reader", settings.client_id);
        let plain = Plain::default();
        let reader = settings
            .reader("reader", &group)
            .create_with_context(plain.clone())
            .map_err(|error| bus_error("reading the settings of Kafka", &error))?;
        let inner = Inner {
            settings: settings.clone(),
            plain,
            reader,
            groups: Mutex::default(),
            admin: Mutex::default(),
            starts: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn settings(&self) -> &KafkaSettings {
        &self.inner.settings
    }

    /// The group of clients that never join one.
    fn reader_group(&self) -> String {
        format!("{}.reader", self.inner.settings.client_id)
    }

    fn group_reader(&self, group: &str) -> Result<Arc<BaseConsumer<Plain>>, BusError> {
        let mut groups = self.inner.groups.lock();
        // Each has threads and connections of its own: those that nobody asks for are closed.
        groups.retain(|name, (_, used)| name == group || used.elapsed() < GROUP_IDLE);
        if let Some((reader, used)) = groups.get_mut(group) {
            *used = Instant::now();
            return Ok(Arc::clone(reader));
        }
        let reader: BaseConsumer<Plain> = self
            .settings()
            .reader("progress", group)
            .create_with_context(self.inner.plain.clone())
            .map_err(|error| bus_error(format!("asking for the progress of {group}"), &error))?;
        let reader = Arc::new(reader);
        groups.insert(group.to_owned(), (Arc::clone(&reader), Instant::now()));
        Ok(reader)
    }

    /// The addresses to start from, as they were given.
    fn servers(&self) -> String {
        self.settings().bootstrap_servers.join(", ")
    }

    /// Where a broker does not answer: with the reason why the last connection failed, if one did. The client's error only says
    /// that the time is over.
    pub(super) fn explained(&self, error: BusError) -> BusError {
        self.read_log();
        match (error, self.inner.plain.connection.words()) {
            (BusError::Unavailable { doing, .. }, Some(why)) => BusError::Unavailable { doing, why },
            (error, _) => error,
        }
    }

    /// Hands what the reader has logged to its context: that waits until the reader is polled, which never has records.
    fn read_log(&self) {
        for _ in 0..LOG_LINES {
            if self.inner.reader.poll(Duration::ZERO).is_none() {
                return;
            }
        }
    }

    /// That the topic has such a partition, for a scan of it.
    fn has(&self, topic: &str, partition: Partition) -> Result<(), BusError> {
        if partition.0 < self.partitions(topic)? {
            return Ok(());
        }
        Err(BusError::Missing {
            doing: format!("scanning {topic}/{partition}"),
            why: "the topic has fewer partitions".into(),
        })
    }

    fn scanner(&self) -> Result<BaseConsumer<Plain>, BusError> {
        let mut config = self.settings().reader("scan", &self.reader_group());
        // Compaction leaves gaps, also before the end: only the broker knows that nothing more comes.
        config.set("enable.partition.eof", "true");
        let plain = self.inner.plain.clone();
        config.create_with_context(plain).map_err(|error| bus_error("opening a scanner", &error))
    }
}

// Kafka counts partitions in i32; a larger one does not exist and is answered so.
fn kafka_partition(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

impl Bus for KafkaBus {
    type Producer = KafkaProducer;
    type Consumer = KafkaConsumer;

    fn producer(&self, name: &str) -> Result<Self::Producer, BusError> {
        KafkaProducer::new(self.settings(), name)
    }

    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<Self::Consumer, BusError> {
        let partitions = self.partitions(topic)?;
        KafkaConsumer::new(self.settings(), &self.reader_group(), topic, partitions, membership)
    }

    fn ensure_topics(&self, topics: &[&TopicPlan]) -> Result<(), BusError> {
        self.create_topics(topics)
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        partitions_of(&self.inner.reader, topic, PATIENCE)
    }

    fn scan(
        &self,
        topic: &str,
        partition: Partition,
        patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError> {
        self.has(topic, partition)?;
        // A new one each time: scans are rare, and nothing of the last can come through.
        requests::scan(&self.scanner()?, topic, partition, patience, each)
    }

    fn scan_since(
        &self,
        topic: &str,
        partition: Partition,
        since: Since,
        patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Scanned, BusError> {
        self.has(topic, partition)?;
        requests::scan_since(&self.scanner()?, topic, partition, since, patience, each)
    }

    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError> {
        let count = self.partitions(topic)?;
        let all = || (0..count).map(Partition);
        let starts = offsets_at(&self.inner.reader, topic, all(), KafkaOffset::Beginning, PATIENCE)?;
        let reader = self.group_reader(group)?;
        let list: Vec<_> = all().collect();
        let committed = requests::committed(&*reader, topic, &list, PATIENCE)?;
        // Last, so that nothing committed lies behind the end.
        let ends = offsets_at(&self.inner.reader, topic, all(), KafkaOffset::End, PATIENCE)?;
        let ends: HashMap<_, _> = ends.into_iter().collect();
        let committed: HashMap<_, _> = committed.into_iter().collect();
        let mut progress: Vec<_> = starts
            .into_iter()
            .map(|(partition, start)| Progress {
                partition,
                start,
                end: ends.get(&partition).copied().unwrap_or(start),
                committed: committed.get(&partition).and_then(|c| c.as_ref()).map(|commit| commit.next),
            })
            .collect();
        progress.sort_by_key(|progress| progress.partition);
        Ok(progress)
    }

    fn ping(&self, patience: Duration) -> Result<(), BusError> {
        // A topic that nobody has: the answer is small however large the cluster is.
        let asked = self.inner.reader.fetch_metadata(Some("herd.ping"), patience);
        let doing = || format!("health check of Kafka at {}", self.servers());
        asked.map(drop).map_err(|error| self.explained(bus_error(doing(), &error)))?;
        self.read_log();
        self.inner.plain.connection.clear();
        Ok(())
    }
}

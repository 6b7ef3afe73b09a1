//! Durable logs in this process, for `herd up`: the same topics, partitions, groups and offsets as Kafka's, over one
//! embedded store.
//!
//! ```text
//! producer ─► log (waiting) ─► writer: one batch, one write ─► store ─► log (tail in memory) ─► consumer
//!                                                                                group: who owns what
//! ```
//! - `store` is what is on disk, `reopen` opens it anew after a failed write, `chunk` how records lie there, `log` one partition, `topic` its partitions and readers;
//! - `writer` is the group commit, `upkeep` retention and compaction; the coordinator is `crate::group`.
//!
//! What was acknowledged outlives this process, however it ends; see [`Durability`] for power failures.

mod chunk;
mod consumer;
mod log;
mod producer;
mod reopen;
mod store;
mod topic;
mod upkeep;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::{Condvar, Mutex, RwLock};

pub use consumer::EmbeddedConsumer;
pub use producer::EmbeddedProducer;
pub use store::Durability;

use crate::{Bus, BusError, Membership, Progress, Record, Scanned, Since};
use log::Log;
use reopen::Store;
use store::{OpenStore, StoreError, StoredTopic};
use topic::{Policy, Topic};
use writer::{Queue, QueueLimit};

/// How often silent members are looked for.
const TICK: Duration = Duration::from_millis(250);
/// How often the disk is asked to have everything ([`Durability::Process`]).
const SYNC: Duration = Duration::from_secs(1);
/// How often old records are looked for.
const UPKEEP: Duration = Duration::from_secs(30);

/// How an embedded bus works.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// When a record counts as written.
    pub durability: Durability,
    /// Records that may wait to be written; more are [`crate::SendError::Full`].
    pub queue_records: usize,
    /// Bytes that may wait to be written.
    pub queue_bytes: usize,
    /// How long a member may not fetch before its partitions go to others.
    pub session_timeout: Duration,
}

impl Default for EmbeddedOptions {
    /// 100,000 records, 64 MiB, five minutes.
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            queue_records: 100_000,
            queue_bytes: 64 << 20,
            session_timeout: Duration::from_secs(300),
        }
    }
}

/// A bus in this process. Closed when its last clone, producer and consumer are gone, after all that was sent is written.
#[derive(Clone, Debug)]
pub struct EmbeddedBus {
    inner: Arc<Inner>,
}

/// What all handles share. The threads hold [`Core`] only, so that the last handle's end is theirs too.
struct Inner {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

struct Core {
    store: Store,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    queue: Queue,
    options: EmbeddedOptions,
    stopping: Mutex<bool>,
    stop: Condvar,
}

impl std::ops::Deref for Inner {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBus").field("options", &self.options).finish_non_exhaustive()
    }
}

impl EmbeddedBus {
    /// Opens the bus in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// If another process has it open, or it cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, BusError> {
        Self::open_with(dir, EmbeddedOptions::default())
    }

    /// As [`EmbeddedBus::open`], with other options.
    ///
    /// # Errors
    /// As [`EmbeddedBus::open`].
    pub fn open_with(dir: &Path, options: EmbeddedOptions) -> Result<Self, BusError> {
        let doing = || format!("opening the embedded broker in {}", dir.display());
        let store = Store::open(dir, options.durability)?;
        let mut topics = HashMap::new();
        {
            let opened = store.get().map_err(|e| e.doing(doing()))?;
            for (name, stored) in opened.topics().map_err(|e| e.doing(doing()))? {
                let logs = open_logs(&opened, &stored, 0).map_err(|e| e.doing(doing()))?;
                topics.insert(name.clone(), Topic::new(name, stored.id, Policy::of(&stored.config), logs));
            }
        }
        let limit = QueueLimit { records: options.queue_records, bytes: options.queue_bytes };
        let core = Arc::new(Core {
            store,
            topics: RwLock::new(topics),
            queue: Queue::new(limit),
            options,
            stopping: Mutex::new(false),
            stop: Condvar::new(),
        });
        let thread = |name: &str, run: fn(&Core)| {
            let core = Arc::clone(&core);
            std::thread::Builder::new().name(name.into()).spawn(move || run(&core)).map_err(|error| {
                BusError::Refused { doing: doing(), why: format!("no thread could be started: {error}") }
            })
        };
        let mut inner = Inner { core: Arc::clone(&core), threads: Vec::new() };
        inner.threads.push(thread("bus-writer", |core| core.queue.run(&core.store, || core.reopen()))?);
        inner.threads.push(thread("bus-upkeep", Core::run_upkeep)?);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Deletes expired records and compacts compacted topics, now and whatever the amount. This happens by itself in the
    /// background; tests and tools need not wait for it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn upkeep(&self, now: WallTime) -> Result<(), BusError> {
        self.inner.upkeep(now, true).map_err(|error| error.doing("removing old records"))
    }
}

fn open_logs(store: &OpenStore, topic: &StoredTopic, from: u32) -> Result<Vec<Arc<Log>>, StoreError> {
    let mut logs = Vec::new();
    for partition in from..topic.partitions {
        let bounds = store.bounds(topic.id, partition)?;
        let log = Log::new(topic.id, partition, bounds);
        if Policy::of(&topic.config).compact {
            log.count_dirty(store.size_from(topic.id, partition, bounds.clean_to)?, 0);
        }
        logs.push(Arc::new(log));
    }
    Ok(logs)
}

impl Core {
    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    fn existing(&self, doing: &str, name: &str) -> Result<Arc<Topic>, BusError> {
        self.topic(name).ok_or_else(|| BusError::Missing {
            doing: format!("{doing} {name}"),
            why: "it was not created".into(),
        })
    }

    fn all_topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().values().cloned().collect()
    }

    fn upkeep(&self, now: WallTime, whatever: bool) -> Result<(), StoreError> {
        for topic in self.all_topics() {
            let policy = topic.policy();
            for log in topic.logs() {
                if *self.stopping.lock() {
                    return Ok(());
                }
                // For each partition anew: whoever opens the store anew waits for us.
                let store = self.store.get()?;
                if let Some(age) = policy.retention {
                    upkeep::retain(&store, &log, age, now)?;
                }
                if policy.compact && (whatever || upkeep::is_dirty(&log)) {
                    upkeep::compact(&store, &log, policy, now)?;
                }
            }
        }
        Ok(())
    }

    fn run_upkeep(&self) {
        let mut next_sync = Instant::now() + SYNC;
        // Soon after opening, then now and then.
        let mut next_upkeep = Instant::now() + SYNC;
        let tick = TICK.min(self.options.session_timeout / 4).max(Duration::from_millis(1));
        loop {
            let mut stopping = self.stopping.lock();
            if !*stopping {
                self.stop.wait_for(&mut stopping, tick);
            }
            if *stopping {
                return;
            }
            drop(stopping);
            let now = Instant::now();
            for topic in self.all_topics() {
                topic.expire(now, self.options.session_timeout);
            }
            if now >= next_sync {
                next_sync = now + SYNC;
                // Fails too where a thread of the store could not write.
                if let Err(error) = self.sync() {
                    self.queue.broke(&error.to_string());
                }
            }
            if now >= next_upkeep {
                next_upkeep = now + UPKEEP;
                if let Err(error) = self.upkeep(wall_now(), false)
                    && self.queue.broken().is_none()
                {
                    tracing::error!(%error, "old records of the embedded bus could not be removed");
                }
            }
        }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.store.get()?.sync()
    }

    /// Opens the store anew after a failed write, and takes out of it what that write may have left: those who sent it
    /// were told that it failed.
    fn reopen(&self) -> Result<(), StoreError> {
        self.store.find_room()?;
        // Before the store, as in `ensure`.
        let topics = self.topics.read();
        self.store.reopen(|store| {
            let mut batch = store.batch();
            for (name, _) in store.topics()? {
                if !topics.contains_key(&name) {
                    store.remove_topic(&mut batch, &name);
                }
            }
            for log in topics.values().flat_map(|topic| topic.logs()) {
                for base in store.bases_from(log.topic, log.partition, log.bounds().1)? {
                    store.remove_chunk(&mut batch, log.topic, log.partition, base);
                }
            }
            // Whether there is anything to take out or not: it shows that the store can be written.
            OpenStore::apply(batch)?;
            store.sync()
        })
    }

    fn ensure(&self, plan: &TopicPlan) -> Result<(), StoreError> {
        // One at a time: the number of a new topic is one more than the highest.
        let mut topics = self.topics.write();
        let policy = Policy::of(&plan.config);
        let known = topics.get(&plan.name).cloned();
        let id = match &known {
            Some(topic) => topic.id,
            None => topics.values().map(|topic| topic.id + 1).max().unwrap_or(0),
        };
        let had = known.as_ref().map_or(0, |topic| topic.partitions());
        let stored = StoredTopic { id, partitions: plan.partitions.max(had), config: plan.config.clone() };
        let store = self.store.get()?;
        let mut batch = store.batch();
        store.insert_topic(&mut batch, &plan.name, &stored)?;
        OpenStore::apply(batch)?;
        let logs = open_logs(&store, &stored, had)?;
        match known {
            Some(topic) => {
                topic.set_policy(policy);
                if !logs.is_empty() {
                    topic.grow(logs);
                }
            }
            None => {
                topics.insert(plan.name.clone(), Topic::new(plan.name.clone(), id, policy, logs));
            }
        }
        Ok(())
    }
}

impl Inner {
    /// The log of a partition that must be there.
    fn log(&self, doing: &'static str, topic: &str, partition: Partition) -> Result<Arc<Log>, BusError> {
        self.existing(doing, topic)?.log(partition).ok_or_else(|| BusError::Missing {
            doing: format!("{doing} {topic}/{partition}"),
            why: "the topic has fewer partitions".into(),
        })
    }

    /// Hands out the records at these offsets, from the first one on that was sent at `since` or later. Returns its offset.
    fn walk(
        &self,
        log: &Log,
        offsets: Range<i64>,
        since: Option<WallTime>,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Option<i64>, StoreError> {
        let (mut next, mut headers, mut first) = (offsets.start, Vec::new(), None);
        while next < offsets.end {
            let chunks = log.read(&self.store, next, 4 << 20)?;
            if chunks.is_empty() {
                break;
            }
            for chunk in chunks {
                let is_older = first.is_none() && since.is_some_and(|since| chunk.newest() < since.0);
                let mut place = chunk.begin();
                while !is_older && chunk.more(place) && chunk.offset(place) < offsets.end {
                    if chunk.offset(place) < next {
                        chunk.skip(&mut place);
                        continue;
                    }
                    chunk.read(&mut place, log.id(), &mut headers, &mut |record| {
                        if first.is_some() || since.is_none_or(|since| record.timestamp >= since) {
                            first.get_or_insert(record.offset.0);
                            each(record);
                        }
                    });
                }
                next = next.max(chunk.end());
            }
        }
        Ok(first)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.queue.stop();
        *self.core.stopping.lock() = true;
        self.core.stop.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded bus panicked");
            }
        }
        if let Err(error) = self.core.sync() {
            tracing::error!(%error, "flushing the embedded broker to disk failed");
        }
    }
}

fn scanning(topic: &str, partition: Partition) -> String {
    format!("scanning {topic}/{partition}")
}

fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(herd_spec::units::millis(since))
}

impl Bus for EmbeddedBus {
    type Producer = EmbeddedProducer;
    type Consumer = EmbeddedConsumer;

    fn producer(&self, _name: &str) -> Result<Self::Producer, BusError> {
        Ok(EmbeddedProducer::new(Arc::clone(&self.inner)))
    }

    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<Self::Consumer, BusError> {
        let topic = self.inner.existing("reading", topic)?;
        Ok(EmbeddedConsumer::new(Arc::clone(&self.inner), topic, membership))
    }

    fn ensure_topics(&self, topics: &[&TopicPlan]) -> Result<(), BusError> {
        topics.iter().try_for_each(|plan| {
            self.inner.ensure(plan).map_err(|error| error.doing(format!("creating {}", plan.name)))
        })
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        Ok(self.inner.existing("counting the partitions of", topic)?.partitions())
    }

    fn scan(
        &self,
        topic: &str,
        partition: Partition,
        _patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError> {
        let log = self.inner.log("scanning", topic, partition)?;
        let (start, end) = log.bounds();
        self.inner
            .walk(&log, start..end, None, each)
            .map_err(|error| error.doing(scanning(topic, partition)))?;
        Ok(Offset(end))
    }

    fn scan_since(
        &self,
        topic: &str,
        partition: Partition,
        since: Since,
        _patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Scanned, BusError> {
        let log = self.inner.log("scanning", topic, partition)?;
        let (start, end) = log.bounds();
        let oldest = since.oldest(Offset(start), Offset(end));
        let first = self
            .inner
            .walk(&log, oldest.0..end, Some(since.time), each)
            .map_err(|error| error.doing(scanning(topic, partition)))?;
        let first = Offset(first.unwrap_or(end));
        Ok(Scanned { start: first, end: Offset(end), cut: first == oldest && oldest.0 > start })
    }

    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError> {
        let topic = self.inner.existing("looking at the progress on", topic)?;
        let of = |log: &Log| -> Result<Progress, StoreError> {
            let committed = self.inner.store.get()?.commit(group, &topic.name, log.partition)?;
            let (start, end) = log.bounds();
            Ok(Progress {
                partition: log.id(),
                start: Offset(start),
                end: Offset(end),
                committed: committed.map(|commit| Offset(commit.next)),
            })
        };
        let all: Result<Vec<_>, _> = topic.logs().iter().map(|log| of(log)).collect();
        all.map_err(|error| error.doing(format!("looking at the progress of {group}")))
    }

    fn ping(&self, _patience: Duration) -> Result<(), BusError> {
        match self.inner.queue.broken() {
            None => Ok(()),
            Some(why) => Err(BusError::Unavailable { doing: "writing to the embedded bus".into(), why }),
        }
    }
}

//! A bus in memory for one member: logs, a group's commits, and partitions that can be taken away and given back.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use herd_bus::{
    Ack, Bus, BusError, Change, Commit, Consumer, Fetched, Headers, Membership, Outgoing, Producer, Progress,
    Record, Scanned, SendError, Since,
};
use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime};
use std::sync::{Mutex, MutexGuard};

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) timestamp: WallTime,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Inner {
    topics: HashMap<String, Vec<Vec<Kept>>>,
    committed: HashMap<(String, String, Partition), Commit>,
    changes: HashMap<String, Vec<Change>>,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryBus(Arc<Mutex<Inner>>);

impl MemoryBus {
    pub(crate) fn with(topics: &[(&str, usize)]) -> Self {
        let bus = Self::default();
        for (topic, partitions) in topics {
            bus.inner().topics.insert((*topic).to_owned(), vec![Vec::new(); *partitions]);
        }
        bus
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn put(&self, topic: &str, partition: usize, timestamp: i64, value: impl Into<Vec<u8>>) {
        let kept = Kept {
            timestamp: WallTime(timestamp),
            key: Some(b"key".to_vec()),
            value: Some(value.into()),
            headers: Vec::new(),
        };
        self.inner().topics.get_mut(topic).unwrap()[partition].push(kept);
    }

    pub(crate) fn log(&self, topic: &str) -> Vec<Kept> {
        self.inner().topics[topic].concat()
    }

    /// Whether the group has committed all there is.
    pub(crate) fn is_committed(&self, topic: &str, group: &str) -> bool {
        self.progress(topic, group).unwrap().iter().all(|partition| partition.lag() == 0)
    }

    /// Commits a position of partition 0, as a member of the group before.
    pub(crate) fn commit(&self, topic: &str, group: &str, next: i64) {
        let commit = Commit { next: Offset(next), metadata: String::new() };
        self.inner().committed.insert((group.to_owned(), topic.to_owned(), Partition(0)), commit);
    }

    /// Takes a partition away; it is given back when it was released.
    pub(crate) fn take_away(&self, topic: &str, change: Change) {
        self.inner().changes.entry(topic.to_owned()).or_default().push(change);
    }
}

impl Bus for MemoryBus {
    type Producer = MemoryProducer;
    type Consumer = MemoryConsumer;

    fn producer(&self, _: &str) -> Result<MemoryProducer, BusError> {
        Ok(MemoryProducer(self.clone()))
    }

    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<MemoryConsumer, BusError> {
        let Membership::Group { group, .. } = membership else { panic!("sinks are members of a group") };
        let partitions = (0..self.partitions(topic)?).map(Partition).collect();
        Ok(MemoryConsumer {
            bus: self.clone(),
            topic: topic.to_owned(),
            group: group.to_owned(),
            assigned: vec![Change::Assigned(partitions)],
            places: BTreeMap::new(),
        })
    }

    fn ensure_topics(&self, _: &[&TopicPlan]) -> Result<(), BusError> {
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        Ok(u32::try_from(self.inner().topics[topic].len()).unwrap())
    }

    fn scan(
        &self,
        _: &str,
        _: Partition,
        _: Duration,
        _: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError> {
        panic!("sinks do not scan")
    }

    fn scan_since(
        &self,
        _: &str,
        _: Partition,
        _: Since,
        _: Duration,
        _: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Scanned, BusError> {
        panic!("sinks do not scan")
    }

    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError> {
        let inner = self.inner();
        let of = |(index, log): (usize, &Vec<Kept>)| {
            let partition = Partition(u32::try_from(index).unwrap());
            let committed = inner.committed.get(&(group.to_owned(), topic.to_owned(), partition));
            Progress {
                partition,
                start: Offset(0),
                end: Offset(i64::try_from(log.len()).unwrap()),
                committed: committed.map(|commit| commit.next),
            }
        };
        Ok(inner.topics[topic].iter().enumerate().map(of).collect())
    }

    fn ping(&self, _: Duration) -> Result<(), BusError> {
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct MemoryProducer(MemoryBus);

impl Producer for MemoryProducer {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        let kept = Kept {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec()))
                .collect(),
        };
        self.0.inner().topics.get_mut(record.topic).unwrap()[0].push(kept);
        ack.report(Ok(()));
        Ok(())
    }

    fn flush(&self, _: Duration) -> usize {
        0
    }
}

pub(crate) struct MemoryConsumer {
    bus: MemoryBus,
    topic: String,
    group: String,
    assigned: Vec<Change>,
    /// The next offset, and whether the partition is paused.
    places: BTreeMap<Partition, (Offset, bool)>,
}

impl Consumer for MemoryConsumer {
    fn fetch<E, F>(&mut self, wait: Duration, limit: usize, mut each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>,
    {
        let mut fetched = Fetched::default();
        let mut inner = self.bus.inner();
        for (partition, (next, paused)) in &mut self.places {
            let log = &inner.topics[&self.topic][partition.0 as usize];
            while !*paused && fetched.records < limit && (next.0 as usize) < log.len() {
                let kept = &log[next.0 as usize];
                each(&Record {
                    partition: *partition,
                    offset: *next,
                    timestamp: kept.timestamp,
                    key: kept.key.as_deref(),
                    value: kept.value.as_deref(),
                    headers: Headers::of(&kept.headers),
                })?;
                *next = next.next();
                fetched.records += 1;
            }
        }
        fetched.changes.append(&mut self.assigned);
        if !self.places.is_empty() {
            fetched.changes.append(inner.changes.entry(self.topic.clone()).or_default());
        }
        drop(inner);
        if fetched == Fetched::default() {
            // What a broker's client does when there is nothing.
            std::thread::sleep(wait.min(Duration::from_millis(5)));
        }
        Ok(fetched)
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        for (partition, next) in from {
            self.places.insert(*partition, (*next, false));
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        self.places.retain(|partition, _| !partitions.contains(partition));
        self.assigned.push(Change::Assigned(partitions.to_vec()));
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition], pause: bool) -> Result<(), BusError> {
        for partition in partitions {
            self.places.get_mut(partition).expect("assigned").1 = pause;
        }
        Ok(())
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        let inner = self.bus.inner();
        let of = |partition: &Partition| {
            let key = (self.group.clone(), self.topic.clone(), *partition);
            (*partition, inner.committed.get(&key).cloned())
        };
        Ok(partitions.iter().map(of).collect())
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        let mut inner = self.bus.inner();
        for (partition, commit) in commits {
            let key = (self.group.clone(), self.topic.clone(), *partition);
            inner.committed.insert(key, commit.clone());
        }
        Ok(())
    }

    fn partitions(&mut self, _: Duration) -> Result<u32, BusError> {
        Bus::partitions(&self.bus, &self.topic)
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        _: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        let inner = self.bus.inner();
        let end = |of: &Partition| inner.topics[&self.topic][of.0 as usize].len();
        Ok(partitions.iter().map(|of| (*of, Offset(i64::try_from(end(of)).unwrap()))).collect())
    }

    fn close(self) {}
}

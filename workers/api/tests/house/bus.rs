//! A bus in memory: logs, positions that tests set, consumers outside any group.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_bus::{
    Ack, Bus, BusError, Change, Commit, Consumer, Fetched, Headers, Membership, Outgoing, Producer, Progress,
    Record, SendError,
};
use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::{Condvar, Mutex};

type Stored = (WallTime, Vec<u8>);

#[derive(Clone, Default)]
pub struct MemoryBus(Arc<(Mutex<Logs>, Condvar)>);

#[derive(Default)]
struct Logs {
    topics: HashMap<String, Vec<Vec<Stored>>>,
    committed: HashMap<(String, String), i64>,
}

impl MemoryBus {
    pub fn with_topics(topics: &[&TopicPlan]) -> Self {
        let bus = Self::default();
        bus.ensure_topics(topics).unwrap();
        bus
    }

    /// Appends a record to the topic's first partition.
    pub fn append(&self, topic: &str, sent: i64, value: Vec<u8>) {
        self.0.0.lock().topics.get_mut(topic).unwrap()[0].push((WallTime(sent), value));
        self.0.1.notify_all();
    }

    pub fn commit(&self, topic: &str, group: &str, next: i64) {
        self.0.0.lock().committed.insert((topic.into(), group.into()), next);
    }
}

fn end(log: &[Stored]) -> Offset {
    Offset(i64::try_from(log.len()).unwrap())
}

impl Bus for MemoryBus {
    type Producer = Self;
    type Consumer = Reader;

    fn producer(&self, _: &str) -> Result<Self, BusError> {
        Ok(self.clone())
    }

    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<Reader, BusError> {
        assert!(matches!(membership, Membership::All), "the api joins no group");
        Ok(Reader { bus: self.clone(), topic: topic.into(), assigned: false, next: HashMap::new() })
    }

    fn ensure_topics(&self, topics: &[&TopicPlan]) -> Result<(), BusError> {
        let mut logs = self.0.0.lock();
        for topic in topics {
            let partitions = usize::try_from(topic.partitions).unwrap();
            logs.topics.entry(topic.name.clone()).or_insert_with(|| vec![Vec::new(); partitions]);
        }
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        Ok(u32::try_from(self.0.0.lock().topics[topic].len()).unwrap())
    }

    fn scan(
        &self,
        _: &str,
        _: Partition,
        _: Duration,
        _: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError> {
        unreachable!("the api scans nothing")
    }

    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError> {
        let logs = self.0.0.lock();
        let committed = logs.committed.get(&(topic.to_owned(), group.to_owned())).copied();
        Ok((0..)
            .zip(&logs.topics[topic])
            .map(|(partition, log)| Progress {
                partition: Partition(partition),
                start: Offset(0),
                end: end(log),
                committed: committed.filter(|_| partition == 0).map(Offset),
            })
            .collect())
    }

    fn ping(&self, _: Duration) -> Result<(), BusError> {
        Ok(())
    }
}

impl Producer for MemoryBus {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        self.append(record.topic, record.timestamp.0, record.value.unwrap_or_default().to_vec());
        ack.report(Ok(()));
        Ok(())
    }

    fn flush(&self, _: Duration) -> usize {
        0
    }
}

pub struct Reader {
    bus: MemoryBus,
    topic: String,
    assigned: bool,
    next: HashMap<Partition, Offset>,
}

impl Consumer for Reader {
    fn fetch<F: FnMut(&Record<'_>)>(
        &mut self,
        wait: Duration,
        limit: usize,
        mut each: F,
    ) -> Result<Fetched, BusError> {
        if !self.assigned {
            self.assigned = true;
            let partitions = (0..self.bus.partitions(&self.topic)?).map(Partition).collect();
            return Ok(Fetched { records: 0, changes: vec![Change::Assigned(partitions)] });
        }
        let deadline = Instant::now() + wait;
        loop {
            let mut batch: Vec<(Partition, Offset, Stored)> = Vec::new();
            {
                let mut logs = self.bus.0.0.lock();
                for (partition, next) in &mut self.next {
                    let log = &logs.topics[&self.topic][usize::try_from(partition.0).unwrap()];
                    for stored in log.iter().skip(usize::try_from(next.0).unwrap()).take(limit - batch.len())
                    {
                        batch.push((*partition, *next, stored.clone()));
                        *next = next.next();
                    }
                }
                if batch.is_empty() && !self.bus.0.1.wait_until(&mut logs, deadline).timed_out() {
                    continue;
                }
            }
            for (partition, offset, (timestamp, value)) in &batch {
                each(&Record {
                    partition: *partition,
                    offset: *offset,
                    timestamp: *timestamp,
                    key: None,
                    value: Some(value),
                    headers: Headers::NONE,
                });
            }
            return Ok(Fetched { records: batch.len(), changes: Vec::new() });
        }
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        self.next.extend(from.iter().copied());
        Ok(())
    }

    fn release(&mut self, _: &[Partition]) -> Result<(), BusError> {
        Ok(())
    }

    fn pause(&mut self, _: &[Partition], _: bool) -> Result<(), BusError> {
        Ok(())
    }

    fn committed(&mut self, _: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        unreachable!("the api commits nothing")
    }

    fn commit(&mut self, _: &[(Partition, Commit)]) -> Result<(), BusError> {
        unreachable!("the api commits nothing")
    }

    fn partitions(&mut self, _: Duration) -> Result<u32, BusError> {
        self.bus.partitions(&self.topic)
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        _: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        let logs = self.bus.0.0.lock();
        Ok(partitions
            .iter()
            .map(|partition| {
                (*partition, end(&logs.topics[&self.topic][usize::try_from(partition.0).unwrap()]))
            })
            .collect())
    }

    fn close(self) {}
}

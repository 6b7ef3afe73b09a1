//! A consumer that does what stages do: starts at the commit, commits and gives back what is revoked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use herd_bus::{Acks, Bus, BusError, Change, Commit, Consumer, Membership, Outgoing, Producer};
use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime};

/// The longest a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.value.clone().unwrap_or_default()).unwrap()
    }
}

pub(crate) struct Member<C> {
    pub(crate) consumer: C,
    /// Owned partitions and the next offset of each.
    pub(crate) owned: BTreeMap<u32, i64>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) changes: Vec<Change>,
    /// The metadata found on taking a partition over.
    pub(crate) found: BTreeMap<u32, Option<Commit>>,
    grouped: bool,
}

impl<C: Consumer> Member<C> {
    pub(crate) fn join<B: Bus<Consumer = C>>(bus: &B, topic: &str, group: &str) -> Self {
        Self::join_as(bus, topic, group, None)
    }

    /// Joins under a name of its own.
    pub(crate) fn join_as<B: Bus<Consumer = C>>(
        bus: &B,
        topic: &str,
        group: &str,
        instance: Option<&str>,
    ) -> Self {
        let consumer = bus.consumer(topic, Membership::Group { group, instance }).unwrap();
        Self::new(consumer, true)
    }

    pub(crate) fn all<B: Bus<Consumer = C>>(bus: &B, topic: &str) -> Self {
        Self::new(bus.consumer(topic, Membership::All).unwrap(), false)
    }

    fn new(consumer: C, grouped: bool) -> Self {
        Self {
            consumer,
            owned: BTreeMap::new(),
            seen: Vec::new(),
            changes: Vec::new(),
            found: BTreeMap::new(),
            grouped,
        }
    }

    pub(crate) fn step(&mut self) {
        let seen = &mut self.seen;
        let owned = &mut self.owned;
        let fetched = self
            .consumer
            .fetch(Duration::from_millis(20), 1000, |record| {
                let next =
                    owned.get_mut(&record.partition.0).expect("a record of a partition it does not own");
                assert!(record.offset.0 >= *next, "a record came twice");
                *next = record.offset.0 + 1;
                seen.push(Seen {
                    partition: record.partition.0,
                    offset: record.offset.0,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                });
                Ok::<_, BusError>(())
            })
            .unwrap();
        for change in fetched.changes {
            self.changes.push(change.clone());
            match change {
                Change::Assigned(partitions) | Change::Restarted(partitions) => self.begin(&partitions),
                Change::Revoked(partitions) => {
                    self.commit(&partitions, "handed over");
                    self.consumer.release(&partitions).unwrap();
                    self.owned.retain(|partition, _| !partitions.contains(&Partition(*partition)));
                }
                Change::Lost(partitions) => {
                    self.consumer.release(&partitions).unwrap();
                    self.owned.retain(|partition, _| !partitions.contains(&Partition(*partition)));
                }
            }
        }
    }

    fn begin(&mut self, partitions: &[Partition]) {
        let mut from = Vec::new();
        if self.grouped {
            for (partition, commit) in self.consumer.committed(partitions).unwrap() {
                from.push((partition, commit.as_ref().map_or(Offset(0), |commit| commit.next)));
                self.found.insert(partition.0, commit);
            }
        } else {
            from.extend(partitions.iter().map(|partition| (*partition, Offset(0))));
        }
        self.owned.extend(from.iter().map(|(partition, offset)| (partition.0, offset.0)));
        self.consumer.start(&from).unwrap();
    }

    pub(crate) fn commit(&mut self, partitions: &[Partition], metadata: &str) {
        let commits: Vec<_> = partitions
            .iter()
            .map(|p| (*p, Commit { next: Offset(self.owned[&p.0]), metadata: metadata.into() }))
            .collect();
        self.consumer.commit(&commits).unwrap();
    }

    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}; owned {:?}", self.owned);
            self.step();
        }
    }
}

/// Steps both until it holds.
pub(crate) fn both<C: Consumer>(
    a: &mut Member<C>,
    b: &mut Member<C>,
    what: &str,
    holds: impl Fn(&Member<C>, &Member<C>) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(a, b) {
        assert!(Instant::now() < deadline, "waited in vain until {what}: {:?} and {:?}", a.owned, b.owned);
        a.step();
        b.step();
    }
}

pub(crate) fn plan(name: &str, partitions: u32, config: &[(&str, &str)]) -> TopicPlan {
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TopicPlan { name: name.into(), partitions, replication: 1, config }
}

/// A topic of a name of its own, which keeps its records however old they say they are.
pub(crate) fn topic<B: Bus>(bus: &B, partitions: u32) -> String {
    let name = format!("t-{}", uuid::Uuid::now_v7());
    bus.ensure_topics(&[&plan(&name, partitions, &[("cleanup.policy", "delete"), ("retention.ms", "-1")])])
        .unwrap();
    name
}

pub(crate) fn record<'a>(
    topic: &'a str,
    partition: Option<u32>,
    key: Option<&'a str>,
    value: Option<&'a str>,
) -> Outgoing<'a> {
    Outgoing {
        topic,
        partition: partition.map(Partition),
        key: key.map(str::as_bytes),
        value: value.map(str::as_bytes),
        timestamp: WallTime(1_700_000_000_000),
        headers: &[],
    }
}

/// Sends them all and waits until they are written.
pub(crate) fn send<B: Bus>(bus: &B, records: &[Outgoing<'_>]) {
    let producer = bus.producer("test").unwrap();
    let acks = Acks::new();
    for (index, record) in records.iter().enumerate() {
        producer.send(record, acks.expect(index as u32)).unwrap();
    }
    assert!(acks.wait(PATIENCE), "not acknowledged in time");
    assert_eq!(acks.take_failed(), []);
}

/// `count` records "PARTITION:NUMBER" to each of `partitions`, numbers from `from`.
pub(crate) fn fill<B: Bus>(bus: &B, topic: &str, partitions: u32, from: usize, count: usize) {
    let values: Vec<(u32, String)> =
        (0..partitions).flat_map(|p| (from..from + count).map(move |i| (p, format!("{p}:{i}")))).collect();
    let records: Vec<_> = values.iter().map(|(p, v)| record(topic, Some(*p), None, Some(v))).collect();
    send(bus, &records);
}

/// All records of a partition.
pub(crate) fn scan<B: Bus>(bus: &B, topic: &str, partition: u32) -> (Vec<Seen>, i64) {
    let mut seen = Vec::new();
    let end = bus
        .scan(topic, Partition(partition), PATIENCE, &mut |record| {
            seen.push(Seen {
                partition: record.partition.0,
                offset: record.offset.0,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
            });
        })
        .unwrap();
    (seen, end.0)
}

//! Receiving from the embedded bus.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_spec::units::{Offset, Partition};
use parking_lot::Mutex;

use super::Inner;
use super::chunk::{Chunk, ChunkPosition};
use super::log::Log;
use super::reopen::Store;
use super::store::{OpenStore, StoreError, StoredCommit};
use super::topic::Topic;
use crate::group::{Group, MemberId};
use crate::signal::Signal;
use crate::{BusError, Change, Commit, Consumer, Fetched, Membership, Record};

/// How much of a partition is read ahead.
const READ_BYTES: usize = 1 << 20;

/// Receives from one topic of an [`super::EmbeddedBus`].
#[derive(Debug)]
pub struct EmbeddedConsumer {
    bus: Arc<Inner>,
    topic: Arc<Topic>,
    subscription: Subscription,
    signal: Arc<Signal>,
    positions: BTreeMap<u32, Position>,
    /// The partition after which the next fetch begins, so that none starves.
    turn: u32,
    headers: Vec<(String, Vec<u8>)>,
}

#[derive(Debug)]
enum Subscription {
    Member { name: String, group: Arc<Mutex<Group>>, id: MemberId },
    All { known: u32 },
}

#[derive(Debug)]
struct Position {
    log: Arc<Log>,
    started: bool,
    paused: bool,
    next: i64,
    ready: VecDeque<Chunk>,
    /// In the first ready chunk; none: before its first record.
    place: Option<ChunkPosition>,
}

/// What ended reading from a partition.
enum Stopped<E> {
    /// The store cannot be read.
    Store(StoreError),
    /// Whoever was handed a record refused to go on.
    Each(E),
}

impl Position {
    fn new(log: Arc<Log>) -> Self {
        Self { log, started: false, paused: false, next: 0, ready: VecDeque::new(), place: None }
    }

    fn take<E>(
        &mut self,
        store: &Store,
        limit: usize,
        headers: &mut Vec<(String, Vec<u8>)>,
        each: &mut impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<usize, Stopped<E>> {
        let mut taken = 0;
        while taken < limit {
            let Some(chunk) = self.ready.front() else {
                let (start, end) = self.log.bounds();
                self.next = self.next.max(start);
                if self.next >= end {
                    break;
                }
                self.ready = self.log.read(store, self.next, READ_BYTES).map_err(Stopped::Store)?;
                if self.ready.is_empty() {
                    // Compaction left nothing up to the end.
                    self.next = end;
                }
                continue;
            };
            let mut place = self.place.unwrap_or(chunk.begin());
            while taken < limit && chunk.more(place) {
                let offset = chunk.offset(place);
                if offset < self.next {
                    chunk.skip(&mut place);
                } else {
                    chunk.read(&mut place, self.log.id(), headers, each).map_err(Stopped::Each)?;
                    self.next = offset + 1;
                    taken += 1;
                }
            }
            self.place = Some(place);
            if !chunk.more(place) {
                self.next = self.next.max(chunk.end());
                self.ready.pop_front();
                self.place = None;
            }
        }
        Ok(taken)
    }
}

impl EmbeddedConsumer {
    pub(super) fn new(bus: Arc<Inner>, topic: Arc<Topic>, membership: Membership<'_>) -> Self {
        let signal = Arc::<Signal>::default();
        topic.listen(&signal);
        let subscription = match membership {
            // Members live and die with this process: there is no restart to spare the group.
            Membership::Group { group: name, instance: _ } => {
                let group = topic.group(name);
                let id = group.lock().join(topic.partitions(), Arc::clone(&signal), Instant::now());
                Subscription::Member { name: name.to_owned(), group, id }
            }
            Membership::All => Subscription::All { known: 0 },
        };
        Self { bus, topic, subscription, signal, positions: BTreeMap::new(), turn: 0, headers: Vec::new() }
    }

    fn changes(&mut self) -> Vec<Change> {
        match &mut self.subscription {
            Subscription::Member { group, id, .. } => group.lock().poll(*id, Instant::now()),
            Subscription::All { known } => {
                let partitions = self.topic.partitions();
                let new: Vec<_> = (std::mem::replace(known, partitions)..partitions).map(Partition).collect();
                if new.is_empty() { Vec::new() } else { vec![Change::Assigned(new)] }
            }
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Assigned(partitions) => {
                    for partition in partitions {
                        if let Some(log) = self.topic.log(*partition) {
                            self.positions.insert(partition.0, Position::new(log));
                        }
                    }
                }
                // Until they are released, records still come. Logs never begin anew here.
                Change::Revoked(_) | Change::Restarted(_) => {}
                Change::Lost(partitions) => {
                    for partition in partitions {
                        self.positions.remove(&partition.0);
                    }
                }
            }
        }
    }

    fn drain<E: From<BusError>>(
        &mut self,
        limit: usize,
        each: &mut impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let active = |position: &Position| position.started && !position.paused;
        let order: Vec<u32> = (self.positions.range(self.turn..).chain(self.positions.range(..self.turn)))
            .filter(|(_, position)| active(position))
            .map(|(partition, _)| *partition)
            .collect();
        let share = limit.div_ceil(order.len().max(1)).max(1);
        let mut taken = 0;
        // Each partition its share, then whatever there is.
        for share in [share, limit] {
            for partition in &order {
                let room = share.min(limit - taken);
                if room == 0 {
                    self.turn = *partition;
                    return Ok(taken);
                }
                if let Some(position) = self.positions.get_mut(partition) {
                    let took = position.take(&self.bus.store, room, &mut self.headers, each);
                    taken += took.map_err(|stopped| match stopped {
                        Stopped::Store(error) => error.doing(format!("reading {}", self.topic.name)).into(),
                        Stopped::Each(error) => error,
                    })?;
                }
            }
        }
        Ok(taken)
    }

    fn missing(&self, doing: &str, partition: Partition) -> BusError {
        BusError::Missing {
            doing: format!("{doing} {}/{partition}", self.topic.name),
            why: format!("the topic has {} partitions", self.topic.partitions()),
        }
    }

    fn position(&mut self, doing: &str, partition: Partition) -> Result<&mut Position, BusError> {
        let topic = &self.topic;
        self.positions.get_mut(&partition.0).ok_or_else(|| BusError::Refused {
            doing: format!("{doing} {}/{partition}", topic.name),
            why: "the partition is not assigned to this consumer".into(),
        })
    }

    fn no_group(&self, doing: &str) -> BusError {
        BusError::Refused {
            doing: format!("{doing} {}", self.topic.name),
            why: "a consumer that reads all partitions has no group".into(),
        }
    }
}

impl Consumer for EmbeddedConsumer {
    fn fetch<E, F>(&mut self, wait: Duration, limit: usize, mut each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>,
    {
        let deadline = Instant::now() + wait;
        loop {
            let changes = self.changes();
            self.apply(&changes);
            if !changes.is_empty() {
                return Ok(Fetched { records: 0, changes });
            }
            let records = self.drain(limit, &mut each)?;
            // However long it waits, it must be seen to live.
            let now = Instant::now();
            let until = deadline.min(now + self.bus.options.session_timeout / 4);
            if records > 0 || limit == 0 || (!self.signal.wait_until(until) && until >= deadline) {
                return Ok(Fetched { records, changes: Vec::new() });
            }
        }
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        for (partition, offset) in from {
            let position = self.position("starting to read", *partition)?;
            let (start, end) = position.log.bounds();
            // As Kafka does with `auto.offset.reset=earliest`.
            position.next = if (start..=end).contains(&offset.0) { offset.0 } else { start };
            position.started = true;
            position.ready.clear();
            position.place = None;
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        if let Subscription::Member { group, id, .. } = &self.subscription
            && let Some(stranger) = group.lock().release(*id, partitions)
        {
            return Err(BusError::Refused {
                doing: format!("releasing {}/{stranger}", self.topic.name),
                why: "it was neither revoked nor lost".into(),
            });
        }
        for partition in partitions {
            self.positions.remove(&partition.0);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition], paused: bool) -> Result<(), BusError> {
        for partition in partitions {
            self.position("pausing", *partition)?.paused = paused;
        }
        Ok(())
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        let Subscription::Member { name, .. } = &self.subscription else {
            return Err(self.no_group("looking up offsets of"));
        };
        partitions
            .iter()
            .map(|partition| {
                let found =
                    self.bus.store.get().and_then(|store| store.commit(name, &self.topic.name, partition.0));
                let found = found.map_err(|e| e.doing(format!("looking up offsets of {name}")))?;
                Ok((*partition, found.map(|c| Commit { next: Offset(c.next), metadata: c.metadata })))
            })
            .collect()
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        let Subscription::Member { name, group, id } = &self.subscription else {
            return Err(self.no_group("committing to"));
        };
        // Held until it is written, so that nobody takes over in between.
        let group = group.lock();
        let failed = |error: StoreError| error.doing(format!("committing for {name}"));
        let store = self.bus.store.get().map_err(failed)?;
        let mut batch = store.batch();
        for (partition, commit) in commits {
            let doing = || format!("committing {}/{partition} for {name}", self.topic.name);
            if !group.owns(*id, partition.0) {
                return Err(BusError::NotOwner { doing: doing(), why: "it was given up or lost".into() });
            }
            if commit.metadata.len() > crate::METADATA_BYTES {
                let why = format!(
                    "{} bytes of metadata, {} are allowed",
                    commit.metadata.len(),
                    crate::METADATA_BYTES
                );
                return Err(BusError::Refused { doing: doing(), why });
            }
            let stored = StoredCommit { next: commit.next.0, metadata: commit.metadata.clone() };
            store
                .insert_commit(&mut batch, name, &self.topic.name, partition.0, &stored)
                .map_err(|error| error.doing(doing()))?;
        }
        OpenStore::apply(batch).map_err(failed)
    }

    fn partitions(&mut self, _patience: Duration) -> Result<u32, BusError> {
        Ok(self.topic.partitions())
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        _patience: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        partitions
            .iter()
            .map(|partition| {
                let log = self
                    .topic
                    .log(*partition)
                    .ok_or_else(|| self.missing("looking for the end of", *partition))?;
                Ok((*partition, Offset(log.bounds().1)))
            })
            .collect()
    }

    fn close(self) {}
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        if let Subscription::Member { group, id, .. } = &self.subscription {
            group.lock().leave(*id);
        }
    }
}

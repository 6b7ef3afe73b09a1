//! Receiving on the simulated bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::{Mutex, MutexGuard};

use super::simulator::{Simulator, purpose};
use super::topic::{Kept, Members};
use crate::group::MemberId;
use crate::{BusError, Change, Commit, Consumer, Fetched, METADATA_BYTES, Membership, Record};

/// Fetches that are cut short bring no more than this.
const FEW: u64 = 12;

/// Receives from one topic of a [`super::SimulatedBus`]. Never waits: time is whoever steps it.
#[derive(Debug)]
pub struct SimulatedConsumer {
    simulator: Arc<Mutex<Simulator>>,
    topic: usize,
    role: Role,
    positions: BTreeMap<u32, Position>,
    number: u64,
    fetches: u64,
    dry_until: WallTime,
    /// What the group does not have yet, and how long it will not.
    uncommitted: BTreeMap<u32, Commit>,
    held_until: WallTime,
}

#[derive(Debug)]
enum Role {
    Member {
        group: String,
        id: MemberId,
    },
    All {
        known: u32,
    },
    /// It has left its group.
    Left,
}

#[derive(Debug, Default)]
struct Position {
    started: bool,
    paused: bool,
    next: Offset,
}

impl SimulatedConsumer {
    pub(super) fn new(simulator: &Arc<Mutex<Simulator>>, topic: usize, membership: Membership<'_>) -> Self {
        let mut locked = simulator.lock();
        let number = locked.number();
        let role = match membership {
            Membership::Group { group, instance } => {
                let now = locked.instant;
                let topic = &mut locked.topics[topic];
                let known = topic.known;
                let members = topic.groups.entry(group.to_owned()).or_default();
                let id = members.group.join(known, Arc::default(), now);
                if let Some(instance) = instance {
                    members.names.insert(instance.to_owned(), id);
                }
                Role::Member { group: group.to_owned(), id }
            }
            Membership::All => Role::All { known: 0 },
        };
        drop(locked);
        let (simulator, positions) = (Arc::clone(simulator), BTreeMap::new());
        Self {
            simulator,
            topic,
            role,
            positions,
            number,
            fetches: 0,
            dry_until: WallTime(i64::MIN),
            uncommitted: BTreeMap::new(),
            held_until: WallTime(i64::MIN),
        }
    }

    /// What happened to the assignment, unless this member cannot hear it.
    fn changes(&mut self, simulator: &mut Simulator) -> Vec<Change> {
        let (now, instant) = (simulator.now, simulator.instant);
        let topic = &mut simulator.topics[self.topic];
        match &mut self.role {
            Role::Member { group, id } => {
                let Some(members) = topic.groups.get_mut(group) else { return Vec::new() };
                if members.deaf.get(id).is_some_and(|until| now < *until) {
                    return Vec::new();
                }
                members.deaf.remove(id);
                members.group.poll(*id, instant)
            }
            Role::All { known } => {
                let new: Vec<_> =
                    (std::mem::replace(known, topic.known)..topic.known).map(Partition).collect();
                if new.is_empty() { Vec::new() } else { vec![Change::Assigned(new)] }
            }
            Role::Left => Vec::new(),
        }
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Assigned(partitions) => {
                    self.positions.extend(partitions.iter().map(|p| (p.0, Position::default())));
                }
                // Until they are released, records still come. Logs never begin anew here.
                Change::Revoked(_) | Change::Restarted(_) => {}
                Change::Lost(partitions) => partitions.iter().for_each(|p| {
                    self.positions.remove(&p.0);
                }),
            }
        }
    }

    fn take(&mut self, simulator: &Simulator, limit: usize) -> Vec<Arc<Kept>> {
        let mut records = Vec::new();
        let turn = u32::try_from(self.fetches % 64).unwrap_or(0);
        let order: Vec<u32> =
            self.positions.range(turn..).chain(self.positions.range(..turn)).map(|(p, _)| *p).collect();
        for partition in order {
            let Some(position) = self.positions.get_mut(&partition) else { continue };
            if position.started && !position.paused && records.len() < limit {
                let more =
                    simulator.read(self.topic, Partition(partition), position.next, limit - records.len());
                position.next = more.last().map_or(position.next, |record| record.offset.next());
                records.extend(more);
            }
        }
        records
    }

    fn position(&mut self, doing: &str, partition: Partition) -> Result<&mut Position, BusError> {
        self.positions.get_mut(&partition.0).ok_or_else(|| BusError::Refused {
            doing: format!("{doing} {partition}"),
            why: "the partition is not assigned to this consumer".into(),
        })
    }

    fn members<'w>(
        &self,
        doing: &str,
        simulator: &'w mut MutexGuard<'_, Simulator>,
    ) -> Result<(&'w mut Members, MemberId), BusError> {
        let refused =
            || BusError::Refused { doing: doing.into(), why: "this consumer is in no group".into() };
        let Role::Member { group, id } = &self.role else { return Err(refused()) };
        let members = simulator.topics[self.topic].groups.get_mut(group).ok_or_else(refused)?;
        Ok((members, *id))
    }

    /// Commits what is open, unless the group is busy with those who join, or becomes so.
    fn hand_in(&mut self, simulator: &mut MutexGuard<'_, Simulator>) {
        if simulator.has_faults() && !self.uncommitted.is_empty() {
            let number = simulator.number();
            let mut dice = simulator.dice(&[purpose::REQUEST, number]);
            if simulator.now >= self.held_until && dice.chance(simulator.fault_schedule.unanswered) {
                let session = u64::try_from(simulator.fault_schedule.session.as_millis()).unwrap_or(u64::MAX);
                self.held_until = simulator.now.plus(Duration::from_millis(dice.below(session.max(1))));
            }
            if simulator.now < self.held_until {
                return;
            }
        }
        self.hand_in_now(simulator);
    }

    fn hand_in_now(&mut self, simulator: &mut MutexGuard<'_, Simulator>) {
        let open = std::mem::take(&mut self.uncommitted);
        if let Ok((members, id)) = self.members("committing", simulator) {
            let owned = open.into_iter().filter(|(partition, _)| members.group.owns(id, *partition));
            members.commits.extend(owned.collect::<Vec<_>>());
        }
    }
}

impl Consumer for SimulatedConsumer {
    fn fetch<E, F>(&mut self, _wait: Duration, limit: usize, mut each: F) -> Result<Fetched, E>
    where
        E: From<BusError>,
        F: FnMut(&Record<'_>) -> Result<(), E>,
    {
        self.fetches += 1;
        let simulator = Arc::clone(&self.simulator);
        let mut simulator = simulator.lock();
        self.hand_in(&mut simulator);
        let mut limit = limit;
        if simulator.has_faults() {
            let mut dice = simulator.dice(&[purpose::FETCH, self.number, self.fetches]);
            if simulator.now < self.dry_until {
                return Ok(Fetched::default());
            }
            if dice.chance(simulator.fault_schedule.dry) {
                let longest =
                    u64::try_from(simulator.fault_schedule.longest_dry.as_millis()).unwrap_or(u64::MAX);
                self.dry_until = simulator.now.plus(Duration::from_millis(dice.below(longest)));
                return Ok(Fetched::default());
            }
            if dice.chance(simulator.fault_schedule.partial) {
                limit = limit.min(1 + usize::try_from(dice.below(FEW)).unwrap_or(0));
            }
        }
        let changes = self.changes(&mut simulator);
        if !changes.is_empty() {
            self.apply(&changes);
            return Ok(Fetched { records: 0, changes });
        }
        let records = self.take(&simulator, limit);
        // Whoever gets them may send, or ask for the time.
        drop(simulator);
        records.iter().try_for_each(|record| each(&record.record()))?;
        Ok(Fetched { records: records.len(), changes })
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        for (partition, offset) in from {
            let end = self.simulator.lock().topics[self.topic].end(*partition).unwrap_or_default();
            let position = self.position("starting to read", *partition)?;
            // As Kafka does with `auto.offset.reset=earliest`.
            let inside = (Offset(0)..=end).contains(offset);
            *position =
                Position { started: true, paused: false, next: if inside { *offset } else { Offset(0) } };
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        let simulator = Arc::clone(&self.simulator);
        let mut simulator = simulator.lock();
        self.hand_in_now(&mut simulator);
        if let Ok((members, id)) = self.members("releasing", &mut simulator)
            && let Some(stranger) = members.group.release(id, partitions)
        {
            return Err(BusError::Refused {
                doing: format!("releasing {stranger}"),
                why: "it was neither revoked nor lost".into(),
            });
        }
        partitions.iter().for_each(|partition| {
            self.positions.remove(&partition.0);
        });
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition], paused: bool) -> Result<(), BusError> {
        partitions.iter().try_for_each(|partition| {
            self.position("pausing", *partition)?.paused = paused;
            Ok(())
        })
    }

    fn committed(&mut self, partitions: &[Partition]) -> Result<Vec<(Partition, Option<Commit>)>, BusError> {
        let simulator = Arc::clone(&self.simulator);
        let mut simulator = simulator.lock();
        simulator.unanswered("looking up offsets")?;
        let (members, _) = self.members("looking up offsets", &mut simulator)?;
        Ok(partitions.iter().map(|p| (*p, members.commits.get(&p.0).cloned())).collect())
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        let simulator = Arc::clone(&self.simulator);
        let mut simulator = simulator.lock();
        let (members, id) = self.members("committing", &mut simulator)?;
        for (partition, commit) in commits {
            let doing = format!("committing {partition}");
            if !members.group.owns(id, partition.0) {
                return Err(BusError::NotOwner { doing, why: "it was given up or lost".into() });
            }
            let length = commit.metadata.len();
            if length > METADATA_BYTES {
                let why = format!("{length} bytes of metadata, {METADATA_BYTES} are allowed");
                return Err(BusError::Refused { doing, why });
            }
        }
        self.uncommitted.extend(commits.iter().map(|(partition, commit)| (partition.0, commit.clone())));
        self.hand_in(&mut simulator);
        Ok(())
    }

    fn partitions(&mut self, _patience: Duration) -> Result<u32, BusError> {
        let mut simulator = self.simulator.lock();
        simulator.unanswered("counting partitions")?;
        Ok(simulator.topics[self.topic].partitions())
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        _patience: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        let mut simulator = self.simulator.lock();
        simulator.unanswered("looking for ends")?;
        let topic = &simulator.topics[self.topic];
        let end = |partition: &Partition| {
            let end = topic.end(*partition).ok_or_else(|| BusError::Missing {
                doing: format!("looking for the end of {}/{partition}", topic.name),
                why: format!("the topic has {} partitions", topic.partitions()),
            })?;
            Ok((*partition, end))
        };
        partitions.iter().map(end).collect()
    }

    fn close(mut self) {
        let simulator = Arc::clone(&self.simulator);
        let mut simulator = simulator.lock();
        self.hand_in_now(&mut simulator);
        if let Role::Member { group, id } = std::mem::replace(&mut self.role, Role::Left)
            && let Some(members) = simulator.topics[self.topic].groups.get_mut(&group)
        {
            members.group.leave(id);
        }
    }
}

impl Drop for SimulatedConsumer {
    fn drop(&mut self) {
        if let Role::Member { group, id } = &self.role {
            self.simulator.lock().member_died(self.topic, group, *id);
        }
    }
}

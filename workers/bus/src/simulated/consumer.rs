//! Receiving on the simulated bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::{Mutex, MutexGuard};

use super::topic::{Kept, Members};
use super::world::{World, purpose};
use crate::group::MemberId;
use crate::{BusError, Change, Commit, Consumer, Fetched, METADATA_BYTES, Membership, Record};

/// Fetches that are cut short bring no more than this.
const FEW: u64 = 12;

/// Receives from one topic of a [`super::SimulatedBus`]. Never waits: time is whoever steps it.
#[derive(Debug)]
pub struct SimulatedConsumer {
    world: Arc<Mutex<World>>,
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
    pub(super) fn new(world: &Arc<Mutex<World>>, topic: usize, membership: Membership<'_>) -> Self {
        let mut locked = world.lock();
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
        let (world, positions) = (Arc::clone(world), BTreeMap::new());
        Self {
            world,
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
    fn changes(&mut self, world: &mut World) -> Vec<Change> {
        let (now, instant) = (world.now, world.instant);
        let topic = &mut world.topics[self.topic];
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
                // Until they are released, records still come.
                Change::Revoked(_) => {}
                Change::Lost(partitions) => partitions.iter().for_each(|p| {
                    self.positions.remove(&p.0);
                }),
            }
        }
    }

    fn take(&mut self, world: &World, limit: usize) -> Vec<Arc<Kept>> {
        let mut records = Vec::new();
        let turn = u32::try_from(self.fetches % 64).unwrap_or(0);
        let order: Vec<u32> =
            self.positions.range(turn..).chain(self.positions.range(..turn)).map(|(p, _)| *p).collect();
        for partition in order {
            let Some(position) = self.positions.get_mut(&partition) else { continue };
            if position.started && !position.paused && records.len() < limit {
                let more = world.read(self.topic, Partition(partition), position.next, limit - records.len());
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
        world: &'w mut MutexGuard<'_, World>,
    ) -> Result<(&'w mut Members, MemberId), BusError> {
        let refused =
            || BusError::Refused { doing: doing.into(), why: "this consumer is in no group".into() };
        let Role::Member { group, id } = &self.role else { return Err(refused()) };
        let members = world.topics[self.topic].groups.get_mut(group).ok_or_else(refused)?;
        Ok((members, *id))
    }

    /// Commits what is open, unless the group is busy with those who join, or becomes so.
    fn hand_in(&mut self, world: &mut MutexGuard<'_, World>) {
        if world.is_stormy() && !self.uncommitted.is_empty() {
            let number = world.number();
            let mut dice = world.dice(&[purpose::REQUEST, number]);
            if world.now >= self.held_until && dice.chance(world.weather.unanswered) {
                let session = u64::try_from(world.weather.session.as_millis()).unwrap_or(u64::MAX);
                self.held_until = world.now.plus(Duration::from_millis(dice.below(session.max(1))));
            }
            if world.now < self.held_until {
                return;
            }
        }
        self.hand_in_now(world);
    }

    fn hand_in_now(&mut self, world: &mut MutexGuard<'_, World>) {
        let open = std::mem::take(&mut self.uncommitted);
        if let Ok((members, id)) = self.members("committing", world) {
            let owned = open.into_iter().filter(|(partition, _)| members.group.owns(id, *partition));
            members.commits.extend(owned.collect::<Vec<_>>());
        }
    }
}

impl Consumer for SimulatedConsumer {
    fn fetch<F: FnMut(&Record<'_>)>(
        &mut self,
        _wait: Duration,
        limit: usize,
        mut each: F,
    ) -> Result<Fetched, BusError> {
        self.fetches += 1;
        let world = Arc::clone(&self.world);
        let mut world = world.lock();
        self.hand_in(&mut world);
        let mut limit = limit;
        if world.is_stormy() {
            let mut dice = world.dice(&[purpose::FETCH, self.number, self.fetches]);
            if world.now < self.dry_until {
                return Ok(Fetched::default());
            }
            if dice.chance(world.weather.dry) {
                let longest = u64::try_from(world.weather.longest_dry.as_millis()).unwrap_or(u64::MAX);
                self.dry_until = world.now.plus(Duration::from_millis(dice.below(longest)));
                return Ok(Fetched::default());
            }
            if dice.chance(world.weather.partial) {
                limit = limit.min(1 + usize::try_from(dice.below(FEW)).unwrap_or(0));
            }
        }
        let changes = self.changes(&mut world);
        if !changes.is_empty() {
            self.apply(&changes);
            return Ok(Fetched { records: 0, changes });
        }
        let records = self.take(&world, limit);
        // Whoever gets them may send, or ask for the time.
        drop(world);
        records.iter().for_each(|record| each(&record.record()));
        Ok(Fetched { records: records.len(), changes })
    }

    fn start(&mut self, from: &[(Partition, Offset)]) -> Result<(), BusError> {
        for (partition, offset) in from {
            let end = self.world.lock().topics[self.topic].end(*partition).unwrap_or_default();
            let position = self.position("starting to read", *partition)?;
            // As Kafka does with `auto.offset.reset=earliest`.
            let inside = (Offset(0)..=end).contains(offset);
            *position =
                Position { started: true, paused: false, next: if inside { *offset } else { Offset(0) } };
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[Partition]) -> Result<(), BusError> {
        let world = Arc::clone(&self.world);
        let mut world = world.lock();
        self.hand_in_now(&mut world);
        if let Ok((members, id)) = self.members("releasing", &mut world)
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
        let world = Arc::clone(&self.world);
        let mut world = world.lock();
        world.unanswered("looking up offsets")?;
        let (members, _) = self.members("looking up offsets", &mut world)?;
        Ok(partitions.iter().map(|p| (*p, members.commits.get(&p.0).cloned())).collect())
    }

    fn commit(&mut self, commits: &[(Partition, Commit)]) -> Result<(), BusError> {
        let world = Arc::clone(&self.world);
        let mut world = world.lock();
        let (members, id) = self.members("committing", &mut world)?;
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
        self.hand_in(&mut world);
        Ok(())
    }

    fn partitions(&mut self, _patience: Duration) -> Result<u32, BusError> {
        let mut world = self.world.lock();
        world.unanswered("counting partitions")?;
        Ok(world.topics[self.topic].partitions())
    }

    fn end_offsets(
        &mut self,
        partitions: &[Partition],
        _patience: Duration,
    ) -> Result<Vec<(Partition, Offset)>, BusError> {
        let mut world = self.world.lock();
        world.unanswered("looking for ends")?;
        let topic = &world.topics[self.topic];
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
        let world = Arc::clone(&self.world);
        let mut world = world.lock();
        self.hand_in_now(&mut world);
        if let Role::Member { group, id } = std::mem::replace(&mut self.role, Role::Left)
            && let Some(members) = world.topics[self.topic].groups.get_mut(&group)
        {
            members.group.leave(id);
        }
    }
}

impl Drop for SimulatedConsumer {
    fn drop(&mut self) {
        if let Role::Member { group, id } = &self.role {
            self.world.lock().bury(self.topic, group, *id);
        }
    }
}

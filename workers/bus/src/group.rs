//! Who owns which partition: the coordinator of one group on one topic, as plain data. Cooperative: a partition that
//! stays where it is is never interrupted; one that moves is first revoked, then released by its owner, then assigned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_spec::units::Partition;

use crate::Change;
use crate::signal::Signal;

/// A member of a group, by the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId(pub(crate) u64);

#[derive(Debug, Default)]
pub(crate) struct Group {
    partitions: u32,
    members: BTreeMap<MemberId, Member>,
    joined: u64,
}

#[derive(Debug)]
struct Member {
    owned: BTreeSet<u32>,
    revoked: BTreeSet<u32>,
    /// Taken away without its consent and not yet given back; while there are any it is assigned nothing.
    lost: BTreeSet<u32>,
    changes: Vec<Change>,
    seen: Instant,
    /// Taken for dead, and not heard of since: it is assigned nothing.
    silent: bool,
    signal: Arc<Signal>,
}

impl Member {
    fn tell(&mut self, change: Change) {
        self.changes.push(change);
        self.signal.ring();
    }
}

impl Group {
    pub(crate) fn join(&mut self, partitions: u32, signal: Arc<Signal>, now: Instant) -> MemberId {
        self.partitions = self.partitions.max(partitions);
        let id = MemberId(self.joined);
        self.joined += 1;
        self.members.insert(
            id,
            Member {
                owned: BTreeSet::new(),
                revoked: BTreeSet::new(),
                lost: BTreeSet::new(),
                changes: Vec::new(),
                seen: now,
                silent: false,
                signal,
            },
        );
        self.balance();
        id
    }

    pub(crate) fn leave(&mut self, id: MemberId) {
        self.members.remove(&id);
        self.balance();
    }

    pub(crate) fn grow(&mut self, partitions: u32) {
        if partitions > self.partitions {
            self.partitions = partitions;
            self.balance();
        }
    }

    /// The member is alive; what happened to it since it was last asked.
    pub(crate) fn poll(&mut self, id: MemberId, now: Instant) -> Vec<Change> {
        let Some(member) = self.members.get_mut(&id) else { return Vec::new() };
        member.seen = now;
        if std::mem::take(&mut member.silent) {
            self.balance();
        }
        self.members.get_mut(&id).map_or_else(Vec::new, |member| std::mem::take(&mut member.changes))
    }

    /// Whether the member may commit for the partition.
    pub(crate) fn owns(&self, id: MemberId, partition: u32) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.owned.contains(&partition) || member.revoked.contains(&partition))
    }

    /// Takes partitions back that were revoked or lost; the first that was neither, if there is one.
    pub(crate) fn release(&mut self, id: MemberId, partitions: &[Partition]) -> Option<Partition> {
        let member = self.members.get_mut(&id)?;
        let stranger = partitions
            .iter()
            .find(|p| !member.revoked.contains(&p.0) && !member.lost.contains(&p.0))
            .copied();
        if stranger.is_none() {
            for partition in partitions {
                member.revoked.remove(&partition.0);
                member.lost.remove(&partition.0);
            }
            self.balance();
        }
        stranger
    }

    /// Gives the partitions of members that were not seen for `patience` to others.
    pub(crate) fn expire(&mut self, now: Instant, patience: Duration) -> bool {
        let silent: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| now.saturating_duration_since(member.seen) > patience)
            .map(|(id, _)| *id)
            .collect();
        let mut expired = false;
        for id in silent {
            expired |= self.take_away(id);
        }
        if expired {
            self.balance();
        }
        expired
    }

    /// Takes a member for dead: what it has goes to others, and it will hear of that when it next asks.
    #[cfg(feature = "simulated")]
    pub(crate) fn evict(&mut self, id: MemberId) {
        if self.take_away(id) {
            self.balance();
        }
    }

    /// Whether the member had anything.
    fn take_away(&mut self, id: MemberId) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        if member.owned.is_empty() && member.revoked.is_empty() {
            return false;
        }
        // What it was told and has not heard yet no longer holds; what it was never told of is not lost to it.
        let mut unheard = BTreeSet::new();
        for change in std::mem::take(&mut member.changes) {
            if let Change::Assigned(partitions) = change {
                unheard.extend(partitions.iter().map(|p| p.0));
            }
        }
        let held = std::mem::take(&mut member.owned).into_iter().chain(std::mem::take(&mut member.revoked));
        let lost: BTreeSet<u32> = held.filter(|p| !unheard.contains(p)).collect();
        member.silent = true;
        member.lost.extend(&lost);
        if !lost.is_empty() {
            member.tell(Change::Lost(lost.into_iter().map(Partition).collect()));
        }
        true
    }

    /// Moves as little as possible so that no member has two more than another.
    fn balance(&mut self) {
        let able: Vec<MemberId> =
            self.members.iter().filter(|(_, m)| m.lost.is_empty() && !m.silent).map(|(id, _)| *id).collect();
        let Ok(count) = u32::try_from(able.len()) else { return };
        if count == 0 {
            return;
        }
        let held: BTreeSet<u32> =
            self.members.values().flat_map(|m| m.owned.iter().chain(&m.revoked)).copied().collect();
        let mut quota: BTreeMap<MemberId, usize> = BTreeMap::new();
        // Those that have the most keep the most.
        let mut by_load = able;
        by_load.sort_by_key(|id| (std::cmp::Reverse(self.members[id].owned.len()), *id));
        for (place, id) in by_load.iter().enumerate() {
            let more = place < (self.partitions % count) as usize;
            quota.insert(*id, (self.partitions / count) as usize + usize::from(more));
        }
        for (id, quota) in &quota {
            let Some(member) = self.members.get_mut(id) else { continue };
            let mut moving = Vec::new();
            while member.owned.len() > *quota {
                let Some(partition) = member.owned.pop_last() else { break };
                member.revoked.insert(partition);
                moving.push(Partition(partition));
            }
            if !moving.is_empty() {
                moving.sort();
                member.tell(Change::Revoked(moving));
            }
        }
        let mut gained: BTreeMap<MemberId, Vec<Partition>> = BTreeMap::new();
        for partition in (0..self.partitions).filter(|p| !held.contains(p)) {
            let next = quota
                .iter()
                .map(|(id, quota)| (quota.saturating_sub(self.members[id].owned.len()), *id))
                .max_by_key(|(room, id)| (*room, std::cmp::Reverse(*id)));
            let Some((_, id)) = next.filter(|(room, _)| *room > 0) else { break };
            if let Some(member) = self.members.get_mut(&id) {
                member.owned.insert(partition);
                gained.entry(id).or_default().push(Partition(partition));
            }
        }
        for (id, partitions) in gained {
            if let Some(member) = self.members.get_mut(&id) {
                member.tell(Change::Assigned(partitions));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partitions(of: &[u32]) -> Vec<Partition> {
        of.iter().copied().map(Partition).collect()
    }

    #[test]
    fn a_new_member_gets_partitions_after_they_are_released() {
        let now = Instant::now();
        let mut group = Group::default();
        let first = group.join(4, Arc::default(), now);
        assert_eq!(group.poll(first, now), [Change::Assigned(partitions(&[0, 1, 2, 3]))]);
        let second = group.join(4, Arc::default(), now);
        assert_eq!(group.poll(first, now), [Change::Revoked(partitions(&[2, 3]))]);
        assert_eq!(group.poll(second, now), []);
        assert!(group.owns(first, 3));
        assert_eq!(group.release(first, &partitions(&[0])), Some(Partition(0)));
        assert_eq!(group.release(first, &partitions(&[3])), None);
        assert_eq!(group.poll(second, now), [Change::Assigned(partitions(&[3]))]);
        assert_eq!(group.release(first, &partitions(&[2])), None);
        assert_eq!(group.poll(second, now), [Change::Assigned(partitions(&[2]))]);
        assert!(!group.owns(first, 3));
        group.leave(second);
        assert_eq!(group.poll(first, now), [Change::Assigned(partitions(&[2, 3]))]);
    }

    #[test]
    fn a_silent_member_loses_its_partitions_and_returns_without_any() {
        let start = Instant::now();
        let mut group = Group::default();
        let (silent, other) = (group.join(2, Arc::default(), start), group.join(2, Arc::default(), start));
        group.poll(silent, start);
        group.release(silent, &partitions(&[1]));
        let later = start + Duration::from_secs(10);
        group.poll(other, later);
        assert!(group.expire(later, Duration::from_secs(5)));
        assert_eq!(group.poll(other, later), [Change::Assigned(partitions(&[0]))]);
        assert!(!group.owns(silent, 0));
        assert_eq!(group.poll(silent, later), [Change::Lost(partitions(&[0]))]);
        assert_eq!(group.release(silent, &partitions(&[0])), None);
        assert_eq!(group.poll(other, later), [Change::Revoked(partitions(&[1]))]);
    }

    proptest! {
        /// Whatever happens: nobody owns what another owns, a settled group is balanced and everything is owned.
        #[test]
        fn a_settled_group_is_balanced_and_complete(steps in proptest::collection::vec((0_u8..5, 0_usize..6), 1..60), size in 1_u32..12) {
            let start = Instant::now();
            let mut now = start;
            let mut group = Group::default();
            let mut size = size;
            let mut known: Vec<(MemberId, BTreeSet<u32>)> = vec![(group.join(size, Arc::default(), now), BTreeSet::new())];
            let settle = |group: &mut Group, member: &mut (MemberId, BTreeSet<u32>), now| {
                for change in group.poll(member.0, now) {
                    match change {
                        Change::Assigned(ps) => for p in ps { assert!(member.1.insert(p.0), "assigned twice"); },
                        Change::Revoked(ps) | Change::Lost(ps) => {
                            for p in &ps { assert!(member.1.remove(&p.0), "took what it did not have"); }
                            assert_eq!(group.release(member.0, &ps), None);
                        }
                        Change::Restarted(_) => panic!("no log begins anew"),
                    }
                }
            };
            for (what, who) in steps {
                let who = who % known.len().max(1);
                match what {
                    0 => known.push((group.join(size, Arc::default(), now), BTreeSet::new())),
                    1 if known.len() > 1 => { group.leave(known.remove(who).0); }
                    2 => { now += Duration::from_secs(4); group.expire(now, Duration::from_secs(6)); }
                    3 => { size += 1; group.grow(size); }
                    _ => settle(&mut group, &mut known[who], now),
                }
            }
            for _ in 0..known.len() * 4 + 4 {
                for member in &mut known { settle(&mut group, member, now); }
            }
            let all: Vec<u32> = known.iter().flat_map(|m| m.1.iter().copied()).collect();
            prop_assert_eq!(all.len(), size as usize);
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), size as usize);
            let loads = known.iter().map(|m| m.1.len());
            prop_assert!(loads.clone().max().unwrap() - loads.min().unwrap() <= 1);
        }
    }
}

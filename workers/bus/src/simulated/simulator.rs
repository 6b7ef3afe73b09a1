//! What there is: the topics, the time, and what is on its way.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime, millis};

use super::dice::Dice;
use super::fault_schedule::FaultSchedule;
use super::topic::{Kept, Topic};
use crate::group::MemberId;
use crate::{Ack, BusError, DeliveryError};

/// What throws are for.
pub(super) mod purpose {
    pub(crate) const SEND: u64 = 1;
    pub(crate) const FETCH: u64 = 2;
    pub(crate) const REQUEST: u64 = 3;
    pub(crate) const CRASH: u64 = 4;
    pub(crate) const FULL: u64 = 5;
}

#[derive(Debug)]
pub(super) struct Simulator {
    pub(super) now: WallTime,
    /// What the coordinator is told the time is: it never takes anybody for dead by itself.
    pub(super) instant: Instant,
    pub(super) fault_schedule: FaultSchedule,
    /// Whether records travel at once, without waiting for [`Simulator::settle`].
    pub(super) eager: bool,
    pub(super) topics: Vec<Topic>,
    ids: HashMap<String, usize>,
    /// Sent since the last [`Simulator::settle`].
    outgoing: Vec<Sent>,
    flights: BTreeMap<(WallTime, u64), Flight>,
    /// When the last record under way of a producer's lane is written: those behind it come no sooner.
    lanes: BTreeMap<Lane, WallTime>,
    /// Members that died, when the group finds out.
    deaths: Vec<(WallTime, usize, String, MemberId)>,
    /// Partitions that were added, when consumers find out.
    discoveries: Vec<(WallTime, usize)>,
    serial: u64,
}

type Lane = (u64, usize, Partition);

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) producer: u64,
    pub(super) topic: usize,
    pub(super) record: Kept,
    pub(super) ack: Ack,
}

#[derive(Debug)]
enum Flight {
    Write { producer: u64, topic: usize, record: Kept },
    Ack { producer: u64, ack: Ack, lost: bool },
}

impl Simulator {
    pub(super) fn new(now: WallTime, fault_schedule: FaultSchedule, eager: bool) -> Self {
        Self {
            now,
            instant: Instant::now(),
            fault_schedule,
            eager,
            topics: Vec::new(),
            ids: HashMap::new(),
            outgoing: Vec::new(),
            flights: BTreeMap::new(),
            lanes: BTreeMap::new(),
            deaths: Vec::new(),
            discoveries: Vec::new(),
            serial: 0,
        }
    }

    /// A number nobody has had.
    pub(super) fn number(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn has_faults(&self) -> bool {
        self.now < self.fault_schedule.until
    }

    pub(super) fn dice(&self, purpose: &[u64]) -> Dice {
        let mut dice = Dice::new(self.fault_schedule.seed, purpose);
        Dice::new(dice.next_u64(), &[self.now.0.unsigned_abs()])
    }

    /// Whether a request stays without an answer.
    pub(super) fn unanswered(&mut self, doing: &str) -> Result<(), BusError> {
        let number = self.number();
        let mut dice = self.dice(&[purpose::REQUEST, number]);
        if self.has_faults() && dice.chance(self.fault_schedule.unanswered) {
            return Err(BusError::Unavailable { doing: doing.into(), why: "it is faulty".into() });
        }
        Ok(())
    }

    pub(super) fn id(&self, doing: &str, name: &str) -> Result<usize, BusError> {
        self.ids.get(name).copied().ok_or_else(|| BusError::Missing {
            doing: format!("{doing} {name}"),
            why: "it was not created".into(),
        })
    }

    pub(super) fn ensure(&mut self, plan: &TopicPlan) {
        let id = match self.ids.get(&plan.name) {
            Some(id) => *id,
            None => {
                self.topics.push(Topic {
                    name: plan.name.clone(),
                    known: plan.partitions,
                    ..Topic::default()
                });
                self.ids.insert(plan.name.clone(), self.topics.len() - 1);
                self.topics.len() - 1
            }
        };
        let topic = &mut self.topics[id];
        let wanted = (plan.partitions as usize).max(topic.logs.len());
        topic.logs.resize_with(wanted, Vec::new);
        if topic.known < topic.partitions() {
            let seen = self.now.plus(self.fault_schedule.discovery);
            self.discoveries.push((seen, id));
            self.discover();
        }
    }

    fn discover(&mut self) {
        let now = self.now;
        for (_, id) in self.discoveries.extract_if(.., |(when, _)| *when <= now) {
            let topic = &mut self.topics[id];
            topic.known = topic.partitions();
            for members in topic.groups.values_mut() {
                members.group.grow(topic.known);
            }
        }
    }

    pub(super) fn send(&mut self, sent: Sent) {
        self.outgoing.push(sent);
        if self.eager {
            self.settle();
            self.advance(self.now);
        }
    }

    /// Whether a producer has sent anything since the last [`Simulator::settle`].
    pub(super) fn has_outgoing(&self, producer: u64) -> bool {
        self.outgoing.iter().any(|sent| sent.producer == producer)
    }

    /// What was sent goes under way, a producer's and partition's records by key: stages walk hash maps whose order differs
    /// from process to process, and records of different keys sent in one step stand in no order anyway.
    pub(super) fn settle(&mut self) {
        let mut outgoing = std::mem::take(&mut self.outgoing);
        if !self.eager {
            outgoing.sort_by(|a, b| {
                let place = |sent: &Sent| (sent.producer, sent.topic, sent.record.partition);
                place(a).cmp(&place(b)).then_with(|| a.record.key.cmp(&b.record.key))
            });
        }
        for sent in outgoing {
            self.launch(sent);
        }
    }

    fn launch(&mut self, sent: Sent) {
        let Sent { producer, topic, record, ack } = sent;
        let number = self.number();
        let mut dice = self.dice(&[purpose::SEND, number]);
        let (mut written, mut told, mut outcome, mut doubled) = (self.now, self.now, Outcome::Written, None);
        if self.has_faults() {
            let sending = self.fault_schedule.sending(&self.topics[topic].name);
            let mut delay = |happens: bool| {
                let longest = if happens { millis(sending.longest) } else { 0 };
                Duration::from_millis(dice.between(0, longest).unsigned_abs())
            };
            let mut luck = Dice::new(self.fault_schedule.seed, &[purpose::SEND, number, 0]);
            written = written.plus(delay(luck.chance(sending.late)));
            told = written.plus(delay(luck.chance(sending.late_ack)));
            if luck.chance(sending.lost_ack) {
                (outcome, told) = (Outcome::AckLost, written.plus(delay(true)));
            } else if luck.chance(sending.unwritten) {
                (outcome, told) = (Outcome::Unwritten, written.plus(delay(true)));
            }
            doubled = luck.chance(sending.doubled).then(|| delay(true));
        }
        let lane = self.lanes.entry((producer, topic, record.partition)).or_insert(written);
        written = written.max(*lane);
        *lane = written;
        told = told.max(written);
        if outcome != Outcome::Unwritten {
            if let Some(delay) = doubled {
                self.fly(written.plus(delay), Flight::Write { producer, topic, record: record.clone() });
            }
            self.fly(written, Flight::Write { producer, topic, record });
        }
        self.fly(told, Flight::Ack { producer, ack, lost: outcome != Outcome::Written });
    }

    fn fly(&mut self, due: WallTime, flight: Flight) {
        let number = self.number();
        self.flights.insert((due, number), flight);
    }

    /// Brings the time to `to`, and does all that is due by then.
    pub(super) fn advance(&mut self, to: WallTime) {
        while let Some(entry) = self.flights.first_entry() {
            let due = entry.key().0;
            if due > to {
                break;
            }
            self.now = self.now.max(due);
            match entry.remove() {
                Flight::Write { topic, record, .. } => self.topics[topic].append(record, self.now),
                Flight::Ack { ack, lost: false, .. } => ack.report(Ok(())),
                Flight::Ack { ack, lost: true, .. } => {
                    ack.report(Err(DeliveryError { why: "no answer in time".into() }));
                }
            }
        }
        self.now = self.now.max(to);
        self.discover();
        let now = self.now;
        let died: Vec<_> = self.deaths.extract_if(.., |(when, ..)| *when <= now).collect();
        for (_, topic, group, member) in died {
            if let Some(members) = self.topics[topic].groups.get_mut(&group) {
                members.group.leave(member);
                members.deaf.remove(&member);
            }
        }
    }

    /// When the last acknowledgement under way is due.
    pub(super) fn last_ack(&self) -> Option<WallTime> {
        let mut flights = self.flights.iter().rev();
        flights.find(|(_, flight)| matches!(flight, Flight::Ack { .. })).map(|((due, _), _)| *due)
    }

    /// A producer died: of what it had under way, each partition gets a beginning.
    pub(super) fn crash(&mut self, producer: u64) {
        self.settle();
        let mut lanes: BTreeMap<Lane, u64> = BTreeMap::new();
        for flight in self.flights.values() {
            if let Flight::Write { producer: of, topic, record } = flight
                && *of == producer
            {
                *lanes.entry((producer, *topic, record.partition)).or_default() += 1;
            }
        }
        for ((_, topic, partition), count) in &mut lanes {
            let mut dice = self.dice(&[purpose::CRASH, producer, *topic as u64, u64::from(partition.0)]);
            *count = dice.below(*count + 1);
        }
        self.flights.retain(|_, flight| match flight {
            Flight::Ack { producer: of, .. } => *of != producer,
            Flight::Write { producer: of, .. } if *of != producer => true,
            Flight::Write { topic, record, .. } => {
                let left = lanes.entry((producer, *topic, record.partition)).or_default();
                let stays = *left > 0;
                *left = left.saturating_sub(1);
                stays
            }
        });
        self.lanes.retain(|(of, ..), _| *of != producer);
    }

    /// A member died.
    pub(super) fn member_died(&mut self, topic: usize, group: &str, member: MemberId) {
        let session = if self.has_faults() { self.fault_schedule.session } else { Duration::ZERO };
        self.deaths.push((self.now.plus(session), topic, group.to_owned(), member));
        if self.eager {
            self.advance(self.now);
        }
    }

    pub(super) fn read(
        &self,
        topic: usize,
        partition: Partition,
        from: Offset,
        limit: usize,
    ) -> Vec<Arc<Kept>> {
        let log = self.topics[topic].logs.get(partition.0 as usize).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(from.0).unwrap_or(0).min(log.len());
        log[from..log.len().min(from.saturating_add(limit))].to_vec()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    AckLost,
    Unwritten,
}

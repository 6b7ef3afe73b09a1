//! A bus in memory on a virtual clock, whose every fault comes from a seed: stages run on it unchanged, stepped by one thread.
//!
//! ```text
//! producer ─► outgoing ─settle─► under way ─advance─► log ─► consumer
//!                                (late, doubled, lost)        (in part, nothing for a while, taken for dead)
//! ```
//! - `simulator` is what there is and what is on its way, `topic` the logs and groups, `fault_schedule` what goes wrong, `dice` chance;
//! - the coordinator is the embedded bus's own.
//!
//! Whoever simulates steps the stages, calls [`SimulatedBus::settle`] after each step and [`SimulatedBus::advance`] to let
//! time pass. [`SimulatedBus::new`] makes one on which records travel at once, and nothing goes wrong.

mod consumer;
mod dice;
mod fault_schedule;
mod producer;
mod simulator;
mod topic;

use std::sync::Arc;
use std::time::Duration;

use herd_spec::plan::TopicPlan;
use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::Mutex;

pub use consumer::SimulatedConsumer;
pub use dice::Dice;
pub use fault_schedule::{FaultSchedule, Sending};
pub use producer::SimulatedProducer;
pub use topic::Kept;

use crate::{Bus, BusError, Membership, Progress, Record, Scanned, Since};
use simulator::Simulator;

/// A bus in memory, on a virtual clock.
#[derive(Clone, Debug)]
pub struct SimulatedBus {
    simulator: Arc<Mutex<Simulator>>,
}

impl Default for SimulatedBus {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedBus {
    /// One on which nothing goes wrong and nothing takes time.
    #[must_use]
    pub fn new() -> Self {
        Self { simulator: Arc::new(Mutex::new(Simulator::new(WallTime(0), FaultSchedule::default(), true))) }
    }

    /// One that begins at `now`, and does nothing but in [`SimulatedBus::settle`] and [`SimulatedBus::advance`].
    #[must_use]
    pub fn stepped(now: WallTime, fault_schedule: FaultSchedule) -> Self {
        Self { simulator: Arc::new(Mutex::new(Simulator::new(now, fault_schedule, false))) }
    }

    /// The time here.
    #[must_use]
    pub fn now(&self) -> WallTime {
        self.simulator.lock().now
    }

    /// What was sent goes under way; what takes no time arrives.
    pub fn settle(&self) {
        let mut simulator = self.simulator.lock();
        simulator.settle();
        let now = simulator.now;
        simulator.advance(now);
    }

    /// Lets time pass, up to `to`.
    pub fn advance(&self, to: WallTime) {
        let mut simulator = self.simulator.lock();
        simulator.settle();
        simulator.advance(to);
    }

    /// Lets time pass until all that was sent is acknowledged or failed.
    pub fn await_acks(&self) {
        let mut simulator = self.simulator.lock();
        simulator.settle();
        let until = simulator.last_ack().unwrap_or(simulator.now);
        simulator.advance(until);
    }

    /// The group takes this member for dead and gives its partitions to others; the member goes on as before, and hears of
    /// it at `until`.
    pub fn expel(&self, topic: &str, group: &str, instance: &str, until: WallTime) {
        let mut simulator = self.simulator.lock();
        let Ok(topic) = simulator.id("expelling from", topic) else { return };
        let Some(members) = simulator.topics[topic].groups.get_mut(group) else { return };
        if let Some(id) = members.names.get(instance).copied() {
            members.deaf.insert(id, until);
            members.group.evict(id);
        }
    }

    /// All records of a topic, by partition and offset.
    #[must_use]
    pub fn records(&self, topic: &str) -> Vec<Arc<Kept>> {
        let simulator = self.simulator.lock();
        simulator.id("reading", topic).map_or_else(
            |_| Vec::new(),
            |topic| simulator.topics[topic].logs.iter().flatten().cloned().collect(),
        )
    }
}

impl SimulatedBus {
    /// The records of a partition from an offset on, which may depend on where it ends; and where that is.
    fn kept(
        &self,
        topic: &str,
        partition: Partition,
        from: impl FnOnce(Offset) -> Offset,
    ) -> Result<(Vec<Arc<Kept>>, Offset), BusError> {
        let mut simulator = self.simulator.lock();
        simulator.unanswered("scanning")?;
        let id = simulator.id("scanning", topic)?;
        let end = simulator.topics[id].end(partition).ok_or_else(|| BusError::Missing {
            doing: format!("scanning {topic}/{partition}"),
            why: "the topic has fewer partitions".into(),
        })?;
        Ok((simulator.read(id, partition, from(end), usize::MAX), end))
    }
}

impl Bus for SimulatedBus {
    type Producer = SimulatedProducer;
    type Consumer = SimulatedConsumer;

    fn producer(&self, name: &str) -> Result<Self::Producer, BusError> {
        Ok(SimulatedProducer::new(&self.simulator, name))
    }

    fn consumer(&self, topic: &str, membership: Membership<'_>) -> Result<Self::Consumer, BusError> {
        let topic = self.simulator.lock().id("reading", topic)?;
        Ok(SimulatedConsumer::new(&self.simulator, topic, membership))
    }

    fn ensure_topics(&self, topics: &[&TopicPlan]) -> Result<(), BusError> {
        let mut simulator = self.simulator.lock();
        topics.iter().for_each(|plan| simulator.ensure(plan));
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        let simulator = self.simulator.lock();
        let id = simulator.id("counting the partitions of", topic)?;
        Ok(simulator.topics[id].partitions())
    }

    fn scan(
        &self,
        topic: &str,
        partition: Partition,
        _patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Offset, BusError> {
        let (records, end) = self.kept(topic, partition, |_| Offset(0))?;
        records.iter().for_each(|record| each(&record.record()));
        Ok(end)
    }

    fn scan_since(
        &self,
        topic: &str,
        partition: Partition,
        since: Since,
        _patience: Duration,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Scanned, BusError> {
        let (records, end) = self.kept(topic, partition, |end| since.oldest(Offset(0), end))?;
        let oldest = since.oldest(Offset(0), end);
        let older = records.iter().take_while(|record| record.timestamp < since.time).count();
        let wanted = &records[older..];
        let start = wanted.first().map_or(end, |record| record.offset);
        wanted.iter().for_each(|record| each(&record.record()));
        Ok(Scanned { start, end, cut: start == oldest && oldest > Offset(0) })
    }

    fn progress(&self, topic: &str, group: &str) -> Result<Vec<Progress>, BusError> {
        let mut simulator = self.simulator.lock();
        simulator.unanswered("looking at the progress")?;
        let topic = &simulator.topics[simulator.id("looking at the progress on", topic)?];
        let of = |partition| Progress {
            partition: Partition(partition),
            start: Offset(0),
            end: topic.end(Partition(partition)).unwrap_or_default(),
            committed: topic.groups.get(group).and_then(|g| g.commits.get(&partition)).map(|c| c.next),
        };
        Ok((0..topic.partitions()).map(of).collect())
    }

    fn ping(&self, _patience: Duration) -> Result<(), BusError> {
        self.simulator.lock().unanswered("asking for an answer")
    }
}

//! Sending on the simulated bus.

use std::sync::Arc;
use std::time::Duration;

use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::Mutex;

use super::simulator::{Sent, Simulator, purpose};
use super::topic::Kept;
use crate::{Ack, Outgoing, Producer, SendError, partitioner};

/// Sends on a [`super::SimulatedBus`]. When its last clone goes, what it has under way is cut off: whoever ends in good
/// order has waited for its acknowledgements.
#[derive(Clone, Debug)]
pub struct SimulatedProducer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    simulator: Arc<Mutex<Simulator>>,
    id: u64,
    name: Arc<str>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.simulator.lock().crash(self.id);
    }
}

impl SimulatedProducer {
    pub(super) fn new(simulator: &Arc<Mutex<Simulator>>, name: &str) -> Self {
        let id = simulator.lock().number();
        Self(Arc::new(Handle { simulator: Arc::clone(simulator), id, name: name.into() }))
    }
}

impl Producer for SimulatedProducer {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        let mut simulator = self.0.simulator.lock();
        let Ok(id) = simulator.id("sending to", record.topic) else {
            ack.cancel();
            return Err(SendError::Refused(format!("there is no topic {}", record.topic)));
        };
        let topic = &simulator.topics[id];
        let (partitions, full) = (topic.partitions(), simulator.fault_schedule.sending(record.topic).full);
        let number = simulator.number();
        let partition = record.partition.unwrap_or_else(|| match record.key {
            Some(key) => partitioner::partition_of(key, partitions),
            None => Partition(u32::try_from(number % u64::from(partitions.max(1))).unwrap_or(0)),
        });
        if partition.0 >= partitions {
            ack.cancel();
            return Err(SendError::Refused(format!("{} has {partitions} partitions", record.topic)));
        }
        // Only for the first record of a burst: which one comes in the middle depends on the order of hash maps.
        let first = !simulator.has_outgoing(self.0.id);
        if simulator.has_faults() && first && simulator.dice(&[purpose::FULL, number]).chance(full) {
            ack.cancel();
            return Err(SendError::Full);
        }
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        let kept = Kept {
            partition,
            offset: Offset(0),
            timestamp: record.timestamp,
            written: WallTime(0),
            producer: Arc::clone(&self.0.name),
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: headers.collect(),
        };
        simulator.send(Sent { producer: self.0.id, topic: id, record: kept, ack });
        Ok(())
    }

    /// Time passes until everything on the bus is acknowledged; at most `patience`.
    fn flush(&self, patience: Duration) -> usize {
        let mut simulator = self.0.simulator.lock();
        simulator.settle();
        let latest = simulator.now.plus(patience);
        let until = simulator.last_ack().unwrap_or(simulator.now);
        simulator.advance(until.min(latest));
        usize::from(until > latest)
    }
}

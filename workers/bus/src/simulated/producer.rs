//! Sending on the simulated bus.

use std::sync::Arc;
use std::time::Duration;

use herd_spec::units::{Offset, Partition, WallTime};
use parking_lot::Mutex;

use super::topic::Kept;
use super::world::{Sent, World, purpose};
use crate::{Ack, Outgoing, Producer, SendError, partitioner};

/// Sends on a [`super::SimulatedBus`]. When its last clone goes, what it has under way is cut off: whoever ends in good
/// order has waited for its acknowledgements.
#[derive(Clone, Debug)]
pub struct SimulatedProducer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    world: Arc<Mutex<World>>,
    id: u64,
    name: Arc<str>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.world.lock().crash(self.id);
    }
}

impl SimulatedProducer {
    pub(super) fn new(world: &Arc<Mutex<World>>, name: &str) -> Self {
        let id = world.lock().number();
        Self(Arc::new(Handle { world: Arc::clone(world), id, name: name.into() }))
    }
}

impl Producer for SimulatedProducer {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        let mut world = self.0.world.lock();
        let Ok(id) = world.id("sending to", record.topic) else {
            ack.cancel();
            return Err(SendError::Refused(format!("there is no topic {}", record.topic)));
        };
        let topic = &world.topics[id];
        let (partitions, full) = (topic.partitions(), world.weather.sending(record.topic).full);
        let number = world.number();
        let partition = record.partition.unwrap_or_else(|| match record.key {
            Some(key) => partitioner::partition_of(key, partitions),
            None => Partition(u32::try_from(number % u64::from(partitions.max(1))).unwrap_or(0)),
        });
        if partition.0 >= partitions {
            ack.cancel();
            return Err(SendError::Refused(format!("{} has {partitions} partitions", record.topic)));
        }
        // Only for the first record of a burst: which one comes in the middle depends on the order of hash maps.
        let first = !world.has_outgoing(self.0.id);
        if world.is_stormy() && first && world.dice(&[purpose::FULL, number]).chance(full) {
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
        world.send(Sent { producer: self.0.id, topic: id, record: kept, ack });
        Ok(())
    }

    /// Time passes until everything on the bus is acknowledged; at most `patience`.
    fn flush(&self, patience: Duration) -> usize {
        let mut world = self.0.world.lock();
        world.settle();
        let latest = world.now.plus(patience);
        let until = world.last_ack().unwrap_or(world.now);
        world.advance(until.min(latest));
        usize::from(until > latest)
    }
}

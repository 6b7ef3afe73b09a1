//! Sending to the embedded bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use herd_spec::units::Partition;

use super::Inner;
use super::chunk::{Fields, record_size};
use crate::{Ack, Outgoing, Producer, SendError, partitioner};

/// The largest record that is taken, as with Kafka's default `message.max.bytes`.
const RECORD_BYTES: usize = 1 << 20;

/// Sends to an [`super::EmbeddedBus`].
#[derive(Clone, Debug)]
pub struct EmbeddedProducer {
    bus: Arc<Inner>,
    /// Where the next record without a key goes.
    turn: Arc<AtomicU32>,
}

impl EmbeddedProducer {
    pub(super) fn new(bus: Arc<Inner>) -> Self {
        Self { bus, turn: Arc::default() }
    }
}

impl Producer for EmbeddedProducer {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        let refuse = |ack: Ack, why: String| {
            ack.cancel();
            Err(SendError::Refused(why))
        };
        let Some(topic) = self.bus.topic(record.topic) else {
            return refuse(ack, format!("there is no topic {}", record.topic));
        };
        let partitions = topic.partitions();
        let partition = record.partition.unwrap_or_else(|| match record.key {
            Some(key) => partitioner::partition_of(key, partitions),
            None => Partition(self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(partitions).unwrap_or(0)),
        });
        let Some(log) = topic.log(partition) else {
            return refuse(
                ack,
                format!("{} has {partitions} partitions, not {}", record.topic, u64::from(partition.0) + 1),
            );
        };
        let fields = Fields { timestamp: record.timestamp, key: record.key, value: record.value };
        let size = record_size(fields, record.headers);
        if size > RECORD_BYTES || record.headers.len() > usize::from(u16::MAX) {
            return refuse(ack, format!("it has {size} bytes, {RECORD_BYTES} are allowed"));
        }
        if let Some((name, _)) = record.headers.iter().find(|(name, _)| name.len() > usize::from(u16::MAX)) {
            return refuse(
                ack,
                format!("the name of a header has {} bytes, {} are allowed", name.len(), u16::MAX),
            );
        }
        let queue = &self.bus.queue;
        if let Some(why) = queue.broken() {
            ack.cancel();
            return Err(SendError::Unavailable(why));
        }
        if !queue.reserve(size) {
            ack.cancel();
            return Err(SendError::Full);
        }
        log.enqueue(fields, record.headers, ack, || queue.wake(&topic, &log));
        Ok(())
    }

    fn flush(&self, patience: Duration) -> usize {
        self.bus.queue.flush(Instant::now() + patience)
    }
}

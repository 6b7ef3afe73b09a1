//! Sends what a step produced and keeps count of what is not yet acknowledged.

use std::sync::Arc;
use std::time::Duration;

use herd_bus::{Acks, Outgoing, Producer, SendError};

use crate::DetectorError;

/// How long the broker may take to make room or to acknowledge before the stage gives up and starts again.
const PATIENCE: Duration = Duration::from_secs(120);

/// A producer and what it owes.
#[derive(Debug)]
pub struct Outbox<P> {
    producer: P,
    acks: Arc<Acks>,
    buffer: Vec<u8>,
}

/// How long the records of one cycle may take to be acknowledged, where a member waits for nothing else.
pub(crate) const CYCLE_PATIENCE: Duration = Duration::from_secs(60);

impl<P: Producer> Outbox<P> {
    /// With nothing sent.
    pub fn new(producer: P) -> Self {
        Self { producer, acks: Acks::new(), buffer: Vec::with_capacity(1024) }
    }

    /// Sends one record whose value `write` writes. Waits only where the queue to the broker is full.
    ///
    /// # Errors
    /// If the record is refused, or there is no room for two minutes.
    pub fn send(
        &mut self,
        record: Outgoing<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), DetectorError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        write(&mut buffer);
        let sent = self.hand_over(Outgoing { value: Some(&buffer), ..record });
        self.buffer = buffer;
        sent
    }

    /// Sends a tombstone.
    ///
    /// # Errors
    /// As [`Outbox::send`].
    pub fn forget(&mut self, record: Outgoing<'_>) -> Result<(), DetectorError> {
        self.hand_over(Outgoing { value: None, ..record })
    }

    fn hand_over(&mut self, record: Outgoing<'_>) -> Result<(), DetectorError> {
        let mut tries = 0;
        loop {
            let ack = self.acks.expect(0);
            // A send that is not taken drops nothing: the record leaves the count with its Ack.
            match self.producer.send(&record, ack) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) if tries < 1200 => {
                    tries += 1;
                    self.producer.flush(PATIENCE / 1200);
                }
                Err(error) => {
                    let topic = record.topic.to_owned();
                    return Err(DetectorError::Send { topic, why: error.to_string() });
                }
            }
        }
    }

    /// Waits at most `wait` for everything sent so far; whether it is acknowledged.
    ///
    /// # Errors
    /// If a record failed for good: the stage must stop, and starts again from its commit.
    pub fn settled(&mut self, wait: Duration) -> Result<bool, DetectorError> {
        let done = self.acks.wait(wait);
        match self.acks.take_failed().into_iter().next() {
            Some((_, error)) => Err(DetectorError::Delivery(error)),
            None => Ok(done),
        }
    }
}

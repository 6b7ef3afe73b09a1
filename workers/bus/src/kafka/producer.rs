//! Sending to Kafka.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::context::Deliveries;
use super::error::bus_error;
use super::settings::KafkaSettings;
use crate::{Ack, BusError, Outgoing, Producer, SendError};

/// Sends to Kafka: idempotent, acknowledged by all replicas in sync.
#[derive(Clone)]
pub struct KafkaProducer {
    producer: Arc<ThreadedProducer<Deliveries>>,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer").finish_non_exhaustive()
    }
}

impl KafkaProducer {
    pub(super) fn new(settings: &KafkaSettings, name: &str) -> Result<Self, BusError> {
        let producer = settings
            .producer(name)
            .create_with_context(Deliveries)
            .map_err(|error| bus_error(format!("opening the producer {name}"), &error))?;
        Ok(Self { producer: Arc::new(producer) })
    }
}

impl Producer for KafkaProducer {
    fn send(&self, record: &Outgoing<'_>, ack: Ack) -> Result<(), SendError> {
        let mut out: BaseRecord<'_, [u8], [u8], Box<Ack>> =
            BaseRecord::with_opaque_to(record.topic, Box::new(ack)).timestamp(record.timestamp.0);
        out.key = record.key;
        out.payload = record.value;
        out.partition = record.partition.map(|partition| i32::try_from(partition.0).unwrap_or(i32::MAX));
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in record.headers {
                headers = headers.insert(Header { key, value: Some(*value) });
            }
            out.headers = Some(headers);
        }
        self.producer.send(out).map_err(|(error, record)| {
            record.delivery_opaque.cancel();
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => SendError::Full,
                error => SendError::Refused(error.to_string()),
            }
        })
    }

    fn flush(&self, patience: Duration) -> usize {
        match self.producer.flush(patience) {
            Ok(()) => 0,
            Err(_) => usize::try_from(self.producer.in_flight_count()).unwrap_or(0),
        }
    }
}

//! Refused records on their way to the dead-letter topic: the bytes as they came, headers that say why.

use std::borrow::Cow;

use herd_bus::{Ack, Outgoing, Producer, SendError};
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::dead_letter as header;

/// Why a record was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What was being done, in the words of Kafka Connect.
    pub(crate) stage: &'static str,
    /// The kind of error, for machines.
    pub(crate) class: Cow<'static, str>,
    /// The error, for people.
    pub(crate) message: String,
}

impl Refusal {
    /// It could not be read.
    pub(crate) fn malformed(error: &impl std::fmt::Display) -> Self {
        Self { stage: "VALUE_CONVERTER", class: "malformed".into(), message: error.to_string() }
    }

    /// It could be read, and not be put where it should go.
    pub(crate) fn put(class: impl Into<Cow<'static, str>>, error: &impl std::fmt::Display) -> Self {
        Self { stage: "TASK_PUT", class: class.into(), message: error.to_string() }
    }
}

/// A refused record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedRecord<'a> {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) timestamp: WallTime,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) refusal: &'a Refusal,
}

/// Where refused records of one topic go.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters<P> {
    pub(crate) producer: P,
    /// The dead-letter topic.
    pub(crate) topic: String,
    /// The topic they were read from.
    pub(crate) source: String,
    /// `sink.NAME`.
    pub(crate) connector: String,
}

impl<P: Producer> DeadLetters<P> {
    pub(crate) fn send(&self, record: &RefusedRecord<'_>, ack: Ack) -> Result<(), SendError> {
        let partition = record.partition.to_string();
        let offset = record.offset.to_string();
        let received = record.timestamp.to_string();
        let headers = [
            (header::TOPIC, self.source.as_bytes()),
            (header::PARTITION, partition.as_bytes()),
            (header::OFFSET, offset.as_bytes()),
            (header::CONNECTOR, self.connector.as_bytes()),
            (header::STAGE, record.refusal.stage.as_bytes()),
            (header::ERROR_CLASS, record.refusal.class.as_bytes()),
            (header::ERROR_MESSAGE, record.refusal.message.as_bytes()),
            (header::RECEIVED, received.as_bytes()),
        ];
        self.producer.send(
            &Outgoing {
                topic: &self.topic,
                partition: None,
                key: record.key,
                value: record.value,
                timestamp: record.timestamp,
                headers: &headers,
            },
            ack,
        )
    }
}

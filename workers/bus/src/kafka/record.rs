//! From librdkafka's messages to records.

use herd_spec::units::{Offset, Partition, WallTime};
use rdkafka::message::{BorrowedMessage, Message as _};

use crate::{Headers, Record};

/// What a message is to a stage.
pub(super) fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        partition: partition(message),
        offset: Offset(message.offset()),
        timestamp: WallTime(message.timestamp().to_millis().unwrap_or(0)),
        key: message.key(),
        value: message.payload(),
        headers: message.headers().map_or(Headers::NONE, Headers::kafka),
    }
}

pub(super) fn partition(message: &BorrowedMessage<'_>) -> Partition {
    // Messages come from partitions that exist: none is negative.
    Partition(u32::try_from(message.partition()).unwrap_or(0))
}

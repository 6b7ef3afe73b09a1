//! What librdkafka calls back: logs, delivery reports, rebalances.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use herd_spec::units::Partition;

use super::failure::LastFailure;
use crate::{Ack, Change, DeliveryError};

/// librdkafka's log lines hold addresses and reasons, never secrets.
fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::error!(facility, "{message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, "{message}"),
    }
}

fn global_error(error: &KafkaError, reason: &str) {
    // A scan that ends before its last partition's end is handed out leaves it to the client.
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
        tracing::warn!(%error, "Kafka: {reason}");
    }
}

/// For clients that only ask and scan. Clones share what is known of failed connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Plain {
    /// Why the last connection failed, if none has succeeded since.
    pub(super) connection: LastFailure,
}

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
        // An error code says only that a broker does not answer; the log says which, and why.
        if facility == "FAIL" {
            self.connection.observe(message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        global_error(&error, reason);
    }
}

impl ConsumerContext for Plain {}

/// For producers: hands delivery reports to the record's [`Ack`].
#[derive(Debug)]
pub(super) struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        global_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ack>;

    fn delivery(&self, result: &DeliveryResult<'_>, ack: Box<Ack>) {
        ack.report(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(DeliveryError { why: reason(error) }),
        });
    }
}

/// What a client says of a record that was not written, and what to do where it does not say.
fn reason(error: &KafkaError) -> String {
    let hint = match error.rdkafka_error_code() {
        // Of a batch, only the records in front are refused by the first name.
        Some(RDKafkaErrorCode::InvalidTimestamp | RDKafkaErrorCode::InvalidRecord) => {
            "; brokers refuse records from too far in the future (message.timestamp.after.max.ms): check the clock of this machine"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// For members: writes down what happened to the assignment, to be answered by the stage when it is ready. librdkafka keeps
/// the group waiting until it is.
#[derive(Debug, Default)]
pub(super) struct Rebalances {
    changes: Mutex<Vec<Change>>,
    waiting: AtomicBool,
    /// Whether the group has taken this member in.
    pub(super) joined: AtomicBool,
    /// Nobody will answer any more: answer at once.
    pub(super) closing: AtomicBool,
}

impl Rebalances {
    pub(super) fn waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Vec<Change> {
        let mut changes = self.changes.lock();
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *changes)
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        global_error(&error, reason);
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let mut partitions: Vec<_> = list
            .elements()
            .iter()
            .filter_map(|element| u32::try_from(element.partition()).ok())
            .map(Partition)
            .collect();
        partitions.sort();
        self.joined.store(true, Ordering::Release);
        let closing = self.closing.load(Ordering::Acquire);
        if closing || partitions.is_empty() {
            let answer =
                if assign { consumer.incremental_assign(list) } else { consumer.incremental_unassign(list) };
            if let Err(error) = answer {
                tracing::debug!(%error, "a rebalance could not be answered");
            }
            return;
        }
        let change = match (assign, consumer.assignment_lost()) {
            (true, _) => Change::Assigned(partitions),
            (false, false) => Change::Revoked(partitions),
            (false, true) => Change::Lost(partitions),
        };
        self.changes.lock().push(change);
        self.waiting.store(true, Ordering::Release);
    }
}

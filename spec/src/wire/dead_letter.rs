//! What was refused, as it came: the record's value is the raw bytes, its headers say why, by the convention of Kafka
//! Connect's dead letter queues, so that the tools people have for those work here.

/// Name of the topic or endpoint the bytes came from, e.g. `/track` or `shop.events`.
pub const TOPIC: &str = "__connect.errors.topic";
/// Partition it was read from; absent for HTTP.
pub const PARTITION: &str = "__connect.errors.partition";
/// Offset it was read from; absent for HTTP.
pub const OFFSET: &str = "__connect.errors.offset";
/// The component that refused it, e.g. `collector`, `sink.orders-webhook`.
pub const CONNECTOR: &str = "__connect.errors.connector.name";
/// What was being done, e.g. `VALUE_CONVERTER`, `TRANSFORMATION`, `TASK_PUT`.
pub const STAGE: &str = "__connect.errors.stage";
/// The kind of error, machine-readable, e.g. `invalid-json`, `missing-field`, `future-time`.
pub const ERROR_CLASS: &str = "__connect.errors.exception.class.name";
/// Error classes of a body that could not be parsed at all: then its record has the whole body, and not one item of a batch.
pub const UNREADABLE: [&str; 3] = [INVALID_JSON, INVALID_GZIP, INVALID_ZSTD];
/// Error class: the body is not JSON.
pub const INVALID_JSON: &str = "invalid-json";
/// Error class: the body was sent as gzip, and is not.
pub const INVALID_GZIP: &str = "invalid-gzip";
/// Error class: the body was sent as Zstandard, and is not.
pub const INVALID_ZSTD: &str = "invalid-zstd";
/// The error in words.
pub const ERROR_MESSAGE: &str = "__connect.errors.exception.message";
/// When it was received, milliseconds since 1970, as text. Herd's own.
pub const RECEIVED: &str = "herd.received";
/// The content type the bytes were sent with. Herd's own.
pub const CONTENT_TYPE: &str = "herd.content-type";
/// When the batch of the event was sent, by the clock of its sender, RFC 3339: of Segment's API, which corrects times by it. Herd's own.
pub const SENT_AT: &str = "herd.sent-at";
/// Header of a request that sends a dead letter again: the value of [`RECEIVED`].
pub const REQUEST_RECEIVED: &str = "herd-received";
/// How many bytes there were, as text, where only the first of them are kept: a broker would refuse more. Herd's own.
pub const TRUNCATED: &str = "herd.truncated-from";

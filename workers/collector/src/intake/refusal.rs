//! Reasons for which events are refused.

use std::fmt;

use herd_spec::wire::dead_letter;

/// Why an item was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Machine-readable kind.
    pub code: Code,
    /// Human-readable explanation, and what to do.
    pub detail: String,
}

/// Kinds of refusal. Their names appear in responses, metrics and the headers of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// The body is not valid gzip.
    InvalidGzip,
    /// The body is not valid zstd.
    InvalidZstd,
    /// The event is not a JSON object.
    NotAnObject,
    /// A required field is missing.
    MissingField,
    /// A field has the wrong type, is too long, or occurs twice.
    InvalidField,
    /// A value that cannot be stored: a NUL character, a number out of range, or too deep nesting.
    InvalidValue,
    /// The event type is not accepted by the pipeline.
    UnknownType,
    /// The time cannot be parsed.
    InvalidTime,
    /// The time is too far ahead of the collector's clock.
    FutureTime,
    /// The time is too long before the time of receipt.
    PastTime,
    /// The event does not satisfy the JSON Schema of the pipeline.
    Schema,
    /// The event is longer than [`super::EVENT_BYTES`].
    TooLarge,
    /// Not a CloudEvent, or an unsupported version.
    InvalidCloudEvent,
}

impl Code {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => dead_letter::INVALID_JSON,
            Self::InvalidGzip => dead_letter::INVALID_GZIP,
            Self::InvalidZstd => dead_letter::INVALID_ZSTD,
            Self::NotAnObject => "not-an-object",
            Self::MissingField => "missing-field",
            Self::InvalidField => "invalid-field",
            Self::InvalidValue => "invalid-value",
            Self::UnknownType => "unknown-type",
            Self::InvalidTime => "invalid-time",
            Self::FutureTime => "future-time",
            Self::PastTime => "past-time",
            Self::Schema => "schema",
            Self::TooLarge => "too-large",
            Self::InvalidCloudEvent => "invalid-cloudevent",
        }
    }

    /// Whether the bytes could not be parsed at all.
    #[must_use]
    pub fn is_unreadable(self) -> bool {
        dead_letter::UNREADABLE.contains(&self.as_str())
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Refusal {}

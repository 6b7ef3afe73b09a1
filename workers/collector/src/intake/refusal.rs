//! Why something that was sent is no event.

use std::fmt;

/// Why an item was refused: a kind for machines, words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub code: Code,
    /// What is wrong, where, and what to do.
    pub detail: String,
}

/// The kinds of refusal. Their names stand in replies, in metrics and in the headers of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Not JSON.
    InvalidJson,
    /// A gzip stream that is broken.
    InvalidGzip,
    /// JSON, but no object.
    NotAnObject,
    /// A part that every event needs is not there.
    MissingField,
    /// A part is of the wrong kind, too long, or written twice.
    InvalidField,
    /// A value somewhere in the event that could not be kept: a NUL character, a number beyond all range, too
    /// deep a nesting.
    InvalidValue,
    /// A type that the pipeline does not take.
    UnknownType,
    /// A time that cannot be read.
    InvalidTime,
    /// A time too far ahead of the collector's clock.
    FutureTime,
    /// A time too long before it was received.
    PastTime,
    /// Against the pipeline's JSON Schema.
    Schema,
    /// Longer than [`super::EVENT_BYTES`].
    TooLarge,
    /// Not a CloudEvent, or of another version.
    InvalidCloudEvent,
}

impl Code {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid-json",
            Self::InvalidGzip => "invalid-gzip",
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

    /// Whether the bytes could not be read at all, rather than read and found wrong.
    #[must_use]
    pub fn is_unreadable(self) -> bool {
        matches!(self, Self::InvalidJson | Self::InvalidGzip)
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

//! The records that travel between stages, each JSON with a version, so that `kcat` and a person can read them.
//!
//! | topic | record | key | type |
//! |---|---|---|---|
//! | `events` | an accepted event | user id (configurable) | [`Event`], [`EventRef`] |
//! | `parts` | one source partition's value of one window, or its watermark | metric + key | [`PartRecord`] |
//! | `windows` | a window's value, running or final | metric + key | [`Window`] |
//! | `alerts` | a detector's verdict | alert id | [`Alert`] |
//! | `dead-letter` | the raw bytes of what was refused | as it came | [`dead_letter`] |
//! | `baselines` | a key's history, compacted | metric + key | the judge's own |

mod alert;
pub mod dead_letter;
mod event;
mod fingerprint;
mod part;
mod window;

pub use alert::{Alert, AlertId, AlertState, Cause, Ending, Episode, Explanation, Severity};
pub use event::{Event, EventRef, FieldPath, NewEvent};
pub use fingerprint::Fingerprint;
pub use part::{Aggregate, Part, PartRecord, Shape, SourceState, SourceTotal, Watermark};
pub use window::{Band, Window};

/// The version that this build writes. Readers accept it and refuse any other.
pub const VERSION: u8 = 1;

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Not JSON, or not of this record's shape.
    #[error("not a valid {record} record: {source}")]
    Malformed {
        /// The kind of record that was expected.
        record: &'static str,
        /// What the JSON reader found.
        source: serde_json::Error,
    },
    /// Written by a version of Herd that this one does not know.
    #[error("{record} record of version {found}, this build reads version {VERSION}: upgrade this stage")]
    Version {
        /// The kind of record that was expected.
        record: &'static str,
        /// The version found.
        found: u8,
    },
    /// JSON of the right shape with a value that makes no sense.
    #[error("{record} record with an invalid {field}")]
    Field {
        /// The kind of record that was expected.
        record: &'static str,
        /// The field.
        field: &'static str,
    },
}

fn check_version(record: &'static str, found: u8) -> Result<(), WireError> {
    if found == VERSION { Ok(()) } else { Err(WireError::Version { record, found }) }
}

/// The key of `windows`, `parts` and `baselines` records: metric and key joined by a unit separator (0x1F).
pub fn metric_key(metric: &str, key: &str) -> Vec<u8> {
    let mut joined = Vec::with_capacity(metric.len() + 1 + key.len());
    joined.extend_from_slice(metric.as_bytes());
    joined.push(0x1F);
    joined.extend_from_slice(key.as_bytes());
    joined
}

/// Appends `value` as JSON. The wire types have string keys and no failing serializers, and a `Vec` takes every write.
fn write_json<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "wire types always serialize");
}

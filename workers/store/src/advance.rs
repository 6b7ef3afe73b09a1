//! Arguments and results of writing a batch, shared by both dialects.

use herd_spec::units::{Offset, Partition};

use crate::StoreError;

/// The advance of the stored position of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: Partition,
    /// The stored position that the writer expects.
    pub expected: Offset,
    /// The new position: the offset after the last record of the batch.
    pub next: Offset,
}

impl Advance<'_> {
    pub(crate) fn fenced(advances: &[Advance<'_>]) -> StoreError {
        let first = advances.first();
        StoreError::Fenced {
            topic: first.map_or_else(String::new, |advance| advance.topic.to_owned()),
            partition: first.map_or(Partition(0), |advance| advance.partition),
            expected: first.map_or(Offset(0), |advance| advance.expected),
        }
    }
}

/// Result of writing a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Number of new rows; for alerts, of new or changed rows.
    pub inserted: u64,
}

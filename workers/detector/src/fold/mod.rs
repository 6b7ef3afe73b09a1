//! Fold: counts the events of each source partition into its open windows, and tells judge.
//!
//! [`source`] is the protocol for one partition, pure; [`worker`] drives a group member's partitions over the bus.

mod growth;
pub mod source;
mod window;
pub mod worker;

pub use source::{ApplyOutcome, Source};
pub use worker::Fold;

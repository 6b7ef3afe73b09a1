//! Judge: adds the sources' parts up, closes windows when every source has passed them, scores them and raises alerts.
//!
//! [`words`] decides what is closed, [`docket`] holds one partition of `parts`, [`baseline`] a key's memory, [`verdict`]
//! what a detector says of a window, `retired` the windows of definitions that are not the plan's, `disowned` what no
//! detector owns any more; all pure. [`worker`] drives a group member's partitions over the bus.

pub mod baseline;
mod disowned;
pub mod docket;
mod metric;
mod open;
mod retired;
mod review;
pub mod verdict;
pub mod watch;
pub mod words;
pub mod worker;

pub use worker::Judge;

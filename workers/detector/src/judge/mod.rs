//! Judge: adds the sources' parts up, closes windows when every source has passed them, scores them and raises alerts.
//!
//! `watermarks` decides what is closed, [`partition`] holds one partition of `parts`, [`baseline`] a key's memory, [`verdict`]
//! what a detector says of a window, `retired` the windows of definitions that are not the plan's, `disowned` what no
//! detector owns any more; all pure. [`worker`] drives a group member's partitions over the bus.

pub mod activity;
pub mod baseline;
mod closing;
pub mod crowds;
mod disowned;
mod early;
mod episodes;
pub mod levels;
mod metric;
mod open_windows;
pub mod output;
pub mod partition;
mod retired;
mod review;
mod sentence;
mod totals;
pub mod totals_watch;
pub mod verdict;
pub mod watch;
mod watermarks;
pub mod worker;

pub(crate) use sentence::thousands;
pub use worker::Judge;

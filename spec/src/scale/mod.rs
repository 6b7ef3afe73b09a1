//! How many replicas a stage should have, and why: the only place that decides it, on Kubernetes, under `herd up` and in
//! the simulator.
//!
//! ```text
//! plan ──► Policy ─────┐
//! polls ─► History ────┼─► decide ─► Decision { replicas, reason, findings, signals, memory }
//! Memory ◄─────────────┼──────────────────────────────────────────────────────────────┘
//! pods ──► Pods ───────┘
//! ```
//!
//! [`decide`] is pure: no clock, no I/O, the same answer for the same arguments. The shell looks at the stage every
//! [`POLL`], and once more [`SECOND_LOOK`] later where [`Decision::wants_another_look`], pushes what it saw into a
//! [`History`], calls [`decide`], carries [`Decision::replicas`] out and keeps [`Decision::memory`] for the next call. `docs/scaling.md` explains the rule.
//!
//! - `decide`: the order of the questions. `target`: from demand to a count. `signals`: rates and delays.
//! - `capacity`: what one replica can do. `trial`: whether added replicas helped.
//! - [`schedule`]: times at which more are kept.

mod capacity;
mod decide;
mod history;
mod memory;
mod policy;
mod reason;
pub mod schedule;
mod signals;
mod target;
#[cfg(test)]
mod tests;
mod trial;

pub use decide::{Decision, Pods, decide};
pub use history::{History, Observation, PartitionName, PartitionProgress, Reset, Work};
pub use memory::{Block, Capacity, Memory, Scaling};
pub use policy::{POLL, Policy, SECOND_LOOK, Source};
pub use reason::{Finding, Reason};
pub use signals::{PartitionSignals, Signals};

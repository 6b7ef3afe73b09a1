//! Decides how many replicas a stage should have, and why: for the operator on Kubernetes, and in the simulator of `bench/scaling`.
//! (`herd up` runs one of each stage.)
//!
//! ```text
//! plan ──► Policy ─────┐
//! polls ─► History ────┼─► decide ─► Decision { replicas, reason, findings, signals, memory }
//! Memory ◄─────────────┼──────────────────────────────────────────────────────────────┘
//! pods ──► Pods ───────┘
//! ```
//!
//! [`decide`] is pure: no clock, no I/O, the same decision for the same arguments. The caller polls the stage every [`POLL`], and again
//! after [`CONFIRM_AFTER`] where [`Decision::needs_confirmation`]; pushes the observation into a [`History`]; calls [`decide`]; applies
//! [`Decision::replicas`]; and keeps [`Decision::memory`] for the next call. `docs/scaling.md` explains the rule.
//!
//! - `decide`: the order of the rules. `target`: from demand to a number of replicas. `signals`: rates and delays.
//! - `capacity`: the capacity of one replica. `trial`: whether added replicas raised the output.
//! - [`schedule`]: floors, times with a higher minimum.

mod capacity;
mod decide;
mod history;
mod kind;
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
pub use kind::{FindingKind, ReasonKind};
pub use memory::{Block, Capacity, Memory, Scaling};
pub use policy::{CONFIRM_AFTER, POLL, Policy, Source};
pub use reason::{Finding, Reason};
pub use signals::{PartitionSignals, Signals};

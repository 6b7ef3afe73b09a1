//! The detector stage, two steps in one process:
//!
//! ```text
//! events ──► fold ──► parts ──► judge ──► windows, alerts
//!        (counts per source)  (adds sources up, closes windows, scores)
//!                                 └──► baselines (its memory of each key)
//! ```
//!
//! Both are exact without transactions: every record has an identity and a version, merging is idempotent, and each step
//! is deterministic given the order of its input, so replay after a crash changes nothing. `docs/architecture.md` tells why.
//!
//! The pure parts know nothing of buses and clocks: [`fold::source`] and [`judge::partition`] hold the protocol,
//! [`algorithm`] the statistics; [`fold::worker`] and [`judge::worker`] say what a member of their group does with records, and
//! [`herd_member::Member`] drives them over a [`herd_bus::Bus`], one step at a time, each on a thread of its own.

pub mod aggregate;
pub mod algorithm;
pub mod commit;
mod error;
pub mod explain;
pub mod extract;
pub mod fold;
pub mod judge;
mod keyed;
pub mod metric;
pub mod metrics;
pub mod outbox;
mod partitioner;
mod run;
pub mod sketch;

pub use error::DetectorError;
pub use partitioner::judge_of;
pub use run::run;

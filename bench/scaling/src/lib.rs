//! A simulated stage, traces of load, and rules that scale it, side by side.
//!
//! ```text
//! Trace ─► Stage (partitions, pods, rebalances; one second a tick) ─► Look ─► Rule ─► replicas ─► Stage
//!                 └─────────────────────────────────────────────────► Score
//! ```
//!
//! Herd's rule is `herd_spec::scale::decide` itself, the function that runs in production. Everything is deterministic from
//! a seed: noise of arrivals, speed of pods, how long they take to start.

pub mod plot;
mod random;
pub mod rules;
mod run;
mod score;
mod stage;
mod trace;

pub use run::{Run, run};
pub use score::Score;
pub use stage::{Look, Place, Stage};
pub use trace::{Trace, traces};

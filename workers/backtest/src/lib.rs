//! A backtest: what a pipeline would have said about events of the past.
//!
//! ```text
//! events ──► Backtest: a Source per partition of `events` ──► a JudgePartition per partition of `parts` ──► windows, alerts
//! ```
//!
//! [`Backtest`] runs the fold and the judge of the detector stage in one thread, without a broker, a store or a clock. Events are
//! assigned to partitions as the collector does it, parts as fold does it, so the final alerts equal those of the running pipeline
//! to the last bit. [`truth`] compares them with labels, [`Summary`] and [`vary`] serve the command line and the benchmark.

mod alerts;
mod engine;
mod summary;
pub mod truth;
pub mod vary;

pub use engine::{Backtest, BacktestError, BacktestResult, Counts};
pub use summary::{DetectorSummary, Summary};

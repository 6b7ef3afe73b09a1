//! A backtest: what a pipeline would have said about events of the past.
//!
//! ```text
//! events ──► Backtest: a Source per partition of `events` ──► a JudgePartition per partition of `parts` ──► windows, alerts
//! ```
//!
//! [`Backtest`] runs the fold and the judge of the detector stage in one thread, without a broker, a store or a clock. Events are
//! assigned to partitions as the collector does it, parts as fold does it, so the final alerts equal those of the running pipeline
//! to the last bit. [`Explainer`] says why they were raised, with the code of the running pipeline. [`truth`] compares them with labels, [`Summary`] and [`vary`] serve the command line and the benchmark.

mod alerts;
mod engine;
mod explain;
pub mod feedback;
mod summary;
pub mod truth;
pub mod vary;

pub use engine::{Backtest, BacktestError, BacktestResult, Counts};
pub use explain::{Explainer, properties_explained};
pub use summary::{DetectorSummary, Summary};

/// Names of the properties, top-level fields of an event's `properties`, that the metrics of `plan` read.
#[must_use]
pub fn properties_read(plan: &herd_spec::plan::Plan) -> std::collections::BTreeSet<String> {
    use herd_spec::wire::FieldPath;
    let fields = plan.metrics.iter().flat_map(|metric| {
        let conditions = metric.conditions.iter().map(|condition| &condition.field);
        metric.key.iter().chain(conditions).chain(metric.aggregate.field())
    });
    let property = |field: &FieldPath| match field {
        FieldPath::Property(path) => path.first().cloned(),
        _ => None,
    };
    fields.filter_map(property).collect()
}

//! What a sink counts. Labels are names of the plan: bounded.

use herd_stage::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct SinkLabels {
    pub(crate) sink: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct TableLabels {
    pub(crate) sink: String,
    pub(crate) table: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) sink: String,
    /// `delivered`, `refused`, `gave-up`.
    pub(crate) outcome: &'static str,
}

/// All sinks of a process share these.
#[derive(Clone, Debug)]
pub(crate) struct SinkMetrics {
    pub(crate) rows: Family<TableLabels, Counter>,
    pub(crate) batch_seconds: Family<TableLabels, Histogram, fn() -> Histogram>,
    pub(crate) retries: Family<SinkLabels, Counter>,
    pub(crate) dead_letters: Family<SinkLabels, Counter>,
    pub(crate) deliveries: Family<OutcomeLabels, Counter>,
}

impl SinkMetrics {
    pub(crate) fn of(stage: &Stage) -> Self {
        stage.instruments(|registry| {
            let metrics = Self {
                rows: Family::default(),
                batch_seconds: Family::new_with_constructor(|| {
                    Histogram::new(exponential_buckets(0.001, 2.0, 14))
                }),
                retries: Family::default(),
                dead_letters: Family::default(),
                deliveries: Family::default(),
            };
            let m = metrics.clone();
            registry.register("sink_rows", "New rows, by table", m.rows);
            registry.register("sink_batch_seconds", "Time of one transaction, by table", m.batch_seconds);
            registry.register("sink_retries", "Transactions and deliveries tried again", m.retries);
            registry.register("sink_dead_letters", "Records sent to the dead-letter topic", m.dead_letters);
            registry.register("sink_deliveries", "Webhook messages, by outcome", m.deliveries);
            metrics
        })
    }
}

//! Metrics of the collector. Labels never contain items, users or messages.

use std::sync::atomic::AtomicU64;

use axum::http::StatusCode;
use herd_stage::{Stage, Throttle};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Metrics of the collector stage.
#[derive(Clone, Debug)]
pub(crate) struct CollectorMetrics {
    events: Family<ResultLabels, Counter>,
    refusals: Family<CodeLabels, Counter>,
    requests: Family<StatusLabels, Counter>,
    pub(crate) bytes: Counter,
    pub(crate) replaced: Counter,
    pub(crate) latency: Histogram,
    pub(crate) connections: Gauge,
    /// Number of events in flight.
    pub(crate) in_flight: Gauge,
    pub(crate) saturation: Gauge<f64, AtomicU64>,
    /// Limits log messages about unacknowledged events.
    pub(crate) unacknowledged: Throttle,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

impl CollectorMetrics {
    pub(crate) fn registered(stage: &Stage) -> Self {
        stage.instruments(|registry| {
            let metrics = Self {
                events: Family::default(),
                refusals: Family::default(),
                requests: Family::default(),
                bytes: Counter::default(),
                replaced: Counter::default(),
                unacknowledged: Throttle::default(),
                // From a tenth of a millisecond to 13 s.
                latency: Histogram::new(exponential_buckets(1e-4, 1.6, 26)),
                connections: Gauge::default(),
                in_flight: Gauge::default(),
                saturation: Gauge::default(),
            };
            let m = metrics.clone();
            registry.register(
                "collector_events",
                "Events by result: accepted (acknowledged by the broker), invalid (written to the dead-letter topic), unavailable (not acknowledged), ignored (not stored: identify, group and alias of Segment's API)",
                m.events,
            );
            registry.register("collector_refusals", "Invalid events by error code", m.refusals);
            registry.register("collector_requests", "Requests by response status", m.requests);
            registry.register(
                "collector_replaced_surrogates",
                "Unpaired surrogates in accepted events, replaced by U+FFFD",
                m.replaced,
            );
            registry.register("collector_body_bytes", "Bytes of request bodies as sent", m.bytes);
            registry.register(
                "collector_request_duration_seconds",
                "Time from the headers of a request to its response",
                m.latency,
            );
            registry.register("collector_connections", "Open connections", m.connections);
            registry.register("collector_in_flight_events", "Events sent to the broker and not yet acknowledged", m.in_flight);
            registry.register(
                "collector_saturation",
                "Events in flight as a fraction of their limit, 0 to 1",
                m.saturation,
            );
            // Exposes all results as 0 before the first event.
            metrics.count("accepted", 0);
            metrics.count("invalid", 0);
            metrics.count("unavailable", 0);
            metrics.count("ignored", 0);
            metrics
        })
    }

    pub(crate) fn count(&self, result: &'static str, events: usize) {
        self.events.get_or_create(&ResultLabels { result }).inc_by(events as u64);
    }

    pub(crate) fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&CodeLabels { code }).inc();
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        self.requests.get_or_create(&StatusLabels { status: status.as_u16() }).inc();
    }
}

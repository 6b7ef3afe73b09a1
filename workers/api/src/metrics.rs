//! Metrics of the api stage.

use herd_stage::Stage;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Metrics of the api stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiMetrics {
    /// Requests by class of response status.
    pub(crate) requests: Family<StatusLabels, Counter>,
    /// Open alerts: early or firing.
    pub(crate) alerts_open: Gauge,
    /// Connected WebSocket clients.
    pub(crate) clients: Gauge,
    /// WebSocket clients disconnected because they were too slow.
    pub(crate) dropped: Counter,
    /// Frames sent to WebSocket clients.
    pub(crate) frames: Counter,
    /// Records that could not be parsed, by topic.
    pub(crate) unreadable: Family<TopicLabels, Counter>,
}

/// A class of status: `2xx`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StatusLabels {
    /// `1xx` to `5xx`.
    pub(crate) status: &'static str,
}

/// A topic, without its prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabels {
    /// `windows` or `alerts`.
    pub(crate) topic: &'static str,
}

impl StatusLabels {
    /// The class of a status.
    #[must_use]
    pub(crate) fn of(status: axum::http::StatusCode) -> Self {
        let status = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        Self { status }
    }
}

impl ApiMetrics {
    /// Metrics registered with the stage.
    #[must_use]
    pub(crate) fn registered(stage: &Stage) -> Self {
        stage.instruments(|registry| {
            let metrics = Self::default();
            let m = metrics.clone();
            registry.register("api_requests", "Requests by class of response status", m.requests);
            registry.register("api_alerts_open", "Open alerts (early or firing)", m.alerts_open);
            registry.register("api_websocket_clients", "Connected WebSocket clients", m.clients);
            registry.register(
                "api_websocket_dropped",
                "WebSocket clients disconnected for being too slow",
                m.dropped,
            );
            registry.register("api_websocket_frames", "Frames sent to WebSocket clients", m.frames);
            registry.register(
                "api_unreadable_records",
                "Records that could not be parsed, by topic",
                m.unreadable,
            );
            metrics
        })
    }
}

//! The summary of a run of `herd up`.

use std::fmt;

use herd_spec::openmetrics;
use herd_stage::Stage;
use serde::Serialize;

use super::crowds::CrowdReport;
use crate::load::{Latency, Report};

/// Summary of a run. Counts do not include data of earlier runs in the data directory.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Length of the run in seconds.
    pub seconds: f64,
    /// Events by outcome.
    pub events: EventCounts,
    /// Closed windows, per key.
    pub windows_closed: u64,
    /// Alerts raised, as received by a WebSocket client.
    pub alerts: u64,
    /// Number of restarts of stages.
    pub restarts: u64,
    /// Generated crowds and the delays of their alerts; absent without `--generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_delay: Option<CrowdReport>,
    /// Latency of POST requests in milliseconds, from the scheduled send time; absent without `--generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_latency_ms: Option<Latency>,
    /// Report of the load generator; absent without `--generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated: Option<Report>,
}

/// Events by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// Acknowledged by the collector.
    pub accepted: u64,
    /// Refused by the collector and written to the dead-letter topic.
    pub refused: u64,
    /// Accepted after their window had closed: stored, not counted.
    pub late: u64,
    /// Accepted with the id of an event that was already counted.
    pub duplicate: u64,
}

/// Counters of the stages of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Events by outcome.
    pub events: EventCounts,
    /// Closed windows, per key.
    pub windows_closed: u64,
    /// Events read by fold.
    pub folded: u64,
}

impl Counted {
    /// Reads the metrics of this process.
    #[must_use]
    pub fn of(stage: &Stage) -> Self {
        let mut text = String::new();
        let encoded =
            stage.register(|registry| prometheus_client::encoding::text::encode(&mut text, registry));
        // Writing into a String does not fail.
        debug_assert!(encoded.is_ok());
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counters
        let sum = |name: &str, labels: &str| openmetrics::sum(text, name, labels) as u64;
        Self {
            events: EventCounts {
                accepted: sum("herd_collector_events_total", "result=\"accepted\""),
                refused: sum("herd_collector_events_total", "result=\"invalid\""),
                late: sum("herd_fold_late_events_total", ""),
                duplicate: sum("herd_fold_duplicate_events_total", ""),
            },
            windows_closed: sum("herd_judge_windows_closed_total", ""),
            folded: sum("herd_fold_events_total", ""),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EventCounts { accepted, refused, late, duplicate } = self.events;
        writeln!(f, "{} ran for {:.0} s", self.pipeline, self.seconds)?;
        writeln!(
            f,
            "  events    {accepted} accepted, {refused} refused, {late} late, {duplicate} duplicate"
        )?;
        writeln!(f, "  windows   {} closed", self.windows_closed)?;
        write!(f, "  alerts    {}", self.alerts)?;
        if let Some(report) = &self.alert_delay {
            write!(f, " ({} of {} generated crowds detected)", report.alerted, report.crowds)?;
            if let Some(delay) = &report.from_beginning_ms {
                write!(
                    f,
                    "\n  delay     {} from the first event of the crowd to the alert at a WebSocket client",
                    quantiles(report.alerted, delay.p50, delay.p99)
                )?;
            }
            if let Some(delay) = &report.from_last_counted_event_ms {
                write!(
                    f,
                    "\n            {} from the last event that the alert counts",
                    quantiles(report.alerted, delay.p50, delay.p99)
                )?;
            }
            if let Some(delay) = &report.from_crossing_event_ms {
                write!(
                    f,
                    "\n            {} from the event that crossed the bound",
                    quantiles(report.alerted, delay.p50, delay.p99)
                )?;
            }
        }
        if let Some(latency) = &self.post_latency_ms {
            write!(
                f,
                "\n  POST      p50 {:.1} ms, p99 {:.1} ms from the scheduled send time to the acknowledgement",
                latency.p50, latency.p99
            )?;
        }
        if self.restarts > 0 {
            write!(f, "\n  restarts  {}", self.restarts)?;
        }
        if let Some(problem) = self.generated.as_ref().filter(|report| report.failed > 0) {
            let said = problem.last_problem.as_deref().unwrap_or("no reason known");
            write!(f, "\n  {} generated events were never accepted: {said}", problem.failed)?;
        }
        Ok(())
    }
}

/// A single crowd has no quantiles.
fn quantiles(crowds: u64, p50: f64, p99: f64) -> String {
    if crowds == 1 { format!("{p50:.0} ms") } else { format!("p50 {p50:.0} ms, p99 {p99:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_delay_of_a_single_crowd_without_quantiles() {
        assert_eq!(quantiles(1, 526.9, 526.9), "527 ms");
        assert_eq!(quantiles(2, 526.9, 840.2), "p50 527 ms, p99 840 ms");
    }

    #[test]
    fn sums_metrics_by_name_and_label() {
        let text = "\
# TYPE herd_collector_events counter
herd_collector_events_total{result=\"accepted\"} 120
herd_collector_events_total{result=\"invalid\"} 3
herd_collector_events_total{result=\"unavailable\"} 2
herd_fold_events_total 118
herd_fold_late_events_total 1
herd_fold_duplicate_events_total 7
herd_judge_windows_closed_total 42
herd_judge_windows_closed_total_other 9
";
        let events = EventCounts { accepted: 120, refused: 3, late: 1, duplicate: 7 };
        assert_eq!(Counted::read(text), Counted { events, windows_closed: 42, folded: 118 });
    }
}

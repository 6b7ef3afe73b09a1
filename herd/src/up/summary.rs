//! What a run of `herd up` came to.

use std::fmt;

use herd_stage::Stage;
use serde::Serialize;

use super::crowds::CrowdReport;
use crate::load::{Latency, Report};

/// What a run came to. Counts are of this run, not of what earlier ones left in the data folder.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The pipeline.
    pub pipeline: String,
    /// How long it ran.
    pub seconds: f64,
    /// Events.
    pub events: EventCounts,
    /// Windows of keys that closed.
    pub windows_closed: u64,
    /// Alerts raised, as a client of the WebSocket saw them.
    pub alerts: u64,
    /// How often a stage had to be started again.
    pub restarts: u64,
    /// The generated crowds and how soon somebody was told; none without `--generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_delay: Option<CrowdReport>,
    /// How long POSTs took, from their intended send time, milliseconds; none without `--generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_latency_ms: Option<Latency>,
    /// What the generated shoppers sent; none without `--generate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generated: Option<Report>,
}

/// Events by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// The collector acknowledged them.
    pub accepted: u64,
    /// The collector refused them: they are in the dead-letter topic.
    pub refused: u64,
    /// Accepted, but their window was closed: stored, not counted.
    pub late: u64,
    /// Accepted, but the same event id was counted before.
    pub duplicate: u64,
}

/// What the stages of this process have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Events.
    pub events: EventCounts,
    /// Windows of keys closed.
    pub windows_closed: u64,
    /// Events that fold has read.
    pub folded: u64,
}

impl Counted {
    /// Reads the metrics of a process.
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
        let sum = |name: &str, with: &str| -> u64 {
            text.lines()
                .filter_map(|line| {
                    let rest = line.strip_prefix(name)?;
                    let labels = match rest.strip_prefix('{') {
                        Some(rest) => rest.split_once('}')?.0,
                        None if rest.starts_with(' ') => "",
                        None => return None,
                    };
                    labels.contains(with).then(|| line.rsplit(' ').next()?.parse::<u64>().ok())?
                })
                .sum()
        };
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
            write!(f, " ({} of {} generated crowds noticed)", report.alerted, report.crowds)?;
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
                "\n  POST      p50 {:.1} ms, p99 {:.1} ms from the intended send time to the acknowledgement",
                latency.p50, latency.p99
            )?;
        }
        if self.restarts > 0 {
            write!(f, "\n  restarts  {}", self.restarts)?;
        }
        if let Some(problem) = self.generated.as_ref().filter(|report| report.failed > 0) {
            let said = problem.last_problem.as_deref().unwrap_or("no reason given");
            write!(f, "\n  {} generated events were never accepted: {said}", problem.failed)?;
        }
        Ok(())
    }
}

/// Of one crowd there is one time, and no quantile.
fn quantiles(crowds: u64, p50: f64, p99: f64) -> String {
    if crowds == 1 { format!("{p50:.0} ms") } else { format!("p50 {p50:.0} ms, p99 {p99:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_of_one_crowd_is_one_time_and_not_two_quantiles() {
        assert_eq!(quantiles(1, 526.9, 526.9), "527 ms");
        assert_eq!(quantiles(2, 526.9, 840.2), "p50 527 ms, p99 840 ms");
    }

    #[test]
    fn metrics_are_read_by_name_and_label() {
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

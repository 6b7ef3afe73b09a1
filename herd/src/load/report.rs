//! The report of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::target::EventOutcome;
use super::{Batch, Response};
use crate::shoppers::Kind;

/// Counters of a running load. Shared by concurrent requests.
#[derive(Debug)]
pub struct Counters(Mutex<Counts>);

#[derive(Debug)]
struct Counts {
    requests: u64,
    retries: u64,
    events: u64,
    accepted: u64,
    refused: u64,
    failed: u64,
    duplicates: u64,
    invalid: u64,
    statuses: BTreeMap<String, u64>,
    latency: Histogram<u64>,
    last_problem: Option<String>,
}

/// Latency of responses in milliseconds, from the scheduled time of each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Maximum.
    pub max: f64,
}

impl Latency {
    /// From a histogram of microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99), p999: ms(0.999), max: histogram.max() as f64 / 1e3 }
    }
}

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Seconds from the first request to the last response.
    pub seconds: f64,
    /// Requests that were answered or given up.
    pub requests: u64,
    /// Attempts after the first one of each request.
    pub retries: u64,
    /// Events sent.
    pub events: u64,
    /// Events per second over the whole run.
    pub events_per_second: f64,
    /// Events accepted by the collector.
    pub accepted: u64,
    /// Events refused by the collector as invalid.
    pub refused: u64,
    /// Events not accepted after the last attempt.
    pub failed: u64,
    /// Intended duplicates.
    pub duplicates: u64,
    /// Intended invalid events.
    pub invalid: u64,
    /// Responses by HTTP status; `error` if there was none.
    pub statuses: BTreeMap<String, u64>,
    /// Latency of responses.
    pub latency_ms: Latency,
    /// Message of the last refusal or failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_problem: Option<String>,
}

impl Default for Counters {
    fn default() -> Self {
        // Up to two minutes in microseconds, to three digits.
        let latency = Histogram::new_with_max(120_000_000, 3).unwrap_or_else(|_| auto_histogram());
        Self(Mutex::new(Counts {
            requests: 0,
            retries: 0,
            events: 0,
            accepted: 0,
            refused: 0,
            failed: 0,
            duplicates: 0,
            invalid: 0,
            statuses: BTreeMap::new(),
            latency,
            last_problem: None,
        }))
    }
}

/// A histogram that grows with its values.
fn auto_histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // three significant digits are always allowed
    Histogram::new(3).expect("three digits")
}

impl Counters {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt, with its status if there was a response.
    pub(super) fn attempted(&self, status: Option<u16>, again: bool) {
        let mut counts = self.counts();
        let name = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        *counts.statuses.entry(name).or_default() += 1;
        counts.retries += u64::from(again);
    }

    /// Counts a completed request.
    pub(super) fn answered(&self, batch: &Batch, response: &Response, took: Duration) {
        let mut counts = self.counts();
        counts.requests += 1;
        for (number, event) in batch.events.iter().enumerate() {
            counts.events += 1;
            match event.kind {
                Kind::Fresh => {}
                Kind::Duplicate => counts.duplicates += 1,
                Kind::Invalid { .. } => counts.invalid += 1,
            }
            match response.outcome(number) {
                EventOutcome::Accepted => counts.accepted += 1,
                EventOutcome::Refused => counts.refused += 1,
                EventOutcome::Failed => counts.failed += 1,
            }
        }
        counts.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if response.problem.is_some() {
            counts.last_problem.clone_from(&response.problem);
        }
    }

    /// The report so far.
    #[must_use]
    pub fn report(&self, took: Duration) -> Report {
        let counts = self.counts();
        let seconds = took.as_secs_f64();
        Report {
            seconds,
            requests: counts.requests,
            retries: counts.retries,
            events: counts.events,
            events_per_second: if seconds > 0.0 { counts.events as f64 / seconds } else { 0.0 },
            accepted: counts.accepted,
            refused: counts.refused,
            failed: counts.failed,
            duplicates: counts.duplicates,
            invalid: counts.invalid,
            statuses: counts.statuses.clone(),
            latency_ms: Latency::of(&counts.latency),
            last_problem: counts.last_problem.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, requests, events, accepted, refused, failed, retries, .. } = self;
        writeln!(
            f,
            "{events} events in {requests} requests, {seconds:.1} s: {:.0} events/s",
            self.events_per_second
        )?;
        write!(f, "  accepted {accepted}   refused {refused}   failed {failed}   retries {retries}")?;
        if self.duplicates + self.invalid > 0 {
            write!(f, "\n  intended: {} duplicates, {} invalid", self.duplicates, self.invalid)?;
        }
        let statuses: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        write!(f, "\n  responses  {}", statuses.join("   "))?;
        let Latency { p50, p90, p99, p999, max } = self.latency_ms;
        write!(
            f,
            "\n  latency    p50 {p50:.1} ms   p90 {p90:.1} ms   p99 {p99:.1} ms   p99.9 {p999:.1} ms   max {max:.1} ms   (from the scheduled send time)"
        )?;
        if let Some(problem) = &self.last_problem {
            write!(f, "\n  last error {problem}")?;
        }
        Ok(())
    }
}

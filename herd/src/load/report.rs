//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::target::Outcome;
use super::{Answer, Batch};
use crate::shoppers::Kind;

/// Counts as a run goes on. Shared by the requests on their way.
#[derive(Debug)]
pub struct Tally(Mutex<Counts>);

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

/// How long answers took, in milliseconds, from when each request was meant to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half took at most this.
    pub p50: f64,
    /// 90 % took at most this.
    pub p90: f64,
    /// 99 % took at most this.
    pub p99: f64,
    /// 99.9 % took at most this.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// From microseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99), p999: ms(0.999), max: histogram.max() as f64 / 1e3 }
    }
}

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Seconds from the first request to the last answer.
    pub seconds: f64,
    /// Requests that were answered, or given up.
    pub requests: u64,
    /// Tries beyond the first.
    pub retries: u64,
    /// Events sent.
    pub events: u64,
    /// Events a second, over the whole run.
    pub events_per_second: f64,
    /// Events that the collector took.
    pub accepted: u64,
    /// Events that it called invalid.
    pub refused: u64,
    /// Events that it never took, however often they were sent.
    pub failed: u64,
    /// Events that were sent again on purpose.
    pub duplicates: u64,
    /// Events that were invalid on purpose.
    pub invalid: u64,
    /// Answers by status; `error` where there was none.
    pub statuses: BTreeMap<String, u64>,
    /// How long answers took.
    pub latency_ms: Latency,
    /// What the last refusal or failure said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_problem: Option<String>,
}

impl Default for Tally {
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

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One try has ended, with a status or without.
    pub(super) fn tried(&self, status: Option<u16>, again: bool) {
        let mut counts = self.counts();
        let name = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        *counts.statuses.entry(name).or_default() += 1;
        counts.retries += u64::from(again);
    }

    /// A request has its answer.
    pub(super) fn answered(&self, batch: &Batch, answer: &Answer, took: Duration) {
        let mut counts = self.counts();
        counts.requests += 1;
        for (number, parcel) in batch.parcels.iter().enumerate() {
            counts.events += 1;
            match parcel.kind {
                Kind::Fresh => {}
                Kind::Duplicate => counts.duplicates += 1,
                Kind::Invalid { .. } => counts.invalid += 1,
            }
            match answer.outcome(number) {
                Outcome::Accepted => counts.accepted += 1,
                Outcome::Refused => counts.refused += 1,
                Outcome::Failed => counts.failed += 1,
            }
        }
        counts.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if answer.problem.is_some() {
            counts.last_problem.clone_from(&answer.problem);
        }
    }

    /// What it came to until now.
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
            write!(f, "\n  on purpose: {} sent twice, {} invalid", self.duplicates, self.invalid)?;
        }
        let statuses: Vec<String> =
            self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        write!(f, "\n  answers  {}", statuses.join("   "))?;
        let Latency { p50, p90, p99, p999, max } = self.latency_ms;
        write!(
            f,
            "\n  latency  p50 {p50:.1} ms   p90 {p90:.1} ms   p99 {p99:.1} ms   p99.9 {p999:.1} ms   max {max:.1} ms   (from the intended send time)"
        )?;
        if let Some(problem) = &self.last_problem {
            write!(f, "\n  last problem  {problem}")?;
        }
        Ok(())
    }
}

//! Open-loop load generator: sends events to a collector at their scheduled times, whether or not earlier requests have been
//! answered. Latencies are measured from the scheduled time, so that a stalled collector is not hidden by a blocked sender
//! (coordinated omission).

mod batch;
mod record;
mod report;
mod target;

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::shoppers::Kind;

pub use batch::{Batch, Batches};
pub use record::Recorder;
pub use report::{Counters, Latency, Report};
pub use target::{EventOutcome, Response, Target, TargetError};

/// One event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// Scheduled time, from the start of the run. Does not decrease.
    pub at: Duration,
    /// The JSON.
    pub body: String,
    /// Whether it is new, a duplicate or invalid.
    pub kind: Kind,
}

/// How events are sent.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Maximum number of concurrent requests.
    pub connections: usize,
    /// Maximum number of events per request.
    pub batch: usize,
    /// Whether scheduled times are kept. Otherwise each request is sent as soon as a connection is free.
    pub timed: bool,
    /// Maximum number of attempts per request.
    pub attempts: u32,
}

/// An error that ends a run.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LoadError {
    /// The collector refuses all requests.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Target(#[from] TargetError),
    /// The source of the events failed.
    #[error("{0}")]
    Source(String),
}

/// Progress bar, shown on terminals only.
#[must_use]
pub fn progress(total: Option<u64>, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{bar:30} {human_pos}/{human_len} events, {per_sec}, {eta} left {msg}")
        }
        None => (ProgressBar::no_length(), "{spinner} {human_pos} events in {elapsed}, {per_sec} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Sends all events, or until `stop` is cancelled. Requests in flight are awaited.
///
/// # Errors
/// [`LoadError`] if the source fails, or if the collector refuses all requests permanently.
pub async fn run<I>(
    source: I,
    target: Arc<Target>,
    pace: Pace,
    counters: Arc<Counters>,
    recorder: Option<Arc<Recorder>>,
    bar: ProgressBar,
    stop: CancellationToken,
) -> Result<Report, LoadError>
where
    I: Iterator<Item = Result<ScheduledEvent, String>> + Send,
{
    let free = Arc::new(Semaphore::new(pace.connections.max(1)));
    let mut in_flight: JoinSet<Result<(), TargetError>> = JoinSet::new();
    let started = Instant::now();
    let mut result = Ok(());
    for batch in Batches::new(source, pace.batch.max(1)) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(why) => {
                result = Err(LoadError::Source(why));
                break;
            }
        };
        let due = started + batch.due;
        if pace.timed && due > Instant::now() {
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = stop.cancelled() => break,
            }
        }
        let permit = tokio::select! {
            permit = Arc::clone(&free).acquire_owned() => permit,
            () = stop.cancelled() => break,
        };
        let Ok(permit) = permit else { break };
        if stop.is_cancelled() {
            break;
        }
        while let Some(finished) = in_flight.try_join_next() {
            if let Ok(Err(error)) = finished {
                result = Err(error.into());
            }
        }
        if result.is_err() {
            break;
        }
        let scheduled = if pace.timed { due } else { Instant::now() };
        let (target, counters, recorder, bar) =
            (Arc::clone(&target), Arc::clone(&counters), recorder.clone(), bar.clone());
        in_flight.spawn(async move {
            let _permit = permit;
            let response = target.send(&batch, pace.attempts, &counters).await?;
            counters.answered(&batch, &response, scheduled.elapsed());
            if let Some(recorder) = recorder {
                recorder.write(&batch, &response);
            }
            bar.inc(batch.events.len() as u64);
            Ok(())
        });
    }
    while let Some(finished) = in_flight.join_next().await {
        if let (Ok(Err(error)), true) = (finished, result.is_ok()) {
            result = Err(error.into());
        }
    }
    bar.finish_and_clear();
    result.map(|()| counters.report(started.elapsed()))
}

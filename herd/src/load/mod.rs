//! Sends events to a collector at the times they are due, whether or not the answers to earlier ones are in (open loop),
//! and says how long the answers took, counted from when each request was *meant* to be sent: a collector that stalls
//! cannot hide it by holding the sender up.

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
pub use report::{Latency, Report, Tally};
pub use target::{Answer, Outcome, Target, TargetError};

/// One event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// When it is due, from the start of the run. Never goes back.
    pub at: Duration,
    /// The bytes.
    pub body: String,
    /// What is special about it.
    pub kind: Kind,
}

/// How to send.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests on their way at once, at most.
    pub connections: usize,
    /// Events of a request, at most.
    pub batch: usize,
    /// Whether times are kept; else everything is due as soon as a connection is free.
    pub timed: bool,
    /// How often a request that may yet succeed is tried.
    pub attempts: u32,
}

/// Something wrong with the events or the way to the collector that ends a run.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum LoadError {
    /// The collector will not have us at all.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Target(#[from] TargetError),
    /// What was to be sent cannot be read.
    #[error("{0}")]
    Source(String),
}

/// A bar that shows how far a run is, on a terminal only.
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

/// Sends everything, or until `stop`. What is on its way then is still waited for.
///
/// # Errors
/// [`LoadError`] if the source ends with an error or the collector refuses every request for a reason that will not pass.
pub async fn run<I>(
    source: I,
    target: Arc<Target>,
    pace: Pace,
    tally: Arc<Tally>,
    recorder: Option<Arc<Recorder>>,
    bar: ProgressBar,
    stop: CancellationToken,
) -> Result<Report, LoadError>
where
    I: Iterator<Item = Result<Parcel, String>> + Send,
{
    let free = Arc::new(Semaphore::new(pace.connections.max(1)));
    let mut on_the_way: JoinSet<Result<(), TargetError>> = JoinSet::new();
    let started = Instant::now();
    let mut outcome = Ok(());
    for batch in Batches::new(source, pace.batch.max(1)) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(why) => {
                outcome = Err(LoadError::Source(why));
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
        while let Some(finished) = on_the_way.try_join_next() {
            if let Ok(Err(error)) = finished {
                outcome = Err(error.into());
            }
        }
        if outcome.is_err() {
            break;
        }
        let meant = if pace.timed { due } else { Instant::now() };
        let (target, tally, recorder, bar) =
            (Arc::clone(&target), Arc::clone(&tally), recorder.clone(), bar.clone());
        on_the_way.spawn(async move {
            let _permit = permit;
            let answer = target.send(&batch, pace.attempts, &tally).await?;
            tally.answered(&batch, &answer, meant.elapsed());
            if let Some(recorder) = recorder {
                recorder.write(&batch, &answer);
            }
            bar.inc(batch.parcels.len() as u64);
            Ok(())
        });
    }
    while let Some(finished) = on_the_way.join_next().await {
        if let (Ok(Err(error)), true) = (finished, outcome.is_ok()) {
            outcome = Err(error.into());
        }
    }
    bar.finish_and_clear();
    outcome.map(|()| tally.report(started.elapsed()))
}

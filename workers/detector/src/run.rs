//! The stage as a program: fold and judge, each on a thread, until told to stop or one of them fails.

use std::sync::Arc;
use std::time::Duration;

use herd_bus::{Bus, BusError, DeliveryError};
use herd_spec::health::Trouble;
use herd_spec::plan::Plan;
use herd_stage::{Stage, SystemClock};

use crate::fold::Fold;
use crate::judge::Judge;
use crate::metrics::{FoldMetrics, JudgeMetrics};

/// What stops the stage. It is then started again and goes on from its commit: nothing is skipped.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The bus failed for good.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A record was not taken.
    #[error("sending to {topic}: {why}")]
    Send {
        /// The topic.
        topic: String,
        /// What the client says.
        why: String,
    },
    /// A record was taken and could not be delivered.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The broker did not acknowledge.
    #[error("the broker took longer than a minute to acknowledge {what}")]
    Slow {
        /// What was under way.
        what: &'static str,
    },
    /// A thread could not be started, or panicked.
    #[error("the thread of {step} {why}")]
    Thread {
        /// `fold` or `judge`.
        step: &'static str,
        /// What happened to it.
        why: String,
    },
}

impl DetectorError {
    /// What kind of trouble it is, for the stage's report of its health.
    fn trouble(&self) -> Trouble {
        match self {
            Self::Bus(error) => error.trouble(),
            Self::Send { .. } | Self::Delivery(_) | Self::Slow { .. } => Trouble::DeliveryFailing,
            Self::Thread { .. } => Trouble::StageFailed,
        }
    }
}

/// How long one step waits at most: how soon a request to stop is noticed.
const STEP: Duration = Duration::from_millis(100);

/// Runs fold and judge as `member` of their groups until `stage.shutdown`; then finishes what is under way.
///
/// # Errors
/// The first thing that stopped either; the other is stopped too.
pub async fn run<B: Bus>(plan: Arc<Plan>, bus: B, stage: Stage, member: String) -> Result<(), DetectorError> {
    // A failure of one step stops the other, but not what else runs in this process.
    let stage = stage.part();
    let fold = {
        let (plan, bus, stage, member) = (Arc::clone(&plan), bus.clone(), stage.clone(), member.clone());
        let counters = FoldMetrics::register(&stage);
        spawn("fold", stage.clone(), move || {
            let mut fold = Fold::join(&plan, &bus, SystemClock, &member, counters)?;
            while !stage.shutdown.is_cancelled() {
                fold.step(STEP)?;
            }
            fold.finish()
        })?
    };
    let judge = {
        let counters = JudgeMetrics::register(&stage);
        let stage = stage.clone();
        spawn("judge", stage.clone(), move || {
            let mut judge = Judge::join(&plan, &bus, SystemClock, &member, counters)?;
            while !stage.shutdown.is_cancelled() {
                judge.step(STEP)?;
            }
            judge.finish()
        })?
    };
    let (fold, judge) = tokio::join!(fold, judge);
    fold.and(judge)
}

type Outcome = Result<(), DetectorError>;

/// Runs `body` on a thread; whatever way it ends, the whole stage is told to stop.
fn spawn(
    step: &'static str,
    stage: Stage,
    body: impl FnOnce() -> Outcome + Send + 'static,
) -> Result<impl Future<Output = Outcome>, DetectorError> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let guard = stage.shutdown.clone().drop_guard();
    std::thread::Builder::new()
        .name(step.into())
        .spawn(move || {
            let _guard = guard;
            stage.health.ok(step);
            let outcome = body();
            if let Err(error) = &outcome {
                stage.health.fail(step, error.trouble(), error.to_string());
                tracing::error!(step, %error, "stopped");
            }
            // The receiver is gone only where nobody wants to know any more.
            let _ = done.send(outcome);
        })
        .map_err(|error| DetectorError::Thread { step, why: format!("could not be started: {error}") })?;
    Ok(
        async move { ended.await.unwrap_or_else(|_| Err(DetectorError::Thread { step, why: "panicked".into() })) },
    )
}

//! The stage as a program: fold, judge and explain, each on a thread, until told to stop or one of them fails.

use std::sync::Arc;

use herd_bus::Bus;
use herd_spec::plan::Plan;
use herd_stage::{Stage, SystemClock, thread};

use crate::DetectorError;
use crate::explain::Explain;
use crate::fold::Fold;
use crate::judge::Judge;
use crate::metrics::{ExplainMetrics, FoldMetrics, JudgeMetrics};

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
        spawn("fold", &stage.clone(), move || {
            let mut fold = Fold::join(&plan, &bus, SystemClock, &member, counters)?;
            fold.run(&stage.shutdown)?;
            fold.finish()
        })?
    };
    let judge = {
        let counters = JudgeMetrics::register(&stage);
        let (plan, bus, stage, member) = (Arc::clone(&plan), bus.clone(), stage.clone(), member.clone());
        spawn("judge", &stage.clone(), move || {
            let mut judge = Judge::join(&plan, &bus, SystemClock, &member, counters)?;
            judge.run(&stage.shutdown)?;
            judge.finish()
        })?
    };
    // A step that ends stops the others: there must be none without anything to do.
    let explain = if Explain::<B, SystemClock>::is_asked_for(&plan) {
        let counters = ExplainMetrics::register(&stage);
        let stage = stage.clone();
        Some(spawn("explain", &stage.clone(), move || {
            let mut explain = Explain::join(&plan, &bus, SystemClock, &member, counters)?;
            explain.run(&stage.shutdown)?;
            explain.finish()
        })?)
    } else {
        None
    };
    let explain = async {
        match explain {
            Some(explain) => explain.await,
            None => Ok(()),
        }
    };
    let (fold, judge, explain) = tokio::join!(fold, judge, explain);
    fold.and(judge).and(explain)
}

fn spawn(
    step: &'static str,
    stage: &Stage,
    body: impl FnOnce() -> Result<(), DetectorError> + Send + 'static,
) -> Result<thread::Ended<DetectorError>, DetectorError> {
    let broken = move |why| DetectorError::Thread { step, why };
    thread::spawn(step.to_owned(), step, stage, broken, body)
}

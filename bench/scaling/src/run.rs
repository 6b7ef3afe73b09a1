//! One rule under one load.

use crate::rules::Rule;
use crate::score::Score;
use crate::stage::Stage;
use crate::trace::Trace;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// The measures.
    pub score: Score,
    /// Lag of each second.
    pub lag: Vec<u64>,
    /// What the rule said at its changes, with the time in seconds.
    pub story: Vec<(u64, String)>,
}

/// Runs a rule under a load, every second of it.
#[must_use]
pub fn run(trace: &Trace, rule: &mut dyn Rule, seed: u64) -> Run {
    let mut stage = Stage::new(trace, seed);
    let (mut score, mut lag, mut story) = (Score::default(), Vec::new(), Vec::new());
    for now in 0..trace.seconds {
        let look = stage.look();
        if let Some(replicas) = rule.replicas(&look)
            && replicas != look.wanted
        {
            score.changes.push((now, look.wanted, replicas));
            story.push((now, rule.says()));
            stage.scale(replicas);
        }
        lag.push(look.lag().or(lag.last().copied()).unwrap_or_default());
        stage.tick(&mut score);
    }
    stage.finish(&mut score);
    Run { score, lag, story }
}

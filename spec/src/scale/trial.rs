//! Whether added replicas helped. Where they did not, something behind the stage is the limit, and more would only cost.

use std::time::Duration;

use super::history::History;
use super::memory::{Block, Memory};
use super::policy::{FIRST_BLOCK, LEAST_GAIN, LEAST_SETTLE, LONGEST_BLOCK, LOSS, NO_BACKLOG, SHORT, Source};
use super::signals::{Signals, rates};
use super::target::effective;
use crate::units::{Replicas, WallTime};

/// What came of a trial.
pub(super) enum Outcome {
    /// There is none, or it is not over.
    Open,
    /// The replicas stay: they helped, or there is nothing left to tell by.
    Keep,
    /// They raised nothing.
    Useless,
    /// Less is done than before: back to as many as before.
    Back {
        /// How many there were.
        to: Replicas,
        /// Records a second worked off then.
        before: f64,
        /// Records a second worked off since.
        after: f64,
    },
}

/// Judges the trial that runs, once its replicas have worked undisturbed for a while: by what was done since then.
pub(super) fn judge(
    memory: &mut Memory,
    history: &History,
    signals: &Signals,
    source: Source,
    now: WallTime,
) -> Outcome {
    recovered(memory, signals);
    let (Some(trial), Some(calm)) = (memory.trial, memory.calm_since) else { return Outcome::Open };
    let calm = now.since(calm);
    let since = history.before(calm.min(SHORT)).zip(history.newest());
    let Some((from, to)) = since.filter(|_| calm >= LEAST_SETTLE) else { return Outcome::Open };
    let output = rates(from, to, |point| point.position);
    memory.trial = None;
    if signals.delay.is_some_and(|delay| delay <= NO_BACKLOG) {
        memory.downstream = None;
        return Outcome::Keep;
    }
    let gain = output - trial.output;
    let expected = trial.output * (effective(trial.to, source) / effective(trial.from, source) - 1.0);
    if gain >= LEAST_GAIN * expected {
        memory.downstream = None;
        return Outcome::Keep;
    }
    let length = memory.downstream.map_or(FIRST_BLOCK, |block| (2 * block.length).min(LONGEST_BLOCK));
    memory.downstream = Some(Block { until: now.plus(length), length, output });
    // What was measured meanwhile is the limit's share of each replica, not what a replica can do.
    memory.capacity = trial.capacity;
    if gain < -LOSS * trial.output {
        Outcome::Back { to: trial.from, before: trial.output, after: output }
    } else {
        Outcome::Useless
    }
}

/// Much more gets through than when it was stopped: what was the limit is none any more.
fn recovered(memory: &mut Memory, signals: &Signals) {
    let over = |block: &Block| signals.output > 1.2 * block.output + 1.0;
    if memory.downstream.as_ref().is_some_and(over) {
        memory.downstream = None;
    }
}

/// What is left of a block, for people.
pub(super) fn left(block: &Block, now: WallTime) -> Duration {
    block.until.since(now)
}

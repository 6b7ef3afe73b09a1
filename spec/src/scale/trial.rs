//! Whether added replicas raised the output. If not, the limit is downstream of the stage, and more replicas would only cost.

use std::time::Duration;

use super::history::History;
use super::memory::{Block, Memory};
use super::policy::{FIRST_BLOCK, LOSS, MAX_BLOCK, MIN_GAIN, MIN_SETTLE, NO_BACKLOG, SHORT, Source};
use super::signals::{Signals, rates};
use super::target::effective;
use crate::units::{Replicas, WallTime};

/// The result of a trial.
pub(super) enum TrialResult {
    /// There is no trial, or it is still running.
    Open,
    /// The added replicas stay: they raised the output, or there is no lag left to measure by.
    Keep,
    /// They did not raise the output.
    Useless,
    /// They lowered the output: the change is reverted.
    Back {
        /// The number before.
        to: Replicas,
        /// Output in records per second before.
        before: f64,
        /// Output in records per second since.
        after: f64,
    },
}

/// Evaluates the running trial by the output since its replicas became ready and the group stable.
pub(super) fn evaluate(
    memory: &mut Memory,
    history: &History,
    signals: &Signals,
    source: Source,
    now: WallTime,
) -> TrialResult {
    unblock(memory, signals);
    let (Some(trial), Some(stable_for)) = (memory.trial, memory.stable_since) else {
        return TrialResult::Open;
    };
    let stable_for = now.since(stable_for);
    let since = history.before(stable_for.min(SHORT)).zip(history.newest());
    let Some((from, to)) = since.filter(|_| stable_for >= MIN_SETTLE) else { return TrialResult::Open };
    let output = rates(from, to, |point| point.position);
    memory.trial = None;
    if signals.delay.is_some_and(|delay| delay <= NO_BACKLOG) {
        memory.downstream = None;
        return TrialResult::Keep;
    }
    let gain = output - trial.output;
    let expected = trial.output * (effective(trial.to, source) / effective(trial.from, source) - 1.0);
    if gain >= MIN_GAIN * expected {
        memory.downstream = None;
        return TrialResult::Keep;
    }
    let length = memory.downstream.map_or(FIRST_BLOCK, |block| (2 * block.length).min(MAX_BLOCK));
    memory.downstream = Some(Block { until: now.plus(length), length, output });
    // The capacity measured during the trial is each replica's share of the downstream limit.
    memory.capacity = trial.capacity;
    if gain < -LOSS * trial.output {
        TrialResult::Back { to: trial.from, before: trial.output, after: output }
    } else {
        TrialResult::Useless
    }
}

/// Ends the block if the output is much higher than when it began: the downstream limit is gone.
fn unblock(memory: &mut Memory, signals: &Signals) {
    let over = |block: &Block| signals.output > 1.2 * block.output + 1.0;
    if memory.downstream.as_ref().is_some_and(over) {
        memory.downstream = None;
    }
}

/// The remaining time of a block.
pub(super) fn left(block: &Block, now: WallTime) -> Duration {
    block.until.since(now)
}

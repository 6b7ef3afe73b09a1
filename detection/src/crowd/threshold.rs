//! From which score on a window alerts: a fixed probability, or as many false alerts a day as somebody is willing to read.
//!
//! A budget is first turned into a probability by the number of tests a day (keys × windows). Then it follows the scores
//! themselves: how often a level is reached from below is counted, with eight windows in between (runs declustering, Smith and
//! Weissman 1994: excursions, not windows), in whole numbers per window, decayed over days. Beyond what was seen, the tail goes on exponentially with the slope
//! between two levels that are reached often, so that the few excursions that are true crowds do not move it.

use serde::{Deserialize, Serialize};

use super::decay::power;
use super::population::Settings;

/// When to alert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// As many false alerts a day as are expected at most, over all keys of the partition; above 0.
    Budget(f64),
    /// A window this improbable; between 0 and 1.
    Probability(f64),
}

/// Levels per unit of the score.
const STEPS: f64 = 4.0;
const LEVELS: usize = 80;
const DAY_MS: f64 = 86_400_000.0;
/// Excursions that a level needs to be relied on.
const ENOUGH: f64 = 60.0;
/// The model's probability is off by as much before its scores are known: several spans are tests too, and rates are estimates.
const CAUTION: f64 = 50.0;
/// A budget is an upper limit: as much of it is aimed at.
const SHARE: f64 = 0.8;
/// Days after which scores alone decide.
const LEARNING_DAYS: f64 = 1.0;
/// Days after which alerts are held to the budget whatever their scores: few crowds in a short time are no reason to miss the next.
const COUNTED_DAYS: f64 = 3.0;
/// No budget makes a window alert that is more likely than this.
const LOWEST: f64 = 2.0;
/// Scores are forgotten over as many days as bring this many alerts, but not sooner than over a week nor later than over four.
const ALERTS: f64 = 20.0;

/// How often scores reach each level.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Calibration {
    /// Excursions of the window that is being scored.
    #[serde(rename = "p")]
    new: Vec<u32>,
    /// Decayed excursions by level; empty until there is one.
    #[serde(rename = "x")]
    reached: Vec<f64>,
    /// Decayed windows.
    #[serde(rename = "n")]
    windows: f64,
    #[serde(rename = "f")]
    fade: f64,
}

/// The level that a score reaches; 0 for ordinary ones.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // scores are not negative, levels are few
pub(super) fn level(score: f64) -> u8 {
    (score * STEPS).min((LEVELS - 1) as f64) as u8
}

impl Calibration {
    /// Counts the levels above `before`, the highest of the key's last windows, up to `reached`.
    pub(super) fn count(&mut self, before: u8, reached: u8) {
        if reached <= before {
            return;
        }
        self.new.resize(LEVELS, 0);
        for level in usize::from(before) + 1..=usize::from(reached).min(LEVELS - 1) {
            self.new[level] += 1;
        }
    }

    /// Takes the scores of the window before in; once a window.
    pub(super) fn fold(&mut self) {
        self.skip(1);
        if self.new.is_empty() {
            return;
        }
        self.reached.resize(LEVELS, 0.0);
        for (reached, new) in self.reached.iter_mut().zip(std::mem::take(&mut self.new)) {
            *reached += f64::from(new);
        }
    }

    /// Lets `windows` windows pass.
    pub(super) fn skip(&mut self, windows: u32) {
        let fade = power(if self.fade > 0.0 { self.fade } else { 1.0 }, windows);
        for reached in &mut self.reached {
            *reached *= fade;
        }
        self.windows = self.windows * fade + f64::from(windows);
    }

    /// The score from which on a window alerts.
    pub(super) fn threshold(&mut self, settings: &Settings, keys: f64) -> f64 {
        let budget = match settings.limit {
            Limit::Probability(p) => return -p.max(1e-300).log10(),
            Limit::Budget(budget) => budget.max(1e-6),
        };
        #[allow(clippy::cast_precision_loss)] // a day has few milliseconds
        let a_day = DAY_MS / settings.size_ms.max(1) as f64;
        self.fade = 1.0 - 1.0 / ((ALERTS / budget).clamp(7.0, 28.0) * a_day).max(1000.0);
        let model = (CAUTION * keys.max(1.0) * a_day / budget).log10().max(1.0);
        let days = self.windows / a_day;
        let Some(seen) = self.tail(SHARE * budget * days) else { return model };
        let seen = if days < COUNTED_DAYS { seen } else { seen.max(self.exceeded(budget * days)) };
        // More alerts than the budget are believed at once, fewer only after a while.
        if seen > model { seen } else { model + (seen.max(LOWEST) - model) * (days / LEARNING_DAYS).min(1.0) }
    }

    /// The level from which on no more than `most` excursions were seen, but for chance: tails may go on flatter than they began.
    fn exceeded(&self, most: f64) -> f64 {
        let within = |reached: &f64| *reached <= most + most.sqrt();
        let level = self.reached.iter().skip(1).position(within).map_or(LEVELS, |at| at + 1);
        level as f64 / STEPS
    }

    /// The level reached `wanted` times in the decayed time, extrapolated if it is too rare to be seen.
    fn tail(&self, wanted: f64) -> Option<f64> {
        let at = |level: usize| self.reached.get(level).copied().unwrap_or(0.0);
        // The highest level that is reached often enough.
        let high = (1..LEVELS).rev().find(|level| at(*level) >= ENOUGH.max(wanted))?;
        let low =
            (1..high).rev().find(|level| at(*level) >= 5.0 * at(high)).unwrap_or(1).min(high - 1).max(1);
        let (height, base) = (high as f64 / STEPS, low as f64 / STEPS);
        let slope =
            if high > low { (at(low) / at(high)).ln() / (height - base) } else { std::f64::consts::LN_10 };
        let slope = slope.clamp(0.7, std::f64::consts::LN_10);
        Some(height + (at(high) / wanted).ln().max(0.0) / slope)
    }
}

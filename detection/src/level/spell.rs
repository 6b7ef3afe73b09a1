//! A time in which a series is away from what was usual before.

use serde::{Deserialize, Serialize};

/// Usual windows in a row after which the time is over.
const QUIET: u32 = 5;
/// Weight of a window in the mean of the last ones: 1 − 2^(−1/20).
const MEAN_RATE: f64 = 0.034_063_7;
/// Windows after which the level is a new one: three half-lives of the centre.
const NEW_LEVEL_AFTER: u32 = 180;

/// How an unusual time ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Ending {
    /// The series is back in its usual range.
    #[serde(rename = "u")]
    Usual,
    /// It stayed away for so long that this became usual: the new expected value of a window.
    #[serde(rename = "n")]
    NewLevel(f64),
}

/// An unusual time that lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Spell {
    /// Start of its first window.
    #[serde(rename = "s")]
    pub(super) since_ms: u64,
    /// What was expected when it began.
    #[serde(rename = "l")]
    level: f64,
    /// How far from it a value was usual then.
    #[serde(rename = "u")]
    usual: f64,
    /// Mean of its last windows, half-life 20.
    #[serde(rename = "m")]
    mean: f64,
    /// Windows since then.
    #[serde(rename = "n")]
    windows: u32,
    /// The last usual windows in a row.
    #[serde(rename = "q")]
    quiet: u32,
}

impl Spell {
    pub(super) fn new(since_ms: u64, level: f64, usual: f64) -> Self {
        Self { since_ms, level, usual, mean: level, windows: 1, quiet: 0 }
    }

    /// What is expected while it lasts: by the profile, if it predicts, else what was expected when it began.
    pub(super) fn expected(&self, profile: Option<f64>) -> f64 {
        profile.unwrap_or(self.level)
    }

    /// Lets `windows` windows worth 0 pass.
    pub(super) fn pass(&mut self, windows: u32) {
        self.mean *= (1.0 - MEAN_RATE).powf(f64::from(windows));
        self.windows = self.windows.saturating_add(windows);
    }

    /// Takes in the next window and returns how the time ended, if it did.
    pub(super) fn take(&mut self, value: f64, profile: Option<f64>) -> Option<Ending> {
        self.windows = self.windows.saturating_add(1);
        self.mean += MEAN_RATE * (value - self.mean);
        let near = (value - self.expected(profile)).abs() <= self.usual;
        self.quiet = if near { self.quiet + 1 } else { 0 };
        if self.quiet >= QUIET {
            Some(Ending::Usual)
        } else if self.windows >= NEW_LEVEL_AFTER {
            let moved = (self.mean - self.level).abs() > self.usual;
            Some(if moved { Ending::NewLevel(self.mean) } else { Ending::Usual })
        } else {
            None
        }
    }
}

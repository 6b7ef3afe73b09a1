//! One alert for one thing: what an alert says of the unusual time that it is about, from its beginning to its end.

use serde::{Deserialize, Serialize};

use super::spell::{Ending, Spell};

/// The time in which a key is away from what was usual, so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Start of its first window, event time in milliseconds.
    #[serde(rename = "s")]
    pub since_ms: u64,
    /// End of its newest window.
    #[serde(rename = "u")]
    pub until_ms: u64,
    /// The value furthest from the expected one.
    #[serde(rename = "p")]
    pub peak: f64,
    /// Start of that window.
    #[serde(rename = "ps")]
    pub peak_start_ms: u64,
    /// What was expected in that window.
    #[serde(rename = "pe")]
    pub peak_expected: f64,
    /// How much more than expected its windows hold together, negative if less; of values that do not add up the
    /// difference at the peak.
    #[serde(rename = "x")]
    pub excess: f64,
}

/// Where an episode is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// The window raised the alert.
    Began,
    /// The window belongs to it.
    Continues,
    /// The window ended it.
    Ended(Ending),
}

/// A closed window, as an episode sees it.
pub(super) struct Window {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
    pub(super) value: f64,
}

/// An episode that lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Running {
    #[serde(rename = "s")]
    spell: Spell,
    #[serde(rename = "e")]
    episode: Episode,
    #[serde(rename = "b")]
    begun: bool,
}

impl Running {
    /// An episode that begins with the window at `start_ms`.
    pub(super) fn new(start_ms: u64, expected: f64, usual: f64) -> Self {
        let episode = Episode {
            since_ms: start_ms,
            until_ms: start_ms,
            peak: expected,
            peak_start_ms: start_ms,
            peak_expected: expected,
            excess: 0.0,
        };
        Self { spell: Spell::new(start_ms, expected, usual), episode, begun: false }
    }

    pub(super) fn episode(&self) -> &Episode {
        &self.episode
    }

    /// Lets `windows` windows worth 0 pass.
    pub(super) fn pass(&mut self, windows: u32, until_ms: u64) {
        self.spell.pass(windows);
        self.episode.until_ms = until_ms;
    }

    /// Takes in a window, the first one included.
    pub(super) fn take(&mut self, window: &Window, additive: bool, profile: Option<f64>) -> Progress {
        let expected = self.spell.expected(profile);
        let difference = window.value - expected;
        let episode = &mut self.episode;
        episode.until_ms = window.end_ms;
        if difference.abs() > (episode.peak - episode.peak_expected).abs() || !self.begun {
            (episode.peak, episode.peak_start_ms, episode.peak_expected) =
                (window.value, window.start_ms, expected);
        }
        episode.excess =
            if additive { episode.excess + difference } else { episode.peak - episode.peak_expected };
        if !self.begun {
            self.begun = true;
            return Progress::Began;
        }
        self.spell.take(window.value, profile).map_or(Progress::Continues, Progress::Ended)
    }
}

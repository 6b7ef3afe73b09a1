//! The time in which a key is out of its usual range: one alert, however many windows it takes.

use serde::{Deserialize, Serialize};

use super::key::{KeyState, LONGEST, Score};
use super::population::Population;

/// An episode is over after this many windows in a row that are ordinary even together, or as many as it took to stand out.
const ORDINARY_WINDOWS: u32 = 3;
/// Together ordinary: as much by chance in one of ten times.
const ORDINARY_SCORE: f64 = 1.0;
/// What lasts for this many windows has become usual.
const NEW_LEVEL_WINDOWS: u32 = 30;

/// An episode of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The window that alerted.
    #[serde(rename = "b")]
    pub begin: u32,
    /// The first window that contributed to it: up to seven before.
    #[serde(rename = "s")]
    pub since: u32,
    /// The newest window that was taken in.
    #[serde(rename = "u")]
    pub until: u32,
    /// The newest window that was not ordinary.
    #[serde(rename = "l")]
    pub last: u32,
    /// Whether it is more than usual, not less.
    #[serde(rename = "d")]
    pub is_up: bool,
    /// The value of a window that was furthest from what was expected.
    #[serde(rename = "p")]
    pub peak: f64,
    /// That window.
    #[serde(rename = "w")]
    pub peak_at: u32,
    /// What was expected when it began, in a window.
    #[serde(rename = "x")]
    pub expected: f64,
    /// How much more than expected all its windows hold together; negative if less.
    #[serde(rename = "e")]
    pub excess: f64,
    /// The same of the ordinary windows since `last`, which count only if it goes on.
    #[serde(rename = "q")]
    pending: f64,
    /// Its highest score.
    #[serde(rename = "h")]
    pub score: f64,
    /// Over how many windows it last stood out.
    #[serde(rename = "n")]
    span: u32,
    /// Its last values, for what has become usual.
    #[serde(rename = "v")]
    values: Vec<f32>,
}

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// The key is back in its usual range.
    Usual,
    /// It stayed where it was for so long that this became usual: the new usual value of a window.
    NewLevel(f64),
}

/// What a window means for the episode of its key.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The key is in its usual range.
    None,
    /// An episode began: alert.
    Began,
    /// The episode goes on.
    Continued,
    /// The episode is over; its end is that of its window [`Episode::last`].
    Ended(Box<Episode>, Ending),
}

impl Episode {
    /// Takes the next closed window of a key in: every window while there is an episode, also those without an event; else those with
    /// one.
    pub fn observe(
        episode: &mut Option<Box<Self>>,
        key: &mut KeyState,
        population: &Population,
        index: u32,
        score: &Score,
    ) -> Change {
        let Some(current) = episode else {
            if !score.is_alert() {
                return Change::None;
            }
            let since = (index + 1).saturating_sub(score.span);
            key.forget_up_to(index);
            let (value, expected) = score.window;
            #[allow(clippy::cast_possible_truncation)] // single precision is enough
            let values = vec![value as f32];
            *episode = Some(Box::new(Self {
                begin: index,
                since,
                until: index,
                last: index,
                is_up: score.is_up,
                peak: value,
                peak_at: index,
                expected,
                excess: score.value - score.expected,
                pending: 0.0,
                score: score.score,
                span: score.span,
                values,
            }));
            return Change::Began;
        };
        if index <= current.until {
            return Change::Continued;
        }
        let (value, expected) = score.window;
        current.until = index;
        current.score = current.score.max(score.score);
        #[allow(clippy::cast_possible_truncation)] // single precision is enough
        current.values.push(value as f32);
        if current.values.len() > 2 * LONGEST as usize {
            current.values.remove(0);
        }
        let further = if current.is_up { value > current.peak } else { value < current.peak };
        if further {
            (current.peak, current.peak_at) = (value, index);
        }
        let threshold = score.threshold.unwrap_or(f64::INFINITY);
        let silent = index - current.last;
        if score.score >= threshold / 2.0 {
            current.last = index;
            current.span = score.span;
            current.excess += std::mem::take(&mut current.pending) + value - expected;
            key.forget_up_to(index);
        } else if (silent >= ORDINARY_WINDOWS.max(current.span) && score.score < ORDINARY_SCORE)
            || silent >= LONGEST
        {
            let ended = episode.take();
            return ended.map_or(Change::None, |ended| Change::Ended(ended, Ending::Usual));
        } else {
            current.pending += value - expected;
        }
        if index - current.begin >= NEW_LEVEL_WINDOWS {
            current.excess += std::mem::take(&mut current.pending);
            let values = &current.values;
            #[allow(clippy::cast_precision_loss)] // few values
            let level =
                values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64;
            key.restart(population, index, level);
            let ended = episode.take();
            return ended.map_or(Change::None, |ended| Change::Ended(ended, Ending::NewLevel(level)));
        }
        Change::Continued
    }
}

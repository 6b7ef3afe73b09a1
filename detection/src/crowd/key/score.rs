//! How unusual the last windows of a key are, closed or still open, given what is known of the key.

use smallvec::SmallVec;

use super::super::Direction;
use super::super::population::{PSEUDO_EVENTS, Population, Settings};
use super::super::tail::NegativeBinomial;
use super::super::threshold::level;
use super::{KeyState, LONGEST, UNSCORED};

/// Times that are scored, in windows: what gathers slowly stands out of the longer ones.
pub const SPANS: [u32; 4] = [1, 2, 4, LONGEST];
/// An open window must score higher by this much: its exposure is not known yet, and what is alerted should hold.
const EARLY_MARGIN: f64 = 0.5;

/// A window of a key that is still open, for early scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenWindow {
    /// The window.
    pub index: u32,
    /// The key's value so far.
    pub value: f64,
    /// The key's events so far.
    pub count: u64,
    /// Events of all keys so far, of all partitions.
    pub total: u64,
}

/// What is scored.
#[derive(Clone, Copy)]
enum Windows<'a> {
    /// A closed window.
    Closed,
    /// A window that is open, and what is known of it and of the open windows before it.
    Open(&'a [OpenWindow]),
    /// A closed window as it may have been known while it was open.
    WereOpen(&'a [OpenWindow]),
}

impl<'a> Windows<'a> {
    fn open(self) -> &'a [OpenWindow] {
        match self {
            Self::Closed => &[],
            Self::Open(open) | Self::WereOpen(open) => open,
        }
    }
}

/// How unusual the last windows of a key are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// −log₁₀ of the probability of as much (or as little) by chance; 0 for ordinary windows and while warming up.
    pub score: f64,
    /// Of how many windows that is, ending with the one that was scored: 1, 2, 4 or 8.
    pub span: u32,
    /// The value of that time.
    pub value: f64,
    /// What was expected in that time.
    pub expected: f64,
    /// Whether it is more than expected.
    pub is_up: bool,
    /// The window alone: its value and what was expected.
    pub window: (f64, f64),
    /// From which score on the key alerts; none while warming up.
    pub threshold: Option<f64>,
    /// Distribution of the value of the window alone.
    usual: NegativeBinomial,
}

impl Score {
    /// Whether the score reaches the threshold.
    #[must_use]
    pub fn is_alert(&self) -> bool {
        self.threshold.is_some_and(|threshold| self.score >= threshold)
    }

    /// From which value on this window alone would alert; none while warming up.
    #[must_use]
    pub fn upper(&self) -> Option<f64> {
        self.threshold.map(|threshold| self.usual.upper_bound(threshold))
    }

    /// Up to which value this window alone would alert that a key drops; none if nothing is too little.
    #[must_use]
    pub fn lower(&self) -> Option<f64> {
        self.usual.lower_bound(self.threshold?)
    }

    /// The usual spread of the window alone: a standard deviation.
    #[must_use]
    pub fn spread(&self) -> f64 {
        (self.usual.mean * (1.0 + self.usual.excess)).sqrt()
    }
}

impl KeyState {
    /// Scores a closed window that was taken in, or one without an event of this key, once the population has closed it too.
    /// Counts the score, so once a window.
    pub fn score(&mut self, population: &mut Population, settings: &Settings, index: u32) -> Score {
        let score = self.scored(population, settings, index, Windows::Closed, self.since);
        let reached = level(score.score);
        let others = self.recent.iter().filter(|entry| entry.index < index && index - entry.index <= LONGEST);
        let before = others.map(|entry| entry.level).filter(|level| *level != UNSCORED).max().unwrap_or(0);
        population.count(index, before, reached);
        if let Some(entry) =
            self.recent.iter_mut().find(|entry| entry.index == index && entry.level == UNSCORED)
        {
            entry.level = reached;
        }
        score
    }

    /// Scores the window `index` as far as it is known: open windows follow the closed ones. Not falling in the key's own values, not
    /// rising in the totals. Open windows count as at least as much traffic as is usual and as the last ones had, so that what is not
    /// known yet makes nothing unusual.
    #[must_use]
    pub fn peek(
        &self,
        population: &Population,
        settings: &Settings,
        index: u32,
        open: &[OpenWindow],
    ) -> Score {
        self.scored(population, settings, index, Windows::Open(open), self.since)
    }

    /// The highest score that [`KeyState::peek`] can have given the closed window `index` while it was open, of more than usual: with all
    /// its events, no more traffic than is usual, no margin, and whatever was known of the end of the episode before it.
    #[must_use]
    pub fn peek_at_most(&self, population: &Population, settings: &Settings, index: u32) -> Score {
        let first = (index + 1).saturating_sub(settings.lag.max(1)).max((index + 1).saturating_sub(LONGEST));
        let open = (first..=index).map(|index| {
            let entry = self.recent.iter().find(|entry| entry.index == index);
            OpenWindow { index, value: entry.map_or(0.0, |entry| f64::from(entry.value)), count: 0, total: 0 }
        });
        let open: SmallVec<[OpenWindow; LONGEST as usize]> = open.collect();
        // An episode that was over by then keeps later windows from reaching back; of a younger one nothing was known.
        let since = if self.since > first { 0 } else { self.since };
        let settings = Settings { direction: Direction::Up, ..*settings };
        self.scored(population, &settings, index, Windows::WereOpen(&open), since)
    }

    fn scored(
        &self,
        population: &Population,
        settings: &Settings,
        index: u32,
        windows: Windows<'_>,
        since: u32,
    ) -> Score {
        let estimate = self.estimate(population, index.saturating_sub(settings.lag));
        let mut best: Option<Score> = None;
        let (mut value, mut exposure, mut window) = (0.0, 0.0, (0.0, 0.0));
        let mut usual = NegativeBinomial { mean: 0.0, excess: 0.0 };
        let is_open = !matches!(windows, Windows::Closed);
        let margin = if matches!(windows, Windows::Open(_)) { EARLY_MARGIN } else { 0.0 };
        let threshold = estimate.known.threshold.map(|threshold| threshold + margin);
        let known = index.saturating_sub(settings.lag);
        let floor = if is_open { estimate.usual * population.busiest(known, LONGEST) } else { 0.0 };
        for back in 0..LONGEST {
            let Some(at) = index.checked_sub(back) else { break };
            if back > 0 && at < since {
                break;
            }
            let (its_value, its_exposure) = match windows.open().iter().find(|open| open.index == at) {
                Some(open) => {
                    #[allow(clippy::cast_precision_loss)] // 53 bits are enough
                    let others = open.total.saturating_sub(open.count) as f64;
                    (open.value, estimate.exposure_of(others).max(floor))
                }
                None if at > population.newest() => (0.0, floor),
                None => {
                    let entry = self.recent.iter().find(|entry| entry.index == at);
                    let (value, events) = entry.map_or((0.0, 0.0), |entry| (entry.value, entry.events));
                    let exposure = (population.known(at).exposure - f64::from(events)).max(PSEUDO_EVENTS);
                    // While the window was open, this one may have been open as well.
                    let was_open = is_open && at + settings.lag > index;
                    (f64::from(value), if was_open { exposure.max(floor) } else { exposure })
                }
            };
            value += its_value;
            exposure += its_exposure;
            let span = back + 1;
            if !SPANS.contains(&span) {
                continue;
            }
            let predicted = estimate.predict(exposure, f64::from(span));
            if span == 1 {
                window = (value, predicted.mean);
                usual = predicted;
            }
            let up = if settings.direction == Direction::Down { 0.0 } else { predicted.upper(value) };
            let down = if settings.direction == Direction::Up { 0.0 } else { predicted.lower(value) };
            let score = if threshold.is_none() { 0.0 } else { up.max(down) };
            if best.is_none_or(|best| score > best.score) {
                let is_up = value >= predicted.mean;
                let expected = predicted.mean;
                best = Some(Score { score, span, value, expected, is_up, window, threshold, usual });
            }
        }
        let best = best.unwrap_or(Score {
            score: 0.0,
            span: 1,
            value: 0.0,
            expected: 0.0,
            is_up: false,
            window,
            threshold,
            usual,
        });
        Score { window, usual, ..best }
    }
}

//! From how unusual a window looks to how rarely an alert like that is raised.
//!
//! Two steps stand between the tails of the statistics and a probability that a budget can be held by. An unusual time
//! consists of many unusual windows, of which only the first, and one that is clearly more unusual, is news ([`Novelty`]).
//! And the tails are models, of which the largest is taken; how often their news really comes is counted and corrected
//! ([`Calibration`]): the score that is exceeded by news in a window with probability 10^−2.5, 10^−3 and so on to 10^−5.5
//! is tracked by stochastic approximation, between them the score is interpolated. What is tracked is how much wider each
//! piece is than the one below it, so that a level that was not visited yet goes on as the levels below it do. What the
//! tails say has the weight of [`PRIOR`] exceedances.

use std::f64::consts::LN_10;

use serde::{Deserialize, Serialize};

/// Windows for which an unusual window makes others like it no news.
const WITHIN: u32 = 90;
/// How much more unusual than the last news a window must be to be news: twice as rare.
const MARGIN: f64 = 0.3;
/// Windows at least as unusual as this, and not much less so than the news, prolong it.
const GOING_ON: f64 = 2.0;

/// What the last news was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Novelty {
    /// How unusual it was; 0 if none is remembered.
    #[serde(rename = "m")]
    most: f64,
    /// Windows since then, or since it was last prolonged.
    #[serde(rename = "a")]
    age: u32,
}

impl Novelty {
    /// Takes in how unusual the next window is and returns whether that is news.
    pub(super) fn take(&mut self, score: f64) -> bool {
        self.age = self.age.saturating_add(1);
        if self.age > WITHIN {
            self.most = 0.0;
        }
        let bar = if self.most > 0.0 { self.most + MARGIN } else { 0.0 };
        let news = score > bar;
        if news {
            self.most = score;
            self.age = 0;
        } else if score >= GOING_ON && score > self.most - 1.0 {
            self.age = 0;
        }
        news
    }

    /// Lets `windows` usual windows pass.
    pub(super) fn pass(&mut self, windows: u32) {
        self.age = self.age.saturating_add(windows);
        if self.age > WITHIN {
            self.most = 0.0;
        }
    }
}

/// Levels that are tracked.
const LEVELS: usize = 7;
/// −log10 of the probability of the first; the others follow at distance [`STEP`].
const FIRST_LEVEL: f64 = 2.5;
/// Distance of the levels above it.
const STEP: f64 = 0.5;
/// Exceedances of each level that the tails' own word is worth.
const PRIOR: [f64; LEVELS] = [30.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0];
/// Exceedances that are remembered.
const REMEMBERED: f64 = 100.0;
/// The least and the largest slope: a tail that falls faster or slower is not believed.
const SLOPES: (f64, f64) = (0.2, 4.0);
/// The least slope beyond the last level, where nothing is measured.
const BEYOND_SLOPE: f64 = 0.5;
/// The ratios before anything is learnt: the largest of several related scores and a twentieth of the others
/// are a little larger than each.
const FIRST_RATIOS: [f64; LEVELS] = [1.05, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// The least slope of the first piece: no news scores less than about 1.5, so where news is rarer than 10^−2.5 a smaller
/// one means nothing.
const FIRST_SLOPE: f64 = 0.6;

/// How often news of a score really comes: a line of straight pieces from the tails' scores to −log10 of the measured rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Calibration {
    /// News above each level, up to what gives [`REMEMBERED`] exceedances; first all windows.
    #[serde(rename = "n")]
    seen: [f64; LEVELS],
    /// How much wider each piece is, in the tails' scores a decade, than the one below it.
    #[serde(rename = "r")]
    ratios: [f64; LEVELS],
}

impl Default for Calibration {
    fn default() -> Self {
        Self { seen: [0.0; LEVELS], ratios: FIRST_RATIOS }
    }
}

impl Calibration {
    /// The pieces from below: their width in the tails' scores for one decade of probability.
    fn widths(&self) -> [f64; LEVELS] {
        let mut width = 1.0;
        self.ratios.map(|ratio| {
            width = (width * ratio).clamp(SLOPES.0, SLOPES.1);
            width
        })
    }

    /// −log10 of the probability that a window brings news of at least this score.
    pub(super) fn probability(&self, score: f64) -> f64 {
        let mut left = score;
        let mut sum = 0.0;
        let mut decades = FIRST_LEVEL;
        let mut last = 1.0;
        for width in self.widths() {
            if left < width * decades {
                return sum + left / width;
            }
            left -= width * decades;
            sum += decades;
            decades = STEP;
            last = width;
        }
        sum + left / last.max(BEYOND_SLOPE)
    }

    /// The score whose news has this −log10 probability: the inverse of [`Calibration::probability`].
    pub(super) fn score(&self, probability: f64) -> f64 {
        let mut left = probability;
        let mut sum = 0.0;
        let mut decades = FIRST_LEVEL;
        let mut last = 1.0;
        for width in self.widths() {
            if left < decades {
                return sum + left * width;
            }
            left -= decades;
            sum += decades * width;
            decades = STEP;
            last = width;
        }
        sum + left * last.max(BEYOND_SLOPE)
    }

    /// Takes in the news of a window; 0 for one without.
    pub(super) fn learn(&mut self, news: f64) {
        let widths = self.widths();
        let mut level = 0.0;
        let mut decades = FIRST_LEVEL;
        let mut least = FIRST_SLOPE;
        let ratios = self.ratios.iter_mut().zip(PRIOR);
        for ((seen, (ratio, prior)), width) in self.seen.iter_mut().zip(ratios).zip(widths) {
            let probability = 10f64.powf(-decades);
            level += width * decades;
            *seen = (*seen + 1.0).min(REMEMBERED / probability);
            let above = news > level;
            let step = (f64::from(u8::from(above)) - probability)
                / ((prior + *seen * probability).min(REMEMBERED) * LN_10 * decades);
            *ratio = (*ratio * (1.0 + step)).clamp(least, SLOPES.1);
            if !above {
                return;
            }
            decades = STEP;
            least = SLOPES.0;
        }
    }

    /// Lets `windows` windows without news pass.
    pub(super) fn pass(&mut self, windows: f64) {
        let probability = 10f64.powf(-FIRST_LEVEL);
        let [seen, ..] = &mut self.seen;
        let [ratio, ..] = &mut self.ratios;
        *seen = (*seen + windows).min(REMEMBERED / probability);
        let weight = (PRIOR[0] + *seen * probability).min(REMEMBERED) * LN_10 * FIRST_LEVEL;
        *ratio = (*ratio * (-windows * probability / weight).exp()).max(FIRST_SLOPE);
    }
}

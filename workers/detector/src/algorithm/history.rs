//! What the algorithms keep of a key's past. Bounded: at most 64 values, or three numbers.

use serde::{Deserialize, Serialize};

use crate::judge::crowds::Crowd;
use crate::judge::levels::Series;

/// Weighted sums below this are 0: numbers are kept in millionths, and this is far below one.
const NOTHING: f64 = 1e-12;

/// The past of a key, as one algorithm needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum History {
    /// Nothing.
    #[serde(rename = "n")]
    None,
    /// The last values.
    #[serde(rename = "r")]
    Ring(Ring),
    /// Weighted sums.
    #[serde(rename = "w")]
    Weighted(Weighted),
    /// Of `crowd`; none before the first window with an event.
    #[serde(rename = "c")]
    Crowd(Option<Box<Crowd>>),
    /// Of `level`; none before the first window with an event.
    #[serde(rename = "l")]
    Level(Option<Box<Series>>),
}

impl History {
    /// Whether one more window without an event would change nothing but the number of windows seen.
    pub(super) fn is_silent(&self, length: usize) -> bool {
        match self {
            Self::None => true,
            Self::Ring(ring) => ring.values.len() >= length && ring.is_zero(),
            Self::Weighted(_) => false,
            Self::Crowd(_) | Self::Level(_) => true,
        }
    }

    /// Counts windows without an event that change nothing else.
    pub(super) fn count_silence(&mut self, windows: u32) {
        match self {
            Self::None | Self::Crowd(_) | Self::Level(_) => {}
            Self::Ring(ring) => ring.seen = ring.seen.saturating_add(windows),
            Self::Weighted(weighted) => weighted.seen = weighted.seen.saturating_add(windows),
        }
    }
}

/// The last values, oldest overwritten first. Single precision: what is usual needs no more, and a million keys are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ring {
    /// The values, in no particular order once full.
    #[serde(rename = "v")]
    values: Vec<f32>,
    /// Windows folded, saturating.
    #[serde(rename = "s")]
    pub seen: u32,
}

impl Ring {
    #[allow(clippy::cast_possible_truncation)] // see above
    pub(super) fn push(&mut self, value: f64, length: usize) {
        let at = self.seen as usize % length.max(1);
        if self.values.len() < length {
            if self.values.len() == self.values.capacity() {
                // Doubling would waste half of what a million keys hold.
                self.values.reserve_exact(4.min(length - self.values.len()));
            }
            self.values.push(value as f32);
        } else {
            self.values[at] = value as f32;
        }
        self.seen = self.seen.saturating_add(1);
    }

    /// Whether every value is 0.
    pub(super) fn is_zero(&self) -> bool {
        self.values.iter().all(|value| *value == 0.0)
    }

    /// The largest value, and so more than any mean or median of them; at least 0.
    pub(super) fn largest(&self) -> f64 {
        f64::from(self.values.iter().copied().fold(0.0, f32::max))
    }

    /// Mean and sample standard deviation.
    #[allow(clippy::cast_precision_loss)] // at most 64 values
    pub(super) fn mean_and_deviation(&self) -> (f64, f64) {
        let n = self.values.len().max(1) as f64;
        let mean = self.values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
        let squares: f64 = self.values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum();
        (mean, (squares / (n - 1.0).max(1.0)).sqrt())
    }

    /// Median, and median absolute deviation from it scaled by 1.4826 to compare to a standard deviation (Rousseeuw and
    /// Croux, "Alternatives to the median absolute deviation", 1993).
    pub(super) fn median_and_deviation(&self) -> (f64, f64) {
        let mut values: Vec<f32> = self.values.clone();
        let center = median(&mut values);
        for value in &mut values {
            *value = (*value - center).abs();
        }
        (f64::from(center), 1.4826 * f64::from(median(&mut values)))
    }
}

fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f32::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f32::midpoint(values[middle - 1], values[middle]) }
}

/// Three weighted sums.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weighted {
    /// `ewma`: the mean. `poisson`: counts, weighted by age.
    #[serde(rename = "a")]
    pub first: f64,
    /// `ewma`: the variance. `poisson`: squares of counts, weighted by age.
    #[serde(rename = "b")]
    pub second: f64,
    /// `poisson`: exposure, the weights of all windows seen, those without events too.
    #[serde(rename = "e")]
    pub exposure: f64,
    /// Windows folded, saturating.
    #[serde(rename = "s")]
    pub seen: u32,
}

impl Weighted {
    /// Whether only the number of windows seen differs.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.first, self.second, self.exposure) == (other.first, other.second, other.exposure)
    }

    /// In silence the sums would halve for ever; what is below a thousandth of the finest number is nothing.
    fn vanish(&mut self, value: f64) {
        if value == 0.0 && self.first.abs() < NOTHING && self.second < NOTHING {
            (self.first, self.second) = (0.0, 0.0);
        }
    }

    /// Incremental exponentially weighted mean and variance (West, "Updating mean and variance estimates", 1979); plain
    /// averages until the weights of an average are smaller than those asked for.
    pub(super) fn push_ewma(&mut self, value: f64, half_life: f64) {
        let weight = (1.0 - 0.5_f64.powf(1.0 / half_life)).max(1.0 / (f64::from(self.seen) + 1.0));
        let difference = value - self.first;
        let step = weight * difference;
        self.first += step;
        self.second = (1.0 - weight) * (self.second + difference * step);
        self.vanish(value);
        self.seen = self.seen.saturating_add(1);
    }

    pub(super) fn mean_and_deviation(&self) -> (f64, f64) {
        (self.first, self.second.max(0.0).sqrt())
    }

    /// Sums that forget: after `half_life` windows a window weighs half.
    pub(super) fn push_decayed(&mut self, value: f64, half_life: f64) {
        let decay = 0.5_f64.powf(1.0 / half_life);
        self.first = self.first * decay + value;
        self.second = self.second * decay + value * value;
        self.exposure = self.exposure * decay + 1.0;
        self.vanish(value);
        self.seen = self.seen.saturating_add(1);
    }
}

//! The rule `crowd`, for counts: a decayed Gamma-Poisson model of each key with the traffic of the whole metric as its exposure.

mod decay;
mod episode;
mod key;
mod population;
mod tail;
mod threshold;

pub use episode::{Change, Ending, Episode};
pub use key::{KeyState, LONGEST, OpenWindow, SPANS, Score};
pub use population::{Closing, HISTORY, LONGEST_LAG, MEMORY, Population, Settings};
pub use tail::NegativeBinomial;
pub use threshold::Limit;

/// Which way a count must leave its usual range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// More than usual.
    #[default]
    Up,
    /// Less than usual.
    Down,
    /// Either.
    Both,
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss)] // counts are small
mod tests;

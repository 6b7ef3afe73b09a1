//! How many events a second, when: piecewise constant, so that arrivals can be drawn exactly.

use std::time::Duration;

use clap::ValueEnum;

/// The course of the load over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProfileKind {
    /// The same all the time.
    #[default]
    Steady,
    /// A day, from quiet night to busy evening, within `--period`.
    Diurnal,
    /// Steady, and at given times a crowd on one item.
    Flash,
    /// Half, one, two, four times the rate and back, each for a fifth of `--period`.
    Steps,
}

/// Crowds on one item, on top of the usual load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crowds {
    /// When the first one begins.
    pub first: Duration,
    /// From the beginning of one to the beginning of the next.
    pub every: Duration,
    /// How long one lasts.
    pub length: Duration,
    /// Its events a second, on top of the others.
    pub rate: f64,
}

/// A load: its course, its mean rate and its crowds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// The course.
    pub kind: ProfileKind,
    /// Events a second, on average, without crowds; above 0.
    pub rate: f64,
    /// Length of a day or of all steps.
    pub period: Duration,
    /// Crowds; only [`ProfileKind::Flash`] has them.
    pub crowds: Crowds,
}

/// A stretch of time with constant rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Events a second of the usual load.
    pub usual: f64,
    /// The crowd that is on, if one is: its number from 0 and its events a second.
    pub crowd: Option<(u64, f64)>,
    /// When the stretch ends; none: never.
    pub until: Option<Duration>,
}

impl Stretch {
    /// Events a second in all.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.usual + self.crowd.map_or(0.0, |(_, rate)| rate)
    }
}

/// Stretches of a day.
const DAY_STRETCHES: u32 = 96;
/// Shares of the rate, one after the other.
const STEPS: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 1.0];

impl Profile {
    /// The same rate all the time.
    #[must_use]
    pub fn steady(rate: f64) -> Self {
        let crowds = Crowds {
            first: Duration::from_secs(60),
            every: Duration::from_secs(60),
            length: Duration::from_secs(12),
            rate: 0.0,
        };
        Self { kind: ProfileKind::Steady, rate, period: Duration::from_secs(600), crowds }
    }

    /// The stretch that `at`, counted from the start of the run, falls in.
    #[must_use]
    pub fn at(&self, at: Duration) -> Stretch {
        match self.kind {
            ProfileKind::Steady => Stretch { usual: self.rate, crowd: None, until: None },
            ProfileKind::Diurnal => {
                let (number, until) = Self::slice(at, self.period / DAY_STRETCHES);
                let phase = (number % u64::from(DAY_STRETCHES)) as f64 / f64::from(DAY_STRETCHES);
                // Least at the start of the period (night), most in its middle; the mean over a period is the rate.
                let share = 1.0 - 0.8 * (phase * std::f64::consts::TAU).cos();
                Stretch { usual: self.rate * share, crowd: None, until: Some(until) }
            }
            ProfileKind::Steps => {
                let (number, until) = Self::slice(at, self.period / STEPS.len() as u32);
                let share = STEPS[(number % STEPS.len() as u64) as usize];
                Stretch { usual: self.rate * share, crowd: None, until: Some(until) }
            }
            ProfileKind::Flash => self.flash(at),
        }
    }

    fn flash(&self, at: Duration) -> Stretch {
        let Crowds { first, every, length, rate } = self.crowds;
        let usual = self.rate;
        if at < first {
            return Stretch { usual, crowd: None, until: Some(first) };
        }
        let (number, next) = Self::slice(at - first, every);
        let begin = first + every.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        if at < begin + length {
            let until = Some((begin + length).min(first + next));
            return Stretch { usual, crowd: Some((number, rate)), until };
        }
        Stretch { usual, crowd: None, until: Some(first + next) }
    }

    /// The number of the slice of `size` that `at` falls in, and where it ends.
    fn slice(at: Duration, size: Duration) -> (u64, Duration) {
        let size = size.max(Duration::from_millis(1));
        let number = at.as_nanos() / size.as_nanos();
        let end = (number + 1).saturating_mul(size.as_nanos());
        (
            u64::try_from(number).unwrap_or(u64::MAX),
            Duration::from_nanos(u64::try_from(end).unwrap_or(u64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn flash() -> Profile {
        Profile {
            kind: ProfileKind::Flash,
            crowds: Crowds { rate: 80.0, ..Profile::steady(20.0).crowds },
            ..Profile::steady(20.0)
        }
    }

    #[rstest]
    #[case(0, None, 60)]
    #[case(60, Some(0), 72)]
    #[case(71, Some(0), 72)]
    #[case(72, None, 120)]
    #[case(125, Some(1), 132)]
    fn a_crowd_is_on_at_its_times(#[case] at: u64, #[case] crowd: Option<u64>, #[case] until: u64) {
        let stretch = flash().at(Duration::from_secs(at));
        assert_eq!(stretch.crowd.map(|(number, _)| number), crowd);
        assert_eq!(stretch.until, Some(Duration::from_secs(until)));
        assert!((stretch.rate() - if crowd.is_some() { 100.0 } else { 20.0 }).abs() < 1e-9);
    }

    #[rstest]
    #[case(ProfileKind::Diurnal, 1.0)]
    #[case(ProfileKind::Steps, 1.7)]
    fn over_a_period_the_mean_is_known(#[case] kind: ProfileKind, #[case] share: f64) {
        let profile = Profile { kind, ..Profile::steady(100.0) };
        let (mut at, mut events) = (Duration::ZERO, 0.0);
        while at < profile.period {
            let stretch = profile.at(at);
            let until = stretch.until.unwrap();
            assert!(until > at, "time goes on");
            events += stretch.rate() * (until - at).as_secs_f64();
            at = until;
        }
        assert!((events / profile.period.as_secs_f64() / 100.0 - share).abs() < 1e-6);
    }
}

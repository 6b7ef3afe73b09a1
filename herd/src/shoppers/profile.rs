//! The event rate over time: piecewise constant, so that arrivals can be sampled exactly.

use std::time::Duration;

use clap::ValueEnum;

/// Shape of the load over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProfileKind {
    /// Constant rate.
    #[default]
    Steady,
    /// Daily cycle with a low rate at night and a peak in the evening, within `--period`.
    Diurnal,
    /// Constant rate, with crowds on single items at given times.
    Flash,
    /// Half, one, two and four times the rate and back, each for a fifth of `--period`.
    Steps,
}

/// Crowds on single items, in addition to the base load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crowds {
    /// Start of the first crowd.
    pub first: Duration,
    /// Time from the start of one crowd to the start of the next.
    pub every: Duration,
    /// Length of a crowd.
    pub length: Duration,
    /// Additional events per second during a crowd.
    pub rate: f64,
}

/// A load: its shape, mean rate and crowds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Shape of the load over time.
    pub kind: ProfileKind,
    /// Mean rate in events per second without crowds, above 0.
    pub rate: f64,
    /// Length of a daily cycle or of all steps.
    pub period: Duration,
    /// Crowds; used by [`ProfileKind::Flash`] only.
    pub crowds: Crowds,
}

/// An interval with constant rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Base load in events per second.
    pub base_rate: f64,
    /// The current crowd, if any: its number from 0 and its events per second.
    pub crowd: Option<(u64, f64)>,
    /// End of the interval; `None` if it does not end.
    pub until: Option<Duration>,
}

impl Interval {
    /// Total events per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.base_rate + self.crowd.map_or(0.0, |(_, rate)| rate)
    }
}

/// Intervals of a daily cycle.
const DAY_STRETCHES: u32 = 96;
/// Factors of the rate of the steps.
const STEPS: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 1.0];

impl Profile {
    /// A constant rate.
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

    /// The interval that contains `at`, measured from the start of the run.
    #[must_use]
    pub fn at(&self, at: Duration) -> Interval {
        match self.kind {
            ProfileKind::Steady => Interval { base_rate: self.rate, crowd: None, until: None },
            ProfileKind::Diurnal => {
                let (number, until) = Self::slice(at, self.period / DAY_STRETCHES);
                let phase = (number % u64::from(DAY_STRETCHES)) as f64 / f64::from(DAY_STRETCHES);
                // Least at the start of the period (night), most in its middle; the mean over a period is the rate.
                let share = 1.0 - 0.8 * (phase * std::f64::consts::TAU).cos();
                Interval { base_rate: self.rate * share, crowd: None, until: Some(until) }
            }
            ProfileKind::Steps => {
                let (number, until) = Self::slice(at, self.period / STEPS.len() as u32);
                let share = STEPS[(number % STEPS.len() as u64) as usize];
                Interval { base_rate: self.rate * share, crowd: None, until: Some(until) }
            }
            ProfileKind::Flash => self.flash(at),
        }
    }

    fn flash(&self, at: Duration) -> Interval {
        let Crowds { first, every, length, rate } = self.crowds;
        let base_rate = self.rate;
        if at < first {
            return Interval { base_rate, crowd: None, until: Some(first) };
        }
        let (number, next) = Self::slice(at - first, every);
        let begin = first + every.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX));
        if at < begin + length {
            let until = Some((begin + length).min(first + next));
            return Interval { base_rate, crowd: Some((number, rate)), until };
        }
        Interval { base_rate, crowd: None, until: Some(first + next) }
    }

    /// Number and end of the slice of length `size` that contains `at`.
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
    fn flash_profile_has_crowds_at_their_times(
        #[case] at: u64,
        #[case] crowd: Option<u64>,
        #[case] until: u64,
    ) {
        let interval = flash().at(Duration::from_secs(at));
        assert_eq!(interval.crowd.map(|(number, _)| number), crowd);
        assert_eq!(interval.until, Some(Duration::from_secs(until)));
        assert!((interval.rate() - if crowd.is_some() { 100.0 } else { 20.0 }).abs() < 1e-9);
    }

    #[rstest]
    #[case(ProfileKind::Diurnal, 1.0)]
    #[case(ProfileKind::Steps, 1.7)]
    fn mean_rate_over_a_period(#[case] kind: ProfileKind, #[case] share: f64) {
        let profile = Profile { kind, ..Profile::steady(100.0) };
        let (mut at, mut events) = (Duration::ZERO, 0.0);
        while at < profile.period {
            let interval = profile.at(at);
            let until = interval.until.unwrap();
            assert!(until > at, "time advances");
            events += interval.rate() * (until - at).as_secs_f64();
            at = until;
        }
        assert!((events / profile.period.as_secs_f64() / 100.0 - share).abs() < 1e-6);
    }
}

//! The loads a rule is judged by.

use std::ops::Range;

/// A load, and the stage it falls on. Times are seconds from the beginning, rates records a second.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub story: &'static str,
    /// How long it lasts.
    pub seconds: u64,
    /// When what it is about begins: the time to drain counts from here.
    pub begins: u64,
    /// What comes in at a time.
    pub rate: fn(u64) -> f64,
    /// Share of each partition; they sum to 1.
    pub shares: Vec<f64>,
    /// What one replica can do.
    pub capacity: f64,
    /// What gets through behind the stage, at a time.
    pub through: fn(u64) -> f64,
    /// A partition whose reader cannot get past a record, from a time on.
    pub poison: Option<(usize, u64)>,
    /// When the broker does not answer.
    pub outage: Range<u64>,
    /// What waits at the beginning.
    pub backlog: u64,
    /// Replicas at the beginning.
    pub replicas: u32,
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
}

impl Trace {
    fn even(
        name: &'static str,
        story: &'static str,
        seconds: u64,
        begins: u64,
        rate: fn(u64) -> f64,
    ) -> Self {
        Self {
            name,
            story,
            seconds,
            begins,
            rate,
            shares: vec![1.0 / 12.0; 12],
            capacity: 1000.0,
            through: |_| f64::INFINITY,
            poison: None,
            outage: 0..0,
            backlog: 0,
            replicas: 2,
            min: 1,
            max: 12,
        }
    }

    /// Number of partitions.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.shares.len()).unwrap_or(u32::MAX)
    }
}

/// Shares by Zipf's law with exponent 1: the first partition has twice the second's, thrice the third's.
fn zipf(partitions: usize) -> Vec<f64> {
    let weights: Vec<f64> = (1..=partitions).map(|rank| 1.0 / rank as f64).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// All of them.
#[must_use]
pub fn traces() -> Vec<Trace> {
    vec![
        Trace::even("step", "five times the load for half an hour", 4800, 600, |t| {
            if (600..2400).contains(&t) { 4000.0 } else { 800.0 }
        }),
        Trace::even("ramp", "from 500/s to 6,000/s in half an hour, and back", 4800, 300, |t| match t {
            300..2100 => 500.0 + 5500.0 * (t - 300) as f64 / 1800.0,
            2100..3900 => 6000.0 - 5500.0 * (t - 2100) as f64 / 1800.0,
            _ => 500.0,
        }),
        Trace::even("spike", "ten times the load for ten seconds", 2400, 600, |t| {
            if (600..610).contains(&t) { 8000.0 } else { 800.0 }
        }),
        Trace::even("sine", "a wave of twenty minutes between 300/s and 2,700/s", 6000, 0, |t| {
            1500.0 + 1200.0 * (t as f64 * std::f64::consts::TAU / 1200.0).sin()
        }),
        Trace::even(
            "sawtooth",
            "two minutes up and down by 10 % around what two replicas are meant to do",
            3600,
            0,
            |t| 1400.0 * (0.9 + 0.2 * (t % 120) as f64 / 120.0),
        ),
        Trace {
            shares: zipf(12),
            ..Trace::even("zipf", "one partition has a third of the load", 4800, 600, |t| {
                if t < 600 { 1000.0 } else { 2800.0 }
            })
        },
        Trace {
            poison: Some((3, 900)),
            ..Trace::even(
                "poison",
                "one partition is stuck while the input of the rest doubles",
                3600,
                900,
                |t| {
                    if (900..2700).contains(&t) { 1600.0 } else { 800.0 }
                },
            )
        },
        Trace {
            through: |t| if t < 2400 { 2500.0 } else { f64::INFINITY },
            ..Trace::even(
                "capped",
                "the database takes 2,500/s of 4,000/s, until it is repaired",
                4800,
                600,
                |t| {
                    if (600..2400).contains(&t) { 4000.0 } else { 1000.0 }
                },
            )
        },
        Trace {
            outage: 900..960,
            replicas: 3,
            ..Trace::even("outage", "the broker is unavailable for a minute", 2400, 900, |_| 2000.0)
        },
        Trace {
            backlog: 1_000_000,
            replicas: 1,
            ..Trace::even(
                "cold",
                "a lag of a million records for one replica of unknown capacity",
                3000,
                0,
                |_| 1000.0,
            )
        },
        Trace {
            min: 0,
            replicas: 1,
            ..Trace::even(
                "wake",
                "a quarter of an hour of nothing, then 4,000/s for ten minutes",
                3600,
                900,
                |t| {
                    if (900..1500).contains(&t) { 4000.0 } else { 0.0 }
                },
            )
        },
    ]
}

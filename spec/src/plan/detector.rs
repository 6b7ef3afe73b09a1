//! Detectors: which metric they watch, and how they decide.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DetectorName, MetricName, MetricPlan};
use crate::pipeline::{
    AggregateFunction, AlgorithmSpec, DetectorSpec, Direction, EwmaSpec, MadSpec, MetricSpec, PoissonSpec,
    ThresholdSpec, ZscoreSpec,
};
use crate::problem::{Invalid, SpecPath, did_you_mean, listed};
use crate::wire::Severity;

/// One thing that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DetectorPlan {
    /// Its name.
    pub name: DetectorName,
    /// The metric it watches; present in [`super::Plan::metrics`].
    pub metric: MetricName,
    /// How it decides.
    pub algorithm: Algorithm,
    /// Which way a value must leave the usual range.
    pub direction: Direction,
    /// Windows with fewer events do not alert upwards.
    pub min_count: u64,
    /// Pause between alerts of a key.
    pub cooldown: Duration,
    /// How much its alerts matter.
    pub severity: Severity,
}

/// How a detector decides; its numbers are in range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// A fixed bound.
    Threshold(Threshold),
    /// Standard deviations from the mean of the last windows.
    Zscore(ZscoreSpec),
    /// Standard deviations from an exponentially weighted mean.
    Ewma(EwmaSpec),
    /// Median absolute deviations from the median of the last windows.
    Mad(MadSpec),
    /// A count against its own past rate.
    Poisson(PoissonSpec),
}

/// Fixed bounds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Threshold {
    /// Alerts above this.
    Above(f64),
    /// Alerts below this.
    Below(f64),
    /// Alerts outside of these.
    Outside {
        /// Alerts below this.
        below: f64,
        /// Alerts above this; more than `below`.
        above: f64,
    },
}

impl Threshold {
    fn parse(spec: &ThresholdSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        match (spec.above, spec.below) {
            (None, None) => Err(at.invalid("must have `above`, `below` or both")),
            (Some(above), None) => Ok(Self::Above(above)),
            (None, Some(below)) => Ok(Self::Below(below)),
            (Some(above), Some(below)) if below < above => Ok(Self::Outside { below, above }),
            (Some(above), Some(below)) => {
                Err(at.invalid(format!("`below` ({below}) must be less than `above` ({above})")))
            }
        }
    }

    /// The bound above which it alerts.
    #[must_use]
    pub fn above(&self) -> Option<f64> {
        match *self {
            Self::Above(above) | Self::Outside { above, .. } => Some(above),
            Self::Below(_) => None,
        }
    }

    /// The bound below which it alerts.
    #[must_use]
    pub fn below(&self) -> Option<f64> {
        match *self {
            Self::Below(below) | Self::Outside { below, .. } => Some(below),
            Self::Above(_) => None,
        }
    }
}

impl Algorithm {
    fn parse(spec: &AlgorithmSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let AlgorithmSpec { threshold, zscore, ewma, mad, poisson } = spec;
        match (threshold, zscore, ewma, mad, poisson) {
            (Some(spec), None, None, None, None) => {
                Threshold::parse(spec, &at.child("threshold")).map(Self::Threshold)
            }
            (None, Some(spec), None, None, None) => {
                let at = at.child("zscore");
                let sigmas = positive(spec.sigmas, &at.child("sigmas"));
                let warmup = warmup_within(spec.warmup, spec.history, &at.child("warmup"));
                sigmas.and(warmup)?;
                Ok(Self::Zscore(spec.clone()))
            }
            (None, None, Some(spec), None, None) => {
                let at = at.child("ewma");
                let sigmas = positive(spec.sigmas, &at.child("sigmas"));
                let half_life = positive(spec.half_life, &at.child("halfLife"));
                let warmup = warmup(spec.warmup, &at.child("warmup"));
                sigmas.and(half_life).and(warmup)?;
                Ok(Self::Ewma(spec.clone()))
            }
            (None, None, None, Some(spec), None) => {
                let at = at.child("mad");
                let deviations = positive(spec.deviations, &at.child("deviations"));
                let warmup = warmup_within(spec.warmup, spec.history, &at.child("warmup"));
                deviations.and(warmup)?;
                Ok(Self::Mad(spec.clone()))
            }
            (None, None, None, None, Some(spec)) => {
                let at = at.child("poisson");
                let half_life = positive(spec.half_life, &at.child("halfLife"));
                let warmup = warmup(spec.warmup, &at.child("warmup"));
                let probability = at.child("probability").require(
                    spec.probability > 0.0 && spec.probability <= 0.1,
                    format!("is {}, must be more than 0 and at most 0.1, e.g. 1e-9", spec.probability),
                );
                half_life.and(warmup).and(probability)?;
                Ok(Self::Poisson(spec.clone()))
            }
            _ => Err(at.invalid("must have exactly one of `threshold`, `zscore`, `ewma`, `mad`, `poisson`, e.g. `poisson: {}`")),
        }
    }

    /// Its name, as a spec writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Threshold(_) => "threshold",
            Self::Zscore(_) => "zscore",
            Self::Ewma(_) => "ewma",
            Self::Mad(_) => "mad",
            Self::Poisson(_) => "poisson",
        }
    }

    /// Windows a key must have been seen for before it can alert.
    #[must_use]
    pub fn warmup(&self) -> u32 {
        match self {
            Self::Threshold(_) => 0,
            Self::Zscore(ZscoreSpec { warmup, .. })
            | Self::Ewma(EwmaSpec { warmup, .. })
            | Self::Mad(MadSpec { warmup, .. })
            | Self::Poisson(PoissonSpec { warmup, .. }) => *warmup,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        match self {
            Self::Threshold(bounds) => {
                let above = bounds.above().map(|value| format!("above {value}"));
                let below = bounds.below().map(|value| format!("below {value}"));
                let bounds: Vec<String> = above.into_iter().chain(below).collect();
                f.write_str(&bounds.join(" or "))
            }
            Self::Zscore(a) => {
                write!(f, "{} sigmas over {} windows, warmup {}", a.sigmas, a.history, a.warmup)
            }
            Self::Ewma(a) => {
                write!(f, "{} sigmas, half-life {} windows, warmup {}", a.sigmas, a.half_life, a.warmup)
            }
            Self::Mad(a) => {
                write!(f, "{} deviations over {} windows, warmup {}", a.deviations, a.history, a.warmup)
            }
            Self::Poisson(a) => write!(
                f,
                "probability {:e}, half-life {} windows, warmup {}",
                a.probability, a.half_life, a.warmup
            ),
        }
    }
}

fn positive(value: f64, at: &SpecPath<'_>) -> Result<(), Invalid> {
    at.require(
        value.is_finite() && value > 0.0 && value <= 1_000.0,
        format!("is {value}, must be more than 0 and at most 1000"),
    )
}

fn warmup(warmup: u32, at: &SpecPath<'_>) -> Result<(), Invalid> {
    at.require(matches!(warmup, 2..=1_000), format!("is {warmup}, must be from 2 to 1000"))
}

fn warmup_within(warmup: u32, history: u32, at: &SpecPath<'_>) -> Result<(), Invalid> {
    at.require(
        warmup >= 2 && warmup <= history,
        format!("is {warmup}, must be from 2 to {history} (`history`)"),
    )
}

/// The metrics of a spec, as written and as parsed, by index.
#[derive(Clone, Copy)]
pub(super) struct Metrics<'a> {
    pub(super) written: &'a [MetricSpec],
    pub(super) parsed: &'a [Result<MetricPlan, Invalid>],
}

impl Metrics<'_> {
    /// The metric that a detector names.
    fn watched(&self, name: &str, at: &SpecPath<'_>) -> Result<usize, Invalid> {
        let names = || self.written.iter().map(|metric| metric.name.as_str());
        names().position(|known| known == name).ok_or_else(|| {
            let hint = did_you_mean(name, names());
            let known = listed(names());
            at.invalid(format!(
                "`{name}` is not the name of a metric of this pipeline{hint} (there is {known})"
            ))
        })
    }
}

impl DetectorPlan {
    pub(super) fn parse(
        spec: &DetectorSpec,
        metrics: Metrics<'_>,
        at: &SpecPath<'_>,
    ) -> Result<Self, Invalid> {
        let name = DetectorName::parse(&spec.name, &at.child("name"));
        let watched = metrics.watched(&spec.metric, &at.child("metric"));
        let at = at.child("algorithm");
        let algorithm = Algorithm::parse(&spec.algorithm, &at);
        let one_way = at.child("threshold").require(
            spec.algorithm.threshold.is_none() || spec.direction == Direction::Up,
            "takes its direction from `above` and `below`: remove `direction`",
        );
        let counts = watched.and_then(|index| {
            let metric = &metrics.written[index];
            let counts = matches!(
                metric.aggregate.function,
                AggregateFunction::Count | AggregateFunction::Unique
            );
            at.child("poisson").require(
                spec.algorithm.poisson.is_none() || counts,
                format!("requires a count, but `{}` is a sum or mean: watch a `count` or `unique` metric, or use `ewma` or `mad`", metric.name),
            )
        });
        let metric = watched.and_then(|index| metrics.parsed[index].as_ref().map_err(|invalid| *invalid));
        one_way.and(counts)?;
        Ok(Self {
            name: name?,
            metric: metric?.name.clone(),
            algorithm: algorithm?,
            direction: spec.direction,
            min_count: spec.min_count,
            cooldown: spec.cooldown.0,
            severity: spec.severity,
        })
    }
}

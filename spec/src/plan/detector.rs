//! Detectors: which metric they watch, and how they decide.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DetectorName, MetricName, MetricPlan};
use crate::pipeline::{
    AggregateFunction, AlertsSpec, AlgorithmSpec, Budget, DetectorSpec, Direction, EwmaSpec, MadSpec,
    MetricSpec, PoissonSpec, Span, ThresholdSpec, ZscoreSpec,
};
use crate::problem::{Invalid, SpecPath, did_you_mean, exactly_one, listed};
use crate::wire::{FieldPath, Severity};

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
    /// Windows with fewer different users do not alert upwards; 0: users are not counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub min_users: u64,
    /// Pause between alerts of a key.
    pub cooldown: Duration,
    /// How much its alerts matter.
    pub severity: Severity,
    /// The fields by which its alerts are explained; none: they are not.
    #[serde(default)]
    pub explain: Vec<FieldPath>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The fields by which alerts are explained where a detector names none.
pub const EXPLAINED: [&str; 4] = ["country", "device", "referrer", "campaign"];
/// Most fields by which alerts are explained.
const EXPLAIN_MAX: usize = 8;

/// How a detector decides; its numbers are in range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// A count against the past of its key, of similar keys and of the metric as a whole.
    Crowd(AlertLimit),
    /// A value against the past of its key, with daily and weekly cycles.
    Level(AlertLimit),
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

/// Windows with events of a metric before `crowd` scores any of its keys. New keys in a metric that is known need none.
const CROWD_WARMUP: u32 = 10;
/// Windows of a key before `level` scores it.
const LEVEL_WARMUP: u32 = 100;

/// How many alerts a detector may raise although nothing is unusual.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AlertLimit {
    /// Expected number over all keys of the metric: from 0.01 to 100,000 a day.
    Budget(Budget),
    /// Probability of an alert for each window of each key: more than 0, at most 0.1.
    Probability(f64),
}

impl AlertLimit {
    /// The limit where none is written.
    pub const DEFAULT: Self = Self::Budget(Budget::per_day(5.0));

    /// The budget; none: there is a probability instead.
    #[must_use]
    pub fn budget(self) -> Option<Budget> {
        match self {
            Self::Budget(budget) => Some(budget),
            Self::Probability(_) => None,
        }
    }

    /// The probability; none: there is a budget instead.
    #[must_use]
    pub fn probability(self) -> Option<f64> {
        match self {
            Self::Budget(_) => None,
            Self::Probability(probability) => Some(probability),
        }
    }

    fn of(spec: &AlertsSpec) -> Self {
        match (spec.budget, spec.probability) {
            (None, None) => Self::DEFAULT,
            (Some(budget), _) => Self::Budget(budget),
            (None, Some(probability)) => Self::Probability(probability),
        }
    }

    fn parse(spec: &AlertsSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let one = at.child("probability").require(
            spec.budget.is_none() || spec.probability.is_none(),
            "cannot be combined with `budget`: remove one of them",
        );
        let budget = spec.budget.map_or(Ok(()), |budget| {
            at.child("budget").require(
                (0.01..=100_000.0).contains(&budget.alerts_per_day()),
                format!("is {budget}, must be from 0.01 to 100000 per day"),
            )
        });
        let probability =
            spec.probability.map_or(Ok(()), |value| probability(value, &at.child("probability")));
        one.and(budget).and(probability)?;
        Ok(Self::of(spec))
    }
}

impl fmt::Display for AlertLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(budget) => f.write_str(&budget.describe()),
            Self::Probability(probability) => write!(f, "probability {probability:e}"),
        }
    }
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
    fn parse(
        spec: &AlgorithmSpec,
        limit: Result<AlertLimit, Invalid>,
        at: &SpecPath<'_>,
    ) -> Result<Self, Invalid> {
        let AlgorithmSpec { crowd, level, threshold, zscore, ewma, mad, poisson } = spec;
        let chosen = exactly_one([
            crowd.as_ref().map(|_| limit.map(Self::Crowd)),
            level.as_ref().map(|_| limit.map(Self::Level)),
            threshold
                .as_ref()
                .map(|spec| Threshold::parse(spec, &at.child("threshold")).map(Self::Threshold)),
            zscore.as_ref().map(|spec| {
                let at = at.child("zscore");
                let sigmas = positive(spec.sigmas, &at.child("sigmas"));
                let warmup = warmup_within(spec.warmup, spec.history, &at.child("warmup"));
                sigmas.and(warmup).map(|()| Self::Zscore(spec.clone()))
            }),
            ewma.as_ref().map(|spec| {
                let at = at.child("ewma");
                let sigmas = positive(spec.sigmas, &at.child("sigmas"));
                let half_life = positive(spec.half_life, &at.child("halfLife"));
                let warmup = warmup(spec.warmup, &at.child("warmup"));
                sigmas.and(half_life).and(warmup).map(|()| Self::Ewma(spec.clone()))
            }),
            mad.as_ref().map(|spec| {
                let at = at.child("mad");
                let deviations = positive(spec.deviations, &at.child("deviations"));
                let warmup = warmup_within(spec.warmup, spec.history, &at.child("warmup"));
                deviations.and(warmup).map(|()| Self::Mad(spec.clone()))
            }),
            poisson.as_ref().map(|spec| {
                let at = at.child("poisson");
                let half_life = positive(spec.half_life, &at.child("halfLife"));
                let warmup = warmup(spec.warmup, &at.child("warmup"));
                let probability = probability(spec.probability, &at.child("probability"));
                half_life.and(warmup).and(probability).map(|()| Self::Poisson(spec.clone()))
            }),
        ]);
        chosen.unwrap_or_else(|| {
            Err(at.invalid("must have exactly one of `crowd`, `level`, `threshold`, `zscore`, `ewma`, `mad`, `poisson`, e.g. `crowd: {}`; or leave out `algorithm`"))
        })
    }

    /// Its name, as a spec writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crowd(_) => "crowd",
            Self::Level(_) => "level",
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
            Self::Crowd(_) => CROWD_WARMUP,
            Self::Level(_) => LEVEL_WARMUP,
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
            Self::Crowd(limit) | Self::Level(limit) => limit.fmt(f),
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

fn probability(value: f64, at: &SpecPath<'_>) -> Result<(), Invalid> {
    at.require(
        value > 0.0 && value <= 0.1,
        format!("is {value}, must be more than 0 and at most 0.1, e.g. 1e-9"),
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

/// What a detector is set to, with the defaults, which depend on its algorithm and the metric.
pub(crate) struct DetectorSettings {
    pub(crate) algorithm: AlgorithmSpec,
    /// None: the algorithm has a bound of its own.
    pub(crate) limit: Option<AlertLimit>,
    pub(crate) direction: Direction,
    pub(crate) min_count: u64,
    pub(crate) cooldown: Span,
}

impl DetectorSettings {
    /// The settings of a detector on a metric of this function.
    pub(crate) fn of(spec: &DetectorSpec, function: AggregateFunction) -> Self {
        let alerts = &spec.alerts;
        let algorithm = spec.algorithm.clone().unwrap_or_else(|| AlgorithmSpec::default_for(function));
        let is_limited = algorithm.crowd.is_some() || algorithm.level.is_some();
        // An episode of `crowd` or `level` raises one alert, so that there is no need of a pause.
        let (min_count, cooldown) = match (&algorithm.crowd, &algorithm.level) {
            (Some(_), _) => (3, Span::secs(0)),
            // Of values a single event may say enough.
            (_, Some(_)) => (1, Span::secs(0)),
            _ => (10, Span::secs(300)),
        };
        Self {
            limit: is_limited.then(|| AlertLimit::of(alerts)),
            direction: alerts.direction.or(spec.direction).unwrap_or_default(),
            min_count: alerts.min_count.or(spec.min_count).unwrap_or(min_count),
            cooldown: alerts.cooldown.or(spec.cooldown).unwrap_or(cooldown),
            algorithm,
        }
    }
}

/// The algorithm that was chosen and the parameters that are its bound; none: it has an [`AlertLimit`].
fn own_bound(spec: &AlgorithmSpec) -> Option<(&'static str, &'static [&'static str])> {
    let AlgorithmSpec { crowd: _, level: _, threshold, zscore, ewma, mad, poisson } = spec;
    exactly_one([
        threshold.as_ref().map(|_| ("threshold", ["above", "below"].as_slice())),
        zscore.as_ref().map(|_| ("zscore", ["sigmas"].as_slice())),
        ewma.as_ref().map(|_| ("ewma", ["sigmas"].as_slice())),
        mad.as_ref().map(|_| ("mad", ["deviations"].as_slice())),
        poisson.as_ref().map(|_| ("poisson", ["probability"].as_slice())),
    ])
}

/// Reports a limit beside an algorithm that has a bound of its own.
fn unlimited(spec: &AlertsSpec, algorithm: &AlgorithmSpec, at: &SpecPath<'_>) -> Result<(), Invalid> {
    let Some((name, bound)) = own_bound(algorithm) else { return Ok(()) };
    let parameters: Vec<_> = bound.iter().map(|parameter| format!("`{parameter}`")).collect();
    let paths: Vec<_> = bound.iter().map(|parameter| format!("`algorithm.{name}.{parameter}`")).collect();
    let limit = |field: &str, is_set: bool| {
        at.child(field).require(
            !is_set,
            format!(
                "`{name}` alerts by {}: set {}, or remove `algorithm` to use a {field}",
                parameters.join(" and "),
                paths.join(" or ")
            ),
        )
    };
    let budget = limit("budget", spec.budget.is_some());
    limit("probability", spec.probability.is_some()).and(budget)
}

impl DetectorPlan {
    pub(super) fn parse(
        spec: &DetectorSpec,
        metrics: Metrics<'_>,
        at: &SpecPath<'_>,
    ) -> Result<Self, Invalid> {
        let name = DetectorName::parse(&spec.name, &at.child("name"));
        let watched = metrics.watched(&spec.metric, &at.child("metric"));
        // Where the metric is not there, that was reported, and any function will do.
        let function =
            watched.map_or(AggregateFunction::Count, |index| metrics.written[index].aggregate.function);
        let DetectorSettings { algorithm: chosen, direction, min_count, cooldown, .. } =
            DetectorSettings::of(spec, function);

        let once = |field: &str, is_twice: bool| {
            at.child(field).require(!is_twice, format!("is set twice: set `{field}` under `alerts` only"))
        };
        let alerts = &spec.alerts;
        let once = [
            once("direction", spec.direction.and(alerts.direction).is_some()),
            once("minCount", spec.min_count.and(alerts.min_count).is_some()),
            once("cooldown", spec.cooldown.and(alerts.cooldown).is_some()),
        ];
        let (explain_at, alerts_at) = (at.child("explain"), at.child("alerts"));
        let limit = AlertLimit::parse(alerts, &at.child("alerts"));
        let unlimited = unlimited(alerts, &chosen, &at.child("alerts"));

        let at = at.child("algorithm");
        let algorithm = Algorithm::parse(&chosen, limit, &at);
        let one_way = at.child("threshold").require(
            chosen.threshold.is_none() || direction == Direction::Up,
            "takes its direction from `above` and `below`: remove `direction`",
        );
        let counts = |algorithm: &str, is_chosen: bool, instead: &str| {
            at.child(algorithm).require(
                !is_chosen || function.counts(),
                format!("requires a count, but `{}` is a sum or mean: watch a `count` or `unique` metric, or use {instead}", spec.metric),
            )
        };
        let counts = [
            counts("crowd", chosen.crowd.is_some(), "`level`"),
            counts("poisson", chosen.poisson.is_some(), "`ewma` or `mad`"),
        ];
        let explain = explained(spec.explain.as_deref(), &explain_at);
        let min_users = alerts.min_users.unwrap_or(0);
        let aggregate = watched.map(|index| &metrics.written[index].aggregate);
        let counts_others = aggregate.is_ok_and(|aggregate| {
            aggregate.function == AggregateFunction::Unique && aggregate.field.as_deref() != Some("user_id")
        });
        let users = alerts_at.child("minUsers").require(
            min_users == 0 || !counts_others,
            format!("counts users, but `{}` counts different values of another field: watch a `count`, or a `unique` of `user_id`, or remove `minUsers`", spec.metric),
        );
        let metric = watched.and_then(|index| metrics.parsed[index].as_ref().map_err(|invalid| *invalid));
        once.into_iter()
            .chain(counts)
            .chain([limit.map(drop), unlimited, one_way, users])
            .collect::<Result<(), _>>()?;
        Ok(Self {
            name: name?,
            metric: metric?.name.clone(),
            algorithm: algorithm?,
            direction,
            min_count,
            min_users,
            cooldown: cooldown.0,
            severity: spec.severity,
            explain: explain?,
        })
    }
}

/// The fields by which alerts are explained.
fn explained(written: Option<&[String]>, at: &SpecPath<'_>) -> Result<Vec<FieldPath>, Invalid> {
    let Some(written) = written else {
        return Ok(EXPLAINED.iter().filter_map(|field| FieldPath::parse(field)).collect());
    };
    let few = at.require(
        written.len() <= EXPLAIN_MAX,
        format!("has {} fields, at most {EXPLAIN_MAX} are allowed", written.len()),
    );
    let fields = at.each(written, |field, at| at.event_field(field));
    few.and(fields)
}

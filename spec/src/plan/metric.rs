//! Metrics: what is counted, by which key, over which windows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MetricName;
use crate::pipeline::{AggregateFunction, AggregateSpec, ConditionSpec, Emit, MetricSpec, Span};
use crate::problem::{Invalid, SpecPath, exactly_one};
use crate::wire::FieldPath;

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricPlan {
    /// Its name.
    pub name: MetricName,
    /// Event types that count; empty: all.
    pub types: Vec<String>,
    /// Conditions, all of which must hold.
    pub conditions: Vec<Condition>,
    /// Fields whose values make the key, joined by `|` where there are several (and `|` and `\\` inside them escaped by `\\`).
    /// An event without one of them is not counted.
    pub key: Vec<FieldPath>,
    /// What is computed.
    pub aggregate: AggregatePlan,
    /// Length of a window: whole seconds, at least one, at most ten minutes.
    pub window: Duration,
    /// How often the parts of all keys that changed are sent.
    pub emit: Duration,
    /// Whether the parts of the keys that grow fastest are sent sooner than that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early_parts: bool,
    /// Keys of an open window and source that are counted one by one; the rest is counted as [`OTHER_KEY`].
    pub max_keys: u32,
    /// Whether the different users of each window are counted, because a detector asks for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub users: bool,
}

/// The key under which events are counted whose own key came after the limit was reached.
pub const OTHER_KEY: &str = "(other)";

/// The key of alerts about a whole metric: about the total of all its keys.
pub const ALL_KEY: &str = "(all)";

/// Joins the values of a metric's key fields.
pub const KEY_SEPARATOR: char = '|';

/// Written before a [`KEY_SEPARATOR`] or another escape inside one of several values, and before a value that reads like
/// [`OTHER_KEY`] or [`ALL_KEY`]: different values always make different keys.
pub const KEY_ESCAPE: char = '\\';

/// What is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "function", content = "field")]
pub enum AggregatePlan {
    /// How many events.
    Count,
    /// The sum of a field.
    Sum(FieldPath),
    /// The mean of a field.
    Mean(FieldPath),
    /// How many different values of a field.
    Unique(FieldPath),
}

/// A condition on a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The field.
    pub field: FieldPath,
    /// What must hold.
    pub test: Test,
}

/// What must hold of a field's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "value")]
pub enum Test {
    /// One of these (JSON text for numbers and booleans).
    In(Vec<String>),
    /// None of these, or absent.
    NotIn(Vec<String>),
    /// A number of at least this.
    AtLeast(f64),
    /// A number of at most this.
    AtMost(f64),
    /// Present, or not.
    Exists(bool),
}

impl MetricPlan {
    pub(super) fn parse(spec: &MetricSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let name = MetricName::parse(&spec.name, &at.child("name"));
        let window = window(spec.window, &at.child("window"));
        let emit = emit(spec, &at.child("emit"));
        let key = at.child("key");
        let some = key.require(
            !spec.key.is_empty(),
            "is empty: name the field whose values are counted, e.g. `[item_id]`",
        );
        let key = key.each(&spec.key, |field, at| at.event_field(field));
        let aggregate = AggregatePlan::parse(&spec.aggregate, &at.child("aggregate"));
        let conditions = at.child("events").child("where");
        let conditions = conditions.each(&spec.events.conditions, Condition::parse);
        some?;
        Ok(Self {
            name: name?,
            types: spec.events.types.clone(),
            conditions: conditions?,
            key: key?,
            aggregate: aggregate?,
            window: window?,
            emit: emit?,
            early_parts: spec.emit == Emit::Adaptive,
            max_keys: spec.max_keys,
            users: false,
        })
    }
}

/// The interval of `emit: adaptive` for the keys that do not stand out.
const ADAPTIVE_EMIT: Duration = Duration::from_secs(1);

fn emit(spec: &MetricSpec, at: &SpecPath<'_>) -> Result<Duration, Invalid> {
    let Emit::Every(interval) = spec.emit else { return Ok(ADAPTIVE_EMIT) };
    at.require(
        interval.0 >= Duration::from_millis(100) && interval <= spec.window,
        format!(
            "is {interval}, must be `adaptive`, or from 100ms to the length of the window ({})",
            spec.window
        ),
    )?;
    Ok(interval.0)
}

fn window(window: Span, at: &SpecPath<'_>) -> Result<Duration, Invalid> {
    let whole = window.0.subsec_nanos() == 0 && matches!(window.0.as_secs(), 1..=600);
    at.require(
        whole,
        format!(
            "is {window}, must be whole seconds from 1s to 10m; for longer periods, aggregate the closed windows in the database"
        ),
    )?;
    Ok(window.0)
}

impl AggregatePlan {
    fn parse(spec: &AggregateSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let at = at.child("field");
        let field = |what: &str| match &spec.field {
            Some(field) => at.event_field(field),
            None => Err(at.invalid(format!("missing: name the field to aggregate with `{what}`"))),
        };
        match spec.function {
            AggregateFunction::Count => {
                at.require(
                    spec.field.is_none(),
                    "has no meaning for `count`: remove it, or write `function: sum`, `mean` or `unique`",
                )?;
                Ok(Self::Count)
            }
            AggregateFunction::Sum => field("sum").map(Self::Sum),
            AggregateFunction::Mean => field("mean").map(Self::Mean),
            AggregateFunction::Unique => field("unique").map(Self::Unique),
        }
    }

    /// The function without its field.
    #[must_use]
    pub fn function(&self) -> AggregateFunction {
        match self {
            Self::Count => AggregateFunction::Count,
            Self::Sum(_) => AggregateFunction::Sum,
            Self::Mean(_) => AggregateFunction::Mean,
            Self::Unique(_) => AggregateFunction::Unique,
        }
    }

    /// The field it is computed of; none for a count.
    #[must_use]
    pub fn field(&self) -> Option<&FieldPath> {
        match self {
            Self::Count => None,
            Self::Sum(field) | Self::Mean(field) | Self::Unique(field) => Some(field),
        }
    }
}

impl Condition {
    fn parse(spec: &ConditionSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let field = at.child("field").event_field(&spec.field);
        let test = exactly_one([
            spec.one_of.clone().map(Test::In),
            spec.not_in.clone().map(Test::NotIn),
            spec.at_least.map(Test::AtLeast),
            spec.at_most.map(Test::AtMost),
            spec.exists.map(Test::Exists),
        ]);
        let test = test.ok_or_else(|| {
            at.invalid("must have exactly one of `in`, `notIn`, `atLeast`, `atMost`, `exists`")
        });
        let some = |name: &str, list: &Option<Vec<String>>| {
            let empty = list.as_ref().is_some_and(Vec::is_empty);
            at.child(name).require(!empty, "is empty: write at least one value")
        };
        let (one_of, not_in) = (some("in", &spec.one_of), some("notIn", &spec.not_in));
        one_of.and(not_in)?;
        Ok(Self { field: field?, test: test? })
    }
}

//! A metric, compiled: which events count, under which key, and for how much.

use std::time::Duration;

use compact_str::CompactString;
use herd_spec::plan::{AggregatePlan, Condition, KEY_SEPARATOR, MetricPlan, Plan, Test};
use herd_spec::wire::FieldPath;

use crate::aggregate::{Contribution, millionths};
use crate::extract::{Fields, Scalar};

/// The metrics of a pipeline, with what they share.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// In the order of the plan.
    pub all: Vec<MetricPlan>,
    /// The longest window, in which duplicates are known.
    pub longest: Duration,
    /// See [`herd_spec::plan::EventsPlan::max_lateness`].
    pub lateness: Duration,
}

impl Metrics {
    /// Those of `plan`.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let longest =
            plan.metrics.iter().map(|metric| metric.window).max().unwrap_or(Duration::from_secs(60));
        Self { all: plan.metrics.clone(), longest, lateness: plan.events.max_lateness }
    }

    /// Place of the metric of that name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|metric| metric.name == name)
    }
}

/// What an event means to a metric: its key goes to `key`, its contribution to `then`; false if it does not count.
pub fn contribution(
    metric: &MetricPlan,
    fields: &mut Fields<'_>,
    key: &mut CompactString,
    then: impl FnOnce(&str, Contribution<'_>),
) -> bool {
    if !counts(metric, fields) || !key_of(&metric.key, fields, key) {
        return false;
    }
    match &metric.aggregate {
        AggregatePlan::Count => then(key, Contribution::One),
        AggregatePlan::Sum(field) | AggregatePlan::Mean(field) => {
            let Some(number) = fields.get(field).and_then(|scalar| scalar.number()).and_then(millionths)
            else {
                return false;
            };
            then(key, Contribution::Number(number));
        }
        AggregatePlan::Unique(field) => {
            let Some(scalar) = fields.get(field) else { return false };
            then(key, Contribution::Value(scalar.text()));
        }
    }
    true
}

fn counts(metric: &MetricPlan, fields: &mut Fields<'_>) -> bool {
    let of_type = |fields: &mut Fields<'_>| {
        fields
            .get(&FieldPath::Type)
            .is_some_and(|scalar| metric.types.iter().any(|name| name == scalar.text()))
    };
    (metric.types.is_empty() || of_type(fields))
        && metric.conditions.iter().all(|condition| holds(condition, fields))
}

fn holds(condition: &Condition, fields: &mut Fields<'_>) -> bool {
    let value = fields.get(&condition.field);
    let among = |list: &[String]| {
        value.as_ref().is_some_and(|scalar| list.iter().any(|entry| entry == scalar.text()))
    };
    let number = || value.as_ref().and_then(Scalar::number);
    match &condition.test {
        Test::In(list) => among(list),
        Test::NotIn(list) => !among(list),
        Test::AtLeast(bound) => number().is_some_and(|number| number >= *bound),
        Test::AtMost(bound) => number().is_some_and(|number| number <= *bound),
        Test::Exists(wanted) => value.is_some() == *wanted,
    }
}

fn key_of(paths: &[FieldPath], fields: &mut Fields<'_>, key: &mut CompactString) -> bool {
    key.clear();
    for (place, path) in paths.iter().enumerate() {
        let Some(scalar) = fields.get(path) else { return false };
        if place > 0 {
            key.push(KEY_SEPARATOR);
        }
        key.push_str(scalar.text());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_spec::wire::EventRef;
    use rstest::rstest;

    fn path(written: &str) -> FieldPath {
        FieldPath::parse(written).unwrap()
    }

    fn metric(
        types: &[&str],
        conditions: Vec<Condition>,
        key: &[&str],
        aggregate: AggregatePlan,
    ) -> MetricPlan {
        MetricPlan {
            name: "m".into(),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            conditions,
            key: key.iter().map(|written| path(written)).collect(),
            aggregate,
            window: Duration::from_secs(10),
            emit: Duration::from_secs(1),
            max_keys: 10,
        }
    }

    fn test(field: &str, test: Test) -> Vec<Condition> {
        vec![Condition { field: path(field), test }]
    }

    const EVENT: &[u8] =
        br#"{"v":1,"event_id":"e","type":"purchase","user_id":"u","item_id":"p-1","time":1,"received":2,
        "properties":{"price":9.5,"country":"NL"}}"#;

    #[rstest]
    #[case(metric(&[], vec![], &["item_id"], AggregatePlan::Count), Some("p-1 One"))]
    #[case(metric(&["view"], vec![], &["item_id"], AggregatePlan::Count), None)]
    #[case(metric(&["view", "purchase"], vec![], &["item_id", "country"], AggregatePlan::Count), Some("p-1|NL One"))]
    #[case(metric(&[], vec![], &["city"], AggregatePlan::Count), None)]
    #[case(metric(&[], vec![], &["country"], AggregatePlan::Sum(path("price"))), Some("NL Number(9500000)"))]
    #[case(metric(&[], vec![], &["country"], AggregatePlan::Mean(path("country"))), None)]
    #[case(metric(&[], vec![], &["item_id"], AggregatePlan::Unique(path("user_id"))), Some(r#"p-1 Value("u")"#))]
    #[case(metric(&[], test("price", Test::AtLeast(9.5)), &["item_id"], AggregatePlan::Count), Some("p-1 One"))]
    #[case(metric(&[], test("price", Test::AtMost(9.4)), &["item_id"], AggregatePlan::Count), None)]
    #[case(metric(&[], test("country", Test::In(vec!["NL".into()])), &["item_id"], AggregatePlan::Count), Some("p-1 One"))]
    #[case(metric(&[], test("city", Test::NotIn(vec!["Delft".into()])), &["item_id"], AggregatePlan::Count), Some("p-1 One"))]
    #[case(metric(&[], test("city", Test::Exists(true)), &["item_id"], AggregatePlan::Count), None)]
    fn an_event_counts_where_the_metric_says_so(#[case] metric: MetricPlan, #[case] expected: Option<&str>) {
        let event = EventRef::parse(EVENT).unwrap();
        let mut seen = None;
        let counted =
            contribution(&metric, &mut Fields::of(&event), &mut CompactString::default(), |key, what| {
                seen = Some(format!("{key} {what:?}"));
            });
        assert_eq!(seen.as_deref(), expected);
        assert_eq!(counted, expected.is_some());
    }
}

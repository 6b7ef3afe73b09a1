//! A metric, compiled: which events count, under which key, and for how much.

use std::time::Duration;

use compact_str::CompactString;
use herd_spec::plan::{
    ALL_KEY, AggregatePlan, Algorithm, Condition, KEY_ESCAPE, KEY_SEPARATOR, MetricPlan, OTHER_KEY, Plan,
    Test,
};
use herd_spec::units::{EventTime, millis};
use herd_spec::wire::{FieldPath, Fingerprint, Shape};

use crate::aggregate::{Contribution, millionths};
use crate::commit::name_hash;
use crate::extract::{Fields, Scalar};

/// The metrics of a pipeline, with what they share.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// In the order of the plan.
    pub all: Vec<MetricPlan>,
    /// Of each, whether judges must know the traffic of all its keys together.
    pub(crate) announced: Vec<bool>,
    /// Of each, the hash of its name, and its shape.
    pub(crate) shapes: Vec<(Fingerprint, Shape)>,
    /// The longest window, in which duplicates are known.
    pub longest: Duration,
    /// For how long after the end of such a window other windows may be open that overlap it: zero where all windows divide
    /// the longest one.
    overhang: Duration,
    /// See [`herd_spec::plan::EventsPlan::max_lateness`].
    pub lateness: Duration,
}

impl Metrics {
    /// Those of `plan`.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let longest =
            plan.metrics.iter().map(|metric| metric.window).max().unwrap_or(Duration::from_secs(60));
        let divides =
            |metric: &MetricPlan| longest.as_millis().is_multiple_of(metric.window.as_millis().max(1));
        let overhang = if plan.metrics.iter().all(divides) { Duration::ZERO } else { longest };
        let shape = |metric: &MetricPlan| Shape {
            definition: metric.definition(),
            size_ms: millis(metric.window).unsigned_abs(),
            function: metric.aggregate.function(),
        };
        let is_announced = |metric: &MetricPlan| {
            let mut detectors = plan.detectors.iter().filter(|detector| detector.metric == metric.name);
            detectors.any(|detector| matches!(detector.algorithm, Algorithm::Crowd(_)))
        };
        Self {
            announced: plan.metrics.iter().map(is_announced).collect(),
            all: plan.metrics.clone(),
            shapes: plan.metrics.iter().map(|metric| (name_hash(&metric.name), shape(metric))).collect(),
            longest,
            overhang,
            lateness: plan.events.max_lateness,
        }
    }

    /// Whether ids of events from the longest window that starts at `start` need no longer be known: every window such an
    /// event may fall in has ended by `watermark`.
    pub(crate) fn forgets(&self, start: EventTime, watermark: EventTime) -> bool {
        start.plus(self.longest).plus(self.overhang) <= watermark
    }

    /// The earliest time of which ids are known at `watermark`.
    pub(crate) fn known_from(&self, watermark: EventTime) -> EventTime {
        watermark.minus(self.overhang).window_start(self.longest)
    }

    /// Place of the metric of that name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|metric| metric.name == name)
    }
}

/// Whether an event counts in a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It does.
    Yes,
    /// It does not: another type, a condition that does not hold, a field that is absent or no number.
    No,
    /// It would, but its number is too large to be added up exactly: see [`crate::aggregate::LARGEST`].
    TooLarge,
}

/// What an event means to a metric: its key goes to `key`, its contribution and, where the metric counts them, its user to `then`, if it
/// counts.
pub fn contribution(
    metric: &MetricPlan,
    fields: &mut Fields<'_>,
    key: &mut CompactString,
    then: impl FnOnce(&str, Contribution<'_>, Option<&str>),
) -> Counted {
    if !counts(metric, fields) || !key_of(&metric.key, fields, key) {
        return Counted::No;
    }
    let user = if metric.users { fields.get(&FieldPath::UserId) } else { None };
    let user = user.as_ref().map(Scalar::text);
    match &metric.aggregate {
        AggregatePlan::Count => then(key, Contribution::One, user),
        AggregatePlan::Sum(field) | AggregatePlan::Mean(field) => {
            let Some(number) = fields.get(field).and_then(|scalar| scalar.number()) else {
                return Counted::No;
            };
            let Some(number) = millionths(number) else { return Counted::TooLarge };
            then(key, Contribution::Number(number), user);
        }
        AggregatePlan::Unique(field) => {
            let Some(scalar) = fields.get(field) else { return Counted::No };
            then(key, Contribution::Value(scalar.text()), user);
        }
    }
    Counted::Yes
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
        if paths.len() > 1 {
            push_escaped(key, scalar.text());
        } else {
            key.push_str(scalar.text());
        }
    }
    // A value that reads like the key of the overflow, or of the whole metric, is neither.
    let reads_like =
        |name| key.strip_suffix(name).is_some_and(|before| before.chars().all(|c| c == KEY_ESCAPE));
    if reads_like(OTHER_KEY) || reads_like(ALL_KEY) {
        key.insert(0, KEY_ESCAPE);
    }
    true
}

/// Appends one of several values so that no other values give the same key: separators and escapes are escaped.
fn push_escaped(key: &mut CompactString, value: &str) {
    if !value.contains([KEY_SEPARATOR, KEY_ESCAPE]) {
        return key.push_str(value);
    }
    for c in value.chars() {
        if matches!(c, KEY_SEPARATOR | KEY_ESCAPE) {
            key.push(KEY_ESCAPE);
        }
        key.push(c);
    }
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
            name: "m".parse().unwrap(),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            conditions,
            key: key.iter().map(|written| path(written)).collect(),
            aggregate,
            window: Duration::from_secs(10),
            emit: Duration::from_secs(1),
            early_parts: false,
            max_keys: 10,
            users: false,
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
            contribution(&metric, &mut Fields::of(&event), &mut CompactString::default(), |key, what, _| {
                seen = Some(format!("{key} {what:?}"));
            });
        assert_eq!(seen.as_deref(), expected);
        assert_eq!(counted == Counted::Yes, expected.is_some());
    }

    fn key(fields: &[&str], properties: &serde_json::Value) -> String {
        let event =
            format!(r#"{{"v":1,"event_id":"e","type":"t","time":1,"received":2,"properties":{properties}}}"#);
        let event = EventRef::parse(event.as_bytes()).unwrap();
        let paths: Vec<_> = fields.iter().map(|field| path(field)).collect();
        let mut key = CompactString::default();
        assert!(key_of(&paths, &mut Fields::of(&event), &mut key));
        key.into()
    }

    #[rstest]
    #[case(["x", "y"], "x|y")]
    #[case(["x|y", "z"], r"x\|y|z")]
    #[case(["x", "y|z"], r"x|y\|z")]
    #[case([r"x\", "y"], r"x\\|y")]
    #[case(["x", r"\|y"], r"x|\\\|y")]
    fn composite_keys_of_different_values_differ(#[case] values: [&str; 2], #[case] expected: &str) {
        assert_eq!(key(&["a", "b"], &serde_json::json!({"a": values[0], "b": values[1]})), expected);
    }

    #[rstest]
    #[case("(other)", r"\(other)")]
    #[case(r"\(other)", r"\\(other)")]
    #[case("an (other)", "an (other)")]
    #[case("x|y", "x|y")]
    fn a_value_like_the_overflow_has_a_key_of_its_own(#[case] value: &str, #[case] expected: &str) {
        assert_eq!(key(&["a"], &serde_json::json!({"a": value})), expected);
    }

    #[test]
    fn distinguishes_a_number_too_large_to_add_up_from_an_absent_one() {
        let counted = |price: &str| {
            let event = format!(
                r#"{{"v":1,"event_id":"e","type":"t","item_id":"i","time":1,"received":2,"properties":{{"price":{price}}}}}"#
            );
            let event = EventRef::parse(event.as_bytes()).unwrap();
            let metric = metric(&[], vec![], &["item_id"], AggregatePlan::Sum(path("price")));
            contribution(&metric, &mut Fields::of(&event), &mut CompactString::default(), |_, _, _| {})
        };
        assert_eq!(counted("9.5"), Counted::Yes);
        assert_eq!(counted("1.7e308"), Counted::TooLarge);
        assert_eq!(counted("\"much\""), Counted::No);
    }
}

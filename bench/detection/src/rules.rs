//! The detectors under test.

use std::fmt::Write as _;

use herd_spec::plan::Plan;

/// A rule: how its detector is written.
pub(crate) struct Rule {
    /// Its name in the tables.
    pub(crate) name: &'static str,
    /// The detector's fields with the defaults.
    defaults: &'static str,
    /// The detector's fields with another limit.
    limited: fn(f64) -> String,
    /// The limits of a sweep, from many alerts to few.
    limits: &'static [f64],
    /// Values of `minCount` of a sweep; empty: it is not varied.
    min_counts: &'static [u64],
    /// The detector's fields with a budget of alerts per day; none: it has no budget.
    pub(crate) budget: Option<fn(f64) -> String>,
}

const SIGMAS: &[f64] = &[3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0, 50.0];
const PROBABILITIES: &[f64] =
    &[1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-14, 1e-16, 1e-20];
const MIN_COUNTS: &[u64] = &[1, 5, 10];

/// All rules of counts. Those that the spec of this build does not know are left out by [`known`].
pub(crate) const COUNTS: &[Rule] = &[
    Rule {
        name: "zscore",
        defaults: "algorithm: {zscore: {}}",
        limited: |sigmas| format!("algorithm: {{zscore: {{sigmas: {sigmas}}}}}"),
        limits: SIGMAS,
        min_counts: MIN_COUNTS,
        budget: None,
    },
    Rule {
        name: "ewma",
        defaults: "algorithm: {ewma: {}}",
        limited: |sigmas| format!("algorithm: {{ewma: {{sigmas: {sigmas}}}}}"),
        limits: SIGMAS,
        min_counts: MIN_COUNTS,
        budget: None,
    },
    Rule {
        name: "mad",
        defaults: "algorithm: {mad: {}}",
        limited: |deviations| format!("algorithm: {{mad: {{deviations: {deviations}}}}}"),
        limits: SIGMAS,
        min_counts: MIN_COUNTS,
        budget: None,
    },
    Rule {
        name: "poisson",
        defaults: "algorithm: {poisson: {}}",
        limited: |p| format!("algorithm: {{poisson: {{probability: {p:e}}}}}"),
        limits: PROBABILITIES,
        min_counts: MIN_COUNTS,
        budget: None,
    },
    Rule {
        name: "crowd",
        defaults: "",
        limited: |p| format!("alerts: {{probability: {p:e}}}"),
        limits: PROBABILITIES,
        min_counts: &[],
        budget: Some(|budget| format!("alerts: {{budget: {budget} per day}}")),
    },
];

/// All rules of values: bands in both directions.
pub(crate) const VALUES: &[(&str, &str)] = &[
    ("zscore", "algorithm: {zscore: {}}, direction: both"),
    ("ewma", "algorithm: {ewma: {}}, direction: both"),
    ("mad", "algorithm: {mad: {}}, direction: both"),
    ("level", "alerts: {direction: both}"),
];

/// A detector under test.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    /// Its name in the pipeline.
    pub(crate) name: String,
    /// The rule.
    pub(crate) rule: &'static str,
    /// What was set, for the tables.
    pub(crate) setting: String,
    fields: String,
}

impl Detector {
    fn new(rule: &'static str, number: usize, setting: String, fields: &str) -> Self {
        Self { name: format!("{rule}-{number}"), rule, setting, fields: fields.to_owned() }
    }
}

/// The rules that this build knows.
pub(crate) fn known() -> Vec<&'static Rule> {
    COUNTS.iter().filter(|rule| parse(&Metric::counts(10), &defaults(&[*rule])).is_ok()).collect()
}

/// Each rule with its defaults.
pub(crate) fn defaults(rules: &[&'static Rule]) -> Vec<Detector> {
    rules.iter().map(|rule| Detector::new(rule.name, 0, "defaults".into(), rule.defaults)).collect()
}

/// Each rule with all limits and minimum counts.
pub(crate) fn sweep(rules: &[&'static Rule]) -> Vec<Detector> {
    let mut all = Vec::new();
    for rule in rules {
        for limit in rule.limits {
            let fields = (rule.limited)(*limit);
            let shown = if *limit < 0.1 { format!("{limit:e}") } else { limit.to_string() };
            if rule.min_counts.is_empty() {
                all.push(Detector::new(rule.name, all.len(), shown, &fields));
                continue;
            }
            for count in rule.min_counts {
                let fields = format!("{fields}, minCount: {count}");
                all.push(Detector::new(rule.name, all.len(), format!("{shown}, minCount {count}"), &fields));
            }
        }
    }
    all
}

/// Each rule at a budget of alerts per day, or with its defaults if it has none.
pub(crate) fn budgeted(rules: &[&'static Rule], budget: f64) -> Vec<Detector> {
    let detector = |rule: &&'static Rule| match rule.budget {
        Some(fields) => Detector::new(rule.name, 0, format!("budget {budget} a day"), &fields(budget)),
        None => Detector::new(rule.name, 0, "defaults".into(), rule.defaults),
    };
    rules.iter().map(detector).collect()
}

/// The rules of values that this build knows.
pub(crate) fn values() -> Vec<Detector> {
    let detector = |(name, fields): &(&'static str, &str)| Detector::new(name, 0, "defaults".into(), fields);
    let is_known = |detector: &Detector| parse(&Metric::means(), std::slice::from_ref(detector)).is_ok();
    VALUES.iter().map(detector).filter(is_known).collect()
}

/// The metric that the detectors watch.
pub(crate) struct Metric(String);

impl Metric {
    /// Counts of items in windows of this many seconds.
    pub(crate) fn counts(window: u64) -> Self {
        Self(format!("{{name: views, window: {window}s, maxKeys: 100000}}"))
    }

    /// Means of a value in windows of five minutes.
    pub(crate) fn means() -> Self {
        Self("{name: views, window: 5m, aggregate: {function: mean, field: value}}".into())
    }
}

/// The plan of these detectors.
pub(crate) fn plan(metric: &Metric, detectors: &[Detector]) -> anyhow::Result<Plan> {
    parse(metric, detectors)
        .map_err(|problem| anyhow::anyhow!("the pipeline under test is invalid: {problem}"))
}

fn parse(metric: &Metric, detectors: &[Detector]) -> Result<Plan, String> {
    let mut written = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: bench}}\nspec:\n  metrics:\n  - {}\n  detectors:{}\n",
        metric.0,
        if detectors.is_empty() { " []" } else { "" }
    );
    for detector in detectors {
        let comma = if detector.fields.is_empty() { "" } else { ", " };
        // Writing into a String does not fail.
        let _ = writeln!(written, "  - {{name: {}, metric: views{comma}{}}}", detector.name, detector.fields);
    }
    let pipeline = herd_spec::document::parse(&written).map_err(|problems| format!("{problems:?}"))?;
    Plan::parse(&pipeline).map_err(|problems| format!("{problems:?}"))
}

//! Metrics and the detectors that watch them.

use std::time::Duration;

use super::Found;
use crate::pipeline::{AggregateFunction, ConditionSpec, DetectorSpec, Direction, MetricSpec};

impl Found {
    pub(super) fn metric(&mut self, path: &str, metric: &MetricSpec) {
        let window = metric.window.0;
        if window.subsec_nanos() != 0 || window < Duration::from_secs(1) || window > Duration::from_secs(600)
        {
            self.add(format!("{path}.window"), format!("is {}, must be whole seconds from 1s to 10m; longer windows are rolled up from closed ones", metric.window));
        }
        if metric.emit.0 < Duration::from_millis(100) || metric.emit > metric.window {
            self.add(
                format!("{path}.emit"),
                format!(
                    "is {}, must be from 100ms to the length of the window ({})",
                    metric.emit, metric.window
                ),
            );
        }
        if metric.key.is_empty() {
            self.add(
                format!("{path}.key"),
                "is empty: name the field whose values are counted, e.g. `[item_id]`",
            );
        }
        for (at, field) in metric.key.iter().enumerate() {
            self.field(&format!("{path}.key[{at}]"), field);
        }
        match (metric.aggregate.function, &metric.aggregate.field) {
            (AggregateFunction::Count, Some(_)) => self.add(
                format!("{path}.aggregate.field"),
                "has no meaning for `count`: remove it, or write `function: sum`, `mean` or `unique`",
            ),
            (AggregateFunction::Count, None) => {}
            (function, None) => {
                let function = format!("{function:?}").to_lowercase();
                self.add(
                    format!("{path}.aggregate.field"),
                    format!("missing: name the field of which the {function} is taken"),
                );
            }
            (_, Some(field)) => self.field(&format!("{path}.aggregate.field"), field),
        }
        for (at, condition) in metric.events.conditions.iter().enumerate() {
            self.condition(&format!("{path}.events.where[{at}]"), condition);
        }
    }

    fn condition(&mut self, path: &str, condition: &ConditionSpec) {
        self.field(&format!("{path}.field"), &condition.field);
        let tests = [
            condition.one_of.is_some(),
            condition.not_in.is_some(),
            condition.at_least.is_some(),
            condition.at_most.is_some(),
            condition.exists.is_some(),
        ];
        if tests.iter().filter(|test| **test).count() != 1 {
            self.add(path, "must have exactly one of `in`, `notIn`, `atLeast`, `atMost`, `exists`");
        }
        for (name, list) in [("in", &condition.one_of), ("notIn", &condition.not_in)] {
            if list.as_ref().is_some_and(Vec::is_empty) {
                self.add(format!("{path}.{name}"), "is empty: write at least one value");
            }
        }
    }

    pub(super) fn detector(&mut self, path: &str, detector: &DetectorSpec, metrics: &[&str]) {
        self.known(&format!("{path}.metric"), &detector.metric, metrics, "a metric of this pipeline");
        let algorithm = &detector.algorithm;
        let set = [
            algorithm.threshold.is_some(),
            algorithm.zscore.is_some(),
            algorithm.ewma.is_some(),
            algorithm.mad.is_some(),
            algorithm.poisson.is_some(),
        ];
        let path = format!("{path}.algorithm");
        if set.iter().filter(|set| **set).count() != 1 {
            return self.add(path, "must have exactly one of `threshold`, `zscore`, `ewma`, `mad`, `poisson`, e.g. `poisson: {}`");
        }
        if let Some(threshold) = &algorithm.threshold {
            match (threshold.above, threshold.below) {
                (None, None) => self.add(format!("{path}.threshold"), "must have `above`, `below` or both"),
                (Some(above), Some(below)) if below >= above => self.add(
                    format!("{path}.threshold"),
                    format!("`below` ({below}) must be less than `above` ({above})"),
                ),
                _ => {}
            }
            if detector.direction != Direction::Up {
                self.add(
                    format!("{path}.threshold"),
                    "takes its direction from `above` and `below`: remove `direction`",
                );
            }
        }
        let positive = |found: &mut Self, name: &str, value: f64| {
            if !(value.is_finite() && value > 0.0 && value <= 1_000.0) {
                found.add(
                    format!("{path}.{name}"),
                    format!("is {value}, must be more than 0 and at most 1000"),
                );
            }
        };
        let warm = |found: &mut Self, name: &str, warmup: u32, history: Option<u32>| {
            let most = history.unwrap_or(1_000);
            if warmup < 2 || warmup > most {
                let what = if history.is_some() { " (`history`)" } else { "" };
                found.add(
                    format!("{path}.{name}.warmup"),
                    format!("is {warmup}, must be from 2 to {most}{what}"),
                );
            }
        };
        if let Some(zscore) = &algorithm.zscore {
            positive(self, "zscore.sigmas", zscore.sigmas);
            warm(self, "zscore", zscore.warmup, Some(zscore.history));
        }
        if let Some(mad) = &algorithm.mad {
            positive(self, "mad.deviations", mad.deviations);
            warm(self, "mad", mad.warmup, Some(mad.history));
        }
        if let Some(ewma) = &algorithm.ewma {
            positive(self, "ewma.sigmas", ewma.sigmas);
            positive(self, "ewma.halfLife", ewma.half_life);
            warm(self, "ewma", ewma.warmup, None);
        }
        if let Some(poisson) = &algorithm.poisson {
            positive(self, "poisson.halfLife", poisson.half_life);
            warm(self, "poisson", poisson.warmup, None);
            if !(poisson.probability > 0.0 && poisson.probability <= 0.1) {
                self.add(
                    format!("{path}.poisson.probability"),
                    format!("is {}, must be more than 0 and at most 0.1, e.g. 1e-9", poisson.probability),
                );
            }
        }
    }
}

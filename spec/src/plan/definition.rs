//! What makes a metric the one it is: a short hash of everything that decides which events count, where, and for how much.
//!
//! A metric whose definition changes keeps its name and is counted anew: values and baselines of two definitions never mix,
//! because parts, windows and baselines carry the definition they belong to.

use std::time::Duration;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::{AggregatePlan, Condition, MetricPlan};
use crate::wire::{FieldPath, Fingerprint};

/// The parts of a metric on which its values depend.
#[derive(Serialize)]
struct Identity<'a> {
    types: Vec<&'a str>,
    conditions: &'a [Condition],
    key: &'a [FieldPath],
    aggregate: &'a AggregatePlan,
    window: Duration,
    /// Decides which keys are counted as one, not what a key's value means: none for baselines.
    max_keys: Option<u32>,
    /// Decides what is known beside a value, not the value: none for baselines.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    users: bool,
}

impl MetricPlan {
    /// What its values are: the same for two metrics exactly if the same events give them the same windows.
    #[must_use]
    pub fn definition(&self) -> Fingerprint {
        self.hash(Some(self.max_keys))
    }

    /// What its baselines are learnt from. Unlike [`MetricPlan::definition`] it does not depend on `maxKeys`, which changes
    /// no key's own values.
    #[must_use]
    pub fn baseline_definition(&self) -> Fingerprint {
        self.hash(None)
    }

    fn hash(&self, max_keys: Option<u32>) -> Fingerprint {
        let mut types: Vec<&str> = self.types.iter().map(String::as_str).collect();
        types.sort_unstable();
        types.dedup();
        let identity = Identity {
            types,
            conditions: &self.conditions,
            key: &self.key,
            aggregate: &self.aggregate,
            window: self.window,
            max_keys,
            users: max_keys.is_some() && self.users,
        };
        // Strings and numbers only: this cannot fail.
        let written = serde_json::to_vec(&identity).unwrap_or_default();
        Fingerprint::of_hash(xxh3_64(&written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Test;

    fn metric() -> MetricPlan {
        MetricPlan {
            name: "views".parse().unwrap(),
            types: vec!["view".into(), "look".into()],
            conditions: vec![],
            key: vec![FieldPath::ItemId],
            aggregate: AggregatePlan::Count,
            window: Duration::from_secs(2),
            emit: Duration::from_secs(1),
            early_parts: false,
            max_keys: 10,
            users: false,
        }
    }

    #[test]
    fn definition_changes_with_everything_that_decides_values() {
        let path = |written| FieldPath::parse(written).unwrap();
        let of = |change: fn(&mut MetricPlan)| {
            let mut changed = metric();
            change(&mut changed);
            changed.definition()
        };
        let changed = [
            of(|metric| metric.window = Duration::from_secs(5)),
            of(|metric| metric.types = vec!["view".into()]),
            of(|metric| metric.key.push(FieldPath::UserId)),
            of(|metric| metric.aggregate = AggregatePlan::Unique(FieldPath::UserId)),
            of(|metric| metric.max_keys = 11),
            of(|metric| metric.users = true),
            {
                let mut changed = metric();
                changed.conditions = vec![Condition { field: path("price"), test: Test::AtLeast(1.0) }];
                changed.definition()
            },
            {
                let mut changed = metric();
                changed.aggregate = AggregatePlan::Sum(path("price"));
                changed.definition()
            },
        ];
        for (at, one) in changed.iter().enumerate() {
            assert_ne!(*one, metric().definition(), "change {at}");
            assert!(!changed[..at].contains(one), "change {at} is like another");
        }
    }

    #[test]
    fn definition_ignores_what_does_not_decide_values() {
        let mut same = metric();
        same.name = "looks".parse().unwrap();
        same.types.reverse();
        same.emit = Duration::from_millis(500);
        same.early_parts = true;
        assert_eq!(same.definition(), metric().definition());
        assert_eq!(metric().definition().to_string().len(), 8);
    }

    #[test]
    fn baseline_definition_ignores_the_limit_of_keys() {
        let mut more = metric();
        more.max_keys = 11;
        assert_eq!(more.baseline_definition(), metric().baseline_definition());
        more.users = true;
        assert_eq!(more.baseline_definition(), metric().baseline_definition());
        more.window = Duration::from_secs(5);
        assert_ne!(more.baseline_definition(), metric().baseline_definition());
    }
}

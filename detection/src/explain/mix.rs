//! Events counted by the values of a few fields.

use std::collections::BTreeMap;

/// What stands for all values that are not counted by themselves.
pub const OTHER: &str = "(other)";

/// Values of a field that are counted by themselves; further ones count as [`OTHER`].
const MAX_VALUES: usize = 1_000;

/// Events counted by the values of a few fields.
#[derive(Clone, Debug)]
pub struct Mix {
    fields: Vec<BTreeMap<String, f64>>,
    events: f64,
}

impl Mix {
    /// Without events, for so many fields.
    #[must_use]
    pub fn new(fields: usize) -> Self {
        Self { fields: vec![BTreeMap::new(); fields], events: 0.0 }
    }

    /// Counts an event, whose value of each field is in `values`; an empty one where it has none.
    pub fn add(&mut self, values: &[&str]) {
        self.events += 1.0;
        for (counts, value) in self.fields.iter_mut().zip(values) {
            let is_counted = counts.len() < MAX_VALUES || counts.contains_key(*value);
            *counts.entry((if is_counted { *value } else { OTHER }).to_owned()).or_default() += 1.0;
        }
    }

    /// How many fields it counts by.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// How many events it counted.
    #[must_use]
    pub fn events(&self) -> f64 {
        self.events
    }

    /// The values of a field, with the number of events.
    pub fn values(&self, field: usize) -> impl Iterator<Item = (&str, f64)> {
        self.fields.get(field).into_iter().flatten().map(|(value, count)| (value.as_str(), *count))
    }

    /// Whether there were too many values of a field to count each: one that is not counted may be usual all the same.
    #[must_use]
    pub fn is_folded(&self, field: usize) -> bool {
        self.fields.get(field).is_some_and(|counts| counts.contains_key(OTHER))
    }

    /// The part of the events that have this value, from 0 to 1.
    #[must_use]
    pub fn share(&self, field: usize, value: &str) -> f64 {
        let count = self.fields.get(field).and_then(|counts| counts.get(value)).copied().unwrap_or_default();
        if self.events > 0.0 { count / self.events } else { 0.0 }
    }
}

//! What a stage can say of its readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// Named conditions; the stage is ready when none of them has a complaint. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<BTreeMap<&'static str, Option<String>>>>);

impl Health {
    /// `condition` holds.
    pub fn ok(&self, condition: &'static str) {
        self.set(condition, None);
    }

    /// `condition` does not hold: why, in words for a person.
    pub fn fail(&self, condition: &'static str, why: impl Into<String>) {
        self.set(condition, Some(why.into()));
    }

    fn set(&self, condition: &'static str, complaint: Option<String>) {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(condition, complaint);
    }

    /// All complaints, by condition; empty: ready.
    #[must_use]
    pub fn complaints(&self) -> BTreeMap<&'static str, String> {
        let conditions = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        conditions.iter().filter_map(|(name, complaint)| complaint.clone().map(|why| (*name, why))).collect()
    }
}

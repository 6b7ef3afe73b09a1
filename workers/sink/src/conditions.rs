//! Names of readiness conditions: one for each part of each sink.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// `sink.NAME.PART` for the life of the process: as many as there are sinks in the plan, however often they start again.
pub(crate) fn condition(sink: &str, part: &str) -> &'static str {
    let name = format!("sink.{sink}.{part}");
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = Box::leak(name.into_boxed_str());
    names.insert(name);
    name
}

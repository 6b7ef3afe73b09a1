//! Consumer groups that outlive what read as them: those of sinks that the spec no longer has, and of pipelines that go. Kafka deletes
//! a group only when its last member has left, so it is tried until then.

use std::collections::{BTreeSet, HashMap};

use herd_bus::BusError;
use herd_bus::kafka::KafkaBus;
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::{Plan, sink_group};
use parking_lot::Mutex;
use tracing::{info, warn};

/// How the name of a sink's stage begins.
const SINK: &str = "sink-";

/// Groups that are still to be deleted, by the uid of their pipeline: as many as sinks were removed, gone with the pipeline.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<String, BTreeSet<String>>>);

impl Groups {
    /// These are to be deleted.
    pub fn add(&self, uid: &str, names: BTreeSet<String>) {
        if !names.is_empty() {
            self.0.lock().entry(uid.to_owned()).or_default().extend(names);
        }
    }

    /// These are used again.
    pub fn spare(&self, uid: &str, used: &BTreeSet<String>) {
        if let Some(names) = self.0.lock().get_mut(uid) {
            names.retain(|name| !used.contains(name));
        }
    }

    /// Those of a pipeline that are still to be deleted.
    #[must_use]
    pub fn of(&self, uid: &str) -> BTreeSet<String> {
        self.0.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Tries to delete those of a pipeline. False: some are left for another time.
    pub async fn delete(&self, uid: &str, bus: KafkaBus) -> bool {
        let names = self.of(uid);
        if names.is_empty() {
            return true;
        }
        let asked = names.clone();
        let left = match tokio::task::spawn_blocking(move || delete(&bus, &asked)).await {
            Ok(Ok(left)) => left,
            Ok(Err(error)) => {
                warn!(%error, groups = ?names, "consumer groups cannot be deleted yet");
                return false;
            }
            Err(error) => {
                warn!(%error, "deleting consumer groups was broken off");
                return false;
            }
        };
        let deleted: Vec<&String> = names.difference(&left).collect();
        if !deleted.is_empty() {
            info!(groups = ?deleted, "consumer groups deleted");
        }
        let done = left.is_empty();
        let mut all = self.0.lock();
        if done {
            all.remove(uid);
        } else {
            all.insert(uid.to_owned(), left);
        }
        done
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Deletes groups; those that still have members are left.
///
/// # Errors
/// If Kafka does not answer or refuses.
pub fn delete(bus: &KafkaBus, names: &BTreeSet<String>) -> Result<BTreeSet<String>, BusError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(bus.delete_groups(&names)?.into_iter().collect())
}

/// All groups of a plan.
#[must_use]
pub fn of_plan(plan: &Plan) -> BTreeSet<String> {
    let sinks = plan.sinks.iter().map(|sink| sink.group.clone());
    [plan.groups.fold.clone(), plan.groups.judge.clone()].into_iter().chain(sinks).collect()
}

/// The groups of sinks that the status of a pipeline still names and its plan no longer has.
#[must_use]
pub fn of_removed_sinks(pipeline: &HerdPipeline, plan: &Plan) -> BTreeSet<String> {
    let stages = pipeline.status.iter().flat_map(|before| &before.stages);
    let names = stages.filter_map(|stage| stage.name.strip_prefix(SINK));
    let gone = names.filter(|name| plan.sinks.iter().all(|sink| sink.name != *name));
    gone.map(|name| sink_group(pipeline.topic_prefix(), name)).collect()
}

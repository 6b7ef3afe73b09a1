//! Deletes unused consumer groups: those of sinks that were removed from the spec, and of deleted pipelines. Kafka deletes a group only
//! after its last member has left, so deletion is retried until then.

use std::collections::{BTreeSet, HashMap};

use herd_bus::BusError;
use herd_bus::kafka::KafkaBus;
use herd_spec::pipeline::HerdPipeline;
use herd_spec::plan::{Plan, sink_group};
use parking_lot::Mutex;
use tracing::{info, warn};

/// The prefix of the name of a sink's stage.
const SINK: &str = "sink-";

/// Groups that remain to be deleted, by the uid of their pipeline: at most one for each removed sink, dropped with the pipeline.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<String, BTreeSet<String>>>);

impl Groups {
    /// Adds groups to delete.
    pub fn add(&self, uid: &str, names: BTreeSet<String>) {
        if !names.is_empty() {
            self.0.lock().entry(uid.to_owned()).or_default().extend(names);
        }
    }

    /// Keeps groups that are used again.
    pub fn keep(&self, uid: &str, used: &BTreeSet<String>) {
        if let Some(names) = self.0.lock().get_mut(uid) {
            names.retain(|name| !used.contains(name));
        }
    }

    /// The groups of a pipeline that remain to be deleted.
    #[must_use]
    pub fn of(&self, uid: &str) -> BTreeSet<String> {
        self.0.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Tries to delete the groups of a pipeline. False: some remain for the next attempt.
    pub async fn delete(&self, uid: &str, bus: KafkaBus) -> bool {
        let names = self.of(uid);
        if names.is_empty() {
            return true;
        }
        let requested = names.clone();
        let remaining = match tokio::task::spawn_blocking(move || delete(&bus, &requested)).await {
            Ok(Ok(remaining)) => remaining,
            Ok(Err(error)) => {
                warn!(%error, groups = ?names, "deleting consumer groups failed, retrying");
                return false;
            }
            Err(error) => {
                warn!(%error, "deleting consumer groups was aborted");
                return false;
            }
        };
        let deleted: Vec<&String> = names.difference(&remaining).collect();
        if !deleted.is_empty() {
            info!(groups = ?deleted, "consumer groups deleted");
        }
        let done = remaining.is_empty();
        let mut all = self.0.lock();
        if done {
            all.remove(uid);
        } else {
            all.insert(uid.to_owned(), remaining);
        }
        done
    }

    /// Forgets a pipeline.
    pub fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

/// Deletes groups. Returns those that still have members.
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
    let detector = [&plan.groups.fold, &plan.groups.judge, &plan.groups.explain].map(String::clone);
    detector.into_iter().chain(sinks).collect()
}

/// The groups of sinks that are in the status of a pipeline, but no longer in its plan.
#[must_use]
pub fn of_removed_sinks(pipeline: &HerdPipeline, plan: &Plan) -> BTreeSet<String> {
    let stages = pipeline.status.iter().flat_map(|before| &before.stages);
    let names = stages.filter_map(|stage| stage.name.strip_prefix(SINK));
    let gone = names.filter(|name| plan.sinks.iter().all(|sink| sink.name != *name));
    gone.map(|name| sink_group(pipeline.topic_prefix(), name)).collect()
}

//! Health of a stage. Ready means that it can answer requests. An unavailable dependency is reported as a trouble, but does not make
//! the stage unready: it can still answer from memory, or with `Retry-After`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use herd_spec::health::{Complaint, HealthReport, Trouble};
use herd_spec::units::WallTime;

use crate::{Clock, SystemClock};

/// State of each step of a stage, by name. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    draining: bool,
    steps: BTreeMap<&'static str, Step>,
}

#[derive(Debug)]
enum Step {
    Healthy,
    Starting(String),
    Failed { reason: Trouble, message: String, since: WallTime },
}

impl Health {
    /// Reports `step` as healthy.
    pub fn ok(&self, step: &'static str) {
        self.write().steps.insert(step, Step::Healthy);
    }

    /// Reports `step` as starting, and what it waits for. The stage is not ready until the step is healthy or has failed.
    pub fn starting(&self, step: &'static str, waits: impl Into<String>) {
        self.write().steps.insert(step, Step::Starting(waits.into()));
    }

    /// Reports `step` as failed, with the kind of trouble and a message. The stage remains ready.
    pub fn fail(&self, step: &'static str, reason: Trouble, message: impl Into<String>) {
        self.fail_at(step, reason, message.into(), SystemClock.now());
    }

    fn fail_at(&self, step: &'static str, reason: Trouble, message: String, now: WallTime) {
        let mut state = self.write();
        let since = match state.steps.get(step) {
            Some(Step::Failed { reason: before, since, .. }) if *before == reason => *since,
            _ => now,
        };
        state.steps.insert(step, Step::Failed { reason, message, since });
    }

    /// Reports that the stage is draining, so that routers choose another replica.
    pub fn drain(&self) {
        self.write().draining = true;
    }

    /// The report of all steps.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut report = HealthReport { draining: state.draining, ..HealthReport::default() };
        for (name, step) in &state.steps {
            match step {
                Step::Healthy => {}
                Step::Starting(waits) => {
                    report.starting.insert((*name).to_owned(), waits.clone());
                }
                Step::Failed { reason, message, since } => report.troubles.push(Complaint {
                    step: (*name).to_owned(),
                    reason: *reason,
                    message: message.clone(),
                    since: *since,
                }),
            }
        }
        report.ready = !report.draining && report.starting.is_empty();
        report
    }

    /// Messages of all steps that are starting or failed, by step.
    #[must_use]
    pub fn complaints(&self) -> BTreeMap<String, String> {
        let report = self.report();
        let troubles = report.troubles.into_iter().map(|complaint| (complaint.step, complaint.message));
        report.starting.into_iter().chain(troubles).collect()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_stage_is_ready_and_reports_the_trouble() {
        let health = Health::default();
        health.fail("broker", Trouble::KafkaUnreachable, "no answer");
        let report = health.report();
        assert!(report.ready);
        assert_eq!(report.troubles[0].reason, Trouble::KafkaUnreachable);
        health.ok("broker");
        assert!(health.report().troubles.is_empty());
    }

    #[test]
    fn a_starting_stage_is_not_ready_until_it_is_healthy_or_failed() {
        let health = Health::default();
        health.starting("windows", "reading");
        assert!(!health.report().ready);
        health.fail("windows", Trouble::KafkaUnreachable, "no answer");
        assert!(health.report().ready);
    }

    #[test]
    fn a_draining_stage_is_not_ready() {
        let health = Health::default();
        health.drain();
        assert!(!health.report().ready);
    }

    #[test]
    fn a_trouble_keeps_the_start_time_of_its_kind() {
        let health = Health::default();
        health.fail_at("broker", Trouble::KafkaUnreachable, "a".into(), WallTime(1));
        health.fail_at("broker", Trouble::KafkaUnreachable, "b".into(), WallTime(2));
        let since = || health.report().troubles[0].since;
        assert_eq!((since(), health.report().troubles[0].message.as_str()), (WallTime(1), "b"));
        health.fail_at("broker", Trouble::TopicMissing, "c".into(), WallTime(3));
        assert_eq!(since(), WallTime(3));
    }
}

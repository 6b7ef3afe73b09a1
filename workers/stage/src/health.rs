//! What a stage can say of its health. Readiness means "can answer": a dependency that is down is a trouble, which is said, and does
//! not take a stage out of its Service, where it still answers with what it has, or with when to come again.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use herd_spec::health::{Complaint, HealthReport, Trouble};
use herd_spec::units::WallTime;

use crate::{Clock, SystemClock};

/// Steps of a stage by name, and how each is. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<RwLock<State>>);

#[derive(Debug, Default)]
struct State {
    draining: bool,
    steps: BTreeMap<&'static str, Step>,
}

#[derive(Debug)]
enum Step {
    Well,
    Starting(String),
    Unwell { reason: Trouble, message: String, since: WallTime },
}

impl Health {
    /// `step` is well.
    pub fn ok(&self, step: &'static str) {
        self.write().steps.insert(step, Step::Well);
    }

    /// `step` has not begun yet; `waits` says what for. Until it has, or is known to be in trouble, the stage is not ready.
    pub fn starting(&self, step: &'static str, waits: impl Into<String>) {
        self.write().steps.insert(step, Step::Starting(waits.into()));
    }

    /// `step` is unwell: what kind of trouble, and what was tried, on what, with which answer. The stage stays ready.
    pub fn fail(&self, step: &'static str, reason: Trouble, message: impl Into<String>) {
        self.fail_at(step, reason, message.into(), SystemClock.now());
    }

    fn fail_at(&self, step: &'static str, reason: Trouble, message: String, now: WallTime) {
        let mut state = self.write();
        let since = match state.steps.get(step) {
            Some(Step::Unwell { reason: before, since, .. }) if *before == reason => *since,
            _ => now,
        };
        state.steps.insert(step, Step::Unwell { reason, message, since });
    }

    /// The stage was told to stop: whoever chooses where to send requests is to choose another one.
    pub fn drain(&self) {
        self.write().draining = true;
    }

    /// All of it.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut report = HealthReport { draining: state.draining, ..HealthReport::default() };
        for (name, step) in &state.steps {
            match step {
                Step::Well => {}
                Step::Starting(waits) => {
                    report.starting.insert((*name).to_owned(), waits.clone());
                }
                Step::Unwell { reason, message, since } => report.troubles.push(Complaint {
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

    /// What is not as it should be, in words, by step; empty: the stage has begun and is well.
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
    fn a_failing_stage_is_ready_and_reports_the_failure() {
        let health = Health::default();
        health.fail("broker", Trouble::KafkaUnreachable, "no answer");
        let report = health.report();
        assert!(report.ready);
        assert_eq!(report.troubles[0].reason, Trouble::KafkaUnreachable);
        health.ok("broker");
        assert!(health.report().troubles.is_empty());
    }

    #[test]
    fn a_stage_that_starts_is_not_ready_until_it_has_begun_or_knows_why_not() {
        let health = Health::default();
        health.starting("windows", "reading");
        assert!(!health.report().ready);
        health.fail("windows", Trouble::KafkaUnreachable, "no answer");
        assert!(health.report().ready);
    }

    #[test]
    fn a_stage_that_drains_is_not_ready() {
        let health = Health::default();
        health.drain();
        assert!(!health.report().ready);
    }

    #[test]
    fn keeps_the_time_since_which_the_same_failure_lasts() {
        let health = Health::default();
        health.fail_at("broker", Trouble::KafkaUnreachable, "a".into(), WallTime(1));
        health.fail_at("broker", Trouble::KafkaUnreachable, "b".into(), WallTime(2));
        let since = || health.report().troubles[0].since;
        assert_eq!((since(), health.report().troubles[0].message.as_str()), (WallTime(1), "b"));
        health.fail_at("broker", Trouble::TopicMissing, "c".into(), WallTime(3));
        assert_eq!(since(), WallTime(3));
    }
}

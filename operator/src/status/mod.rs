//! The status of a pipeline, from the observation after a reconcile, or its error, and the status before. Pure.

#[cfg(test)]
mod tests;

use std::time::Duration;

use herd_spec::pipeline::{HerdPipelineStatus, StageStatus, StatusCondition};

use crate::applied::{Observed, PipelineObservation};
use crate::error::{Error, Retry};
use crate::field_conflicts::FieldConflict;
use crate::observe::{ObservedStage, StageState};
use crate::reason::{ConditionType, Reason};
use crate::scaling::{PipelineReport, ScalingCondition};
use crate::stage::StageId;
use crate::topics::TopicsState;

/// How long `lastObserved` is kept while nothing else changes: a little less than the requeue interval of a pipeline that is Ready, so
/// that each of its reconciles refreshes it.
const HEARTBEAT: Duration = Duration::from_secs(9 * 60);

/// A condition without its times.
struct Condition {
    kind: ConditionType,
    status: bool,
    reason: Reason,
    message: String,
}

fn condition(kind: ConditionType, status: bool, reason: Reason, message: impl Into<String>) -> Condition {
    Condition { kind, status, reason, message: message.into() }
}

/// The status after a reconcile that succeeded.
#[must_use]
pub fn of_observed(
    before: Option<&HerdPipelineStatus>,
    generation: Option<i64>,
    observed: &Observed,
    now: &str,
) -> HerdPipelineStatus {
    let observation = observed.observation();
    let PipelineObservation { stages, topics, report, paused, .. } = observation;
    let of =
        |kind: fn(&StageId) -> bool| stages.iter().filter(move |stage| kind(&stage.id)).collect::<Vec<_>>();
    let detectors = of(|id| *id == StageId::Detector);
    let sinks = of(|id| matches!(id, StageId::Sink(_)));
    let collectors = of(|id| *id == StageId::Collector);
    let apis = of(|id| *id == StageId::Api);
    let mut all = overall_conditions(observation);
    all.push(topics_condition(topics));
    all.push(stages_condition(ConditionType::CollectorReady, &collectors, *paused));
    all.push(stages_condition(ConditionType::DetectorReady, &detectors, *paused));
    all.push(stages_condition(ConditionType::SinksReady, &sinks, *paused));
    all.push(stages_condition(ConditionType::ApiReady, &apis, *paused));
    let ScalingCondition { active, reason, message } = &observation.scaling;
    all.push(condition(ConditionType::ScalingActive, *active, *reason, message));
    all.extend(conflicts_condition(&observation.field_conflicts));
    // Unknown numbers are omitted: one from before an outage would look current.
    let (events_per_second, lag, alerts) = report
        .as_ref()
        .map_or((None, None, None), |report| (report.events_per_second, report.lag(), report.alerts));
    let after = HerdPipelineStatus {
        last_observed: None,
        observed_generation: generation,
        conditions: with_times(before, generation, all, now),
        stages: stages.iter().map(|stage| stage_status(stage, report.as_ref(), before)).collect(),
        events_per_second,
        lag,
        alerts,
        topics: match topics {
            TopicsState::Ready { topics, .. } => topics.clone(),
            TopicsState::NotReady { .. } => before.map(|before| before.topics.clone()).unwrap_or_default(),
        },
        urls: Some(observation.urls.clone()),
        detectors: Some(ready_of_desired(&detectors)),
        sinks: Some(ready_of_desired(&sinks)),
    };
    with_last_observed(before, after, now)
}

/// Sets `lastObserved`. A status without other changes keeps the time of the one before for a while, so that an unchanged status is not
/// written at every reconcile, and yet an outdated one is recognised.
fn with_last_observed(
    before: Option<&HerdPipelineStatus>,
    mut after: HerdPipelineStatus,
    now: &str,
) -> HerdPipelineStatus {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    if let Some(before) = before
        && let Some((then, now)) = before.last_observed.as_deref().and_then(time).zip(time(now))
        && now.duration_since(then).unsigned_abs() < HEARTBEAT
    {
        after.last_observed.clone_from(&before.last_observed);
        if after == *before {
            return after;
        }
    }
    after.last_observed = Some(now.to_owned());
    after
}

/// The status of a stage with the numbers of the last poll; before the first poll, with the last scaling decision and without numbers.
fn stage_status(
    stage: &ObservedStage,
    report: Option<&PipelineReport>,
    before: Option<&HerdPipelineStatus>,
) -> StageStatus {
    let before = before.and_then(|before| before.stages.iter().find(|other| other.name == stage.status.name));
    let StageStatus { name, desired, ready, .. } = stage.status.clone();
    let kept = before.cloned().unwrap_or_default();
    let mut status =
        StageStatus { name, desired, ready, lag: None, lag_seconds: None, input_rate: None, ..kept };
    if let Some(report) = report.and_then(|report| report.stages.get(&stage.id)) {
        report.write(&mut status);
    }
    status
}

/// The status after a reconcile that failed: the status before, with the conditions that report the error.
#[must_use]
pub fn of_error(
    before: Option<&HerdPipelineStatus>,
    generation: Option<i64>,
    error: &Error,
    now: &str,
) -> HerdPipelineStatus {
    let stalled = error.retry() == Retry::Never;
    let message = error.to_string();
    let failed = vec![
        condition(ConditionType::Ready, false, error.reason(), &*message),
        condition(ConditionType::Reconciling, !stalled, error.reason(), &*message),
        condition(ConditionType::Stalled, stalled, error.reason(), &*message),
        condition(ConditionType::ScalingActive, false, error.reason(), &*message),
    ];
    let mut status = before.cloned().unwrap_or_default();
    let replaced: Vec<&str> = failed.iter().map(|condition| condition.kind.name()).collect();
    let kept: Vec<_> =
        status.conditions.iter().filter(|condition| !replaced.contains(&&*condition.kind)).cloned().collect();
    status.observed_generation = generation;
    status.conditions = with_times(before, generation, failed, now);
    status.conditions.extend(kept);
    with_last_observed(before, status, now)
}

/// `Ready`, `Reconciling` and `Stalled`, as kstatus defines them.
fn overall_conditions(observation: &PipelineObservation) -> Vec<Condition> {
    let all = |ready, reconciling, stalled, reason, message: &str| {
        vec![
            condition(ConditionType::Ready, ready, reason, message),
            condition(ConditionType::Reconciling, reconciling, reason, message),
            condition(ConditionType::Stalled, stalled, reason, message),
        ]
    };
    if observation.is_ready() {
        return if observation.paused {
            let message = "detectors and sinks are stopped; collectors accept events";
            all(true, false, false, Reason::Paused, message)
        } else {
            all(true, false, false, Reason::AllReady, "all stages are ready")
        };
    }
    if let TopicsState::NotReady { reason, message, retry } = &observation.topics {
        return all(false, *retry, !retry, *reason, message);
    }
    let Some((reason, message)) = failing(&observation.stages).or_else(|| rolling(&observation.stages))
    else {
        return Vec::new();
    };
    all(false, true, false, reason, &message)
}

/// The failure of the first stage that fails, with the names of the others that do.
fn failing<'s>(stages: impl IntoIterator<Item = &'s ObservedStage>) -> Option<(Reason, String)> {
    let mut failing = stages.into_iter().filter_map(|stage| match &stage.state {
        StageState::Failing(failure) => Some((stage.id.to_string(), failure)),
        _ => None,
    });
    let (first, failure) = failing.next()?;
    let others: Vec<String> = failing.map(|(id, _)| id).collect();
    let others =
        if others.is_empty() { String::new() } else { format!(" (also failing: {})", others.join(", ")) };
    Some((failure.reason, format!("{first}: {}{others}", failure.message)))
}

fn rolling<'s>(stages: impl IntoIterator<Item = &'s ObservedStage>) -> Option<(Reason, String)> {
    stages.into_iter().find_map(|stage| match &stage.state {
        StageState::Rolling(message) => Some((Reason::Rolling, format!("{}: {message}", stage.id))),
        _ => None,
    })
}

/// The fields that other field managers set; none while no one does.
fn conflicts_condition(conflicts: &[FieldConflict]) -> Option<Condition> {
    if conflicts.is_empty() {
        return None;
    }
    let all: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    Some(condition(ConditionType::FieldsContested, true, Reason::FieldsContested, all.join("; ")))
}

fn topics_condition(topics: &TopicsState) -> Condition {
    let kind = ConditionType::TopicsReady;
    match topics {
        TopicsState::Ready { topics, notes } if notes.is_empty() => {
            let message = match topics.len() {
                1 => "1 topic matches the spec".into(),
                count => format!("{count} topics match the spec"),
            };
            condition(kind, true, Reason::MatchesSpec, message)
        }
        TopicsState::Ready { notes, .. } => condition(kind, true, Reason::Differ, notes.join("; ")),
        TopicsState::NotReady { reason, message, .. } => condition(kind, false, *reason, message),
    }
}

fn stages_condition(kind: ConditionType, stages: &[&ObservedStage], paused: bool) -> Condition {
    // The other failing sinks are named by `Ready`.
    let first_failing = || stages.iter().find_map(|stage| failing([*stage]));
    if let Some((reason, message)) = first_failing().or_else(|| rolling(stages.iter().copied())) {
        return condition(kind, false, reason, message);
    }
    let Some(first) = stages.first() else {
        return condition(kind, true, Reason::None, "the spec has no such stage");
    };
    if paused && first.id.pauses() {
        return condition(kind, true, Reason::Paused, "stopped until `paused` is false");
    }
    if stages.iter().all(|stage| stage.state == StageState::Stopped) {
        return condition(kind, true, Reason::NoReplicas, "scaled to 0 replicas");
    }
    let scaling = stages.iter().find_map(|stage| match &stage.state {
        StageState::Scaling(message) => Some(format!("{}: {message}", stage.id)),
        _ => None,
    });
    if let Some(message) = scaling {
        return condition(kind, true, Reason::Scaling, message);
    }
    condition(kind, true, Reason::Ready, format!("{} replicas are ready", ready_of_desired(stages)))
}

fn ready_of_desired(stages: &[&ObservedStage]) -> String {
    let sum = |of: fn(&ObservedStage) -> u32| stages.iter().map(|stage| of(stage)).sum::<u32>();
    format!("{}/{}", sum(|stage| stage.status.ready), sum(|stage| stage.status.desired))
}

/// With transition times: that of the condition before, if its status is the same.
fn with_times(
    before: Option<&HerdPipelineStatus>,
    generation: Option<i64>,
    conditions: Vec<Condition>,
    now: &str,
) -> Vec<StatusCondition> {
    let since = |kind: &str, status: &str| {
        let same = before?.conditions.iter().find(|condition| condition.kind == kind)?;
        (same.status == status).then(|| same.last_transition_time.clone())
    };
    conditions
        .into_iter()
        .map(|Condition { kind, status, reason, message }| {
            let (kind, status) = (kind.name(), if status { "True" } else { "False" });
            StatusCondition {
                last_transition_time: since(kind, status).unwrap_or_else(|| now.to_owned()),
                kind: kind.into(),
                status: status.into(),
                reason: reason.name().to_owned(),
                message,
                observed_generation: generation,
            }
        })
        .collect()
}

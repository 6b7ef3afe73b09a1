//! What the status of a pipeline says. Pure: from what was seen, or the error, and the status before, to the new one.

use herd_spec::pipeline::{HerdPipelineStatus, StageStatus, StatusCondition, UrlsStatus};

use crate::error::{Error, Hope};
use crate::observe::{StageSeen, State};
use crate::scaling::{PipelineReport, ScalingWord};
use crate::stage::Role;
use crate::topics;

/// All that a reconcile saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The stages.
    pub stages: Vec<StageSeen>,
    /// The topics.
    pub topics: topics::Seen,
    /// What is said about scaling.
    pub scaling: ScalingWord,
    /// What was seen of events and lag; none: nothing yet.
    pub report: Option<PipelineReport>,
    /// Whether the pipeline is paused.
    pub paused: bool,
    /// Where it is reached.
    pub urls: UrlsStatus,
}

impl Seen {
    /// Whether everything is as it is to be.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let stages_are = self.stages.iter().all(|stage| matches!(stage.state, State::Ready | State::Stopped));
        stages_are && matches!(self.topics, topics::Seen::Ready { .. })
    }
}

/// A condition without its times.
struct Word {
    kind: &'static str,
    status: &'static str,
    reason: String,
    message: String,
}

fn word(kind: &'static str, status: bool, reason: impl Into<String>, message: impl Into<String>) -> Word {
    let status = if status { "True" } else { "False" };
    Word { kind, status, reason: reason.into(), message: message.into() }
}

/// The status after a reconcile that came through.
#[must_use]
pub fn of_seen(
    before: Option<&HerdPipelineStatus>,
    generation: Option<i64>,
    seen: &Seen,
    now: &str,
) -> HerdPipelineStatus {
    let of = |wanted: fn(&Role) -> bool| {
        seen.stages.iter().filter(move |stage| wanted(&stage.role)).collect::<Vec<_>>()
    };
    let detectors = of(|role| *role == Role::Detector);
    let sinks = of(|role| matches!(role, Role::Sink(_)));
    let mut words = overall(seen);
    words.push(about_topics(&seen.topics));
    words.push(about("CollectorReady", &of(|role| *role == Role::Collector), seen.paused));
    words.push(about("DetectorReady", &detectors, seen.paused));
    words.push(about("SinksReady", &sinks, seen.paused));
    words.push(about("ApiReady", &of(|role| *role == Role::Api), seen.paused));
    // Of a new leader, what the one before saw, until it has looked itself.
    let (events_per_second, lag, alerts) = match (&seen.report, before) {
        (Some(report), _) => (report.events_per_second, report.lag(), report.alerts),
        (None, Some(before)) => (before.events_per_second, before.lag, before.alerts),
        (None, None) => (None, None, None),
    };
    let ScalingWord { active, reason, message } = &seen.scaling;
    words.push(word("ScalingActive", *active, *reason, message));
    HerdPipelineStatus {
        observed_generation: generation,
        conditions: conditions(before, generation, words, now),
        stages: seen.stages.iter().map(|stage| reported(stage, seen.report.as_ref(), before)).collect(),
        events_per_second,
        lag,
        alerts,
        topics: match &seen.topics {
            topics::Seen::Ready { topics, .. } => topics.clone(),
            topics::Seen::NotReady { .. } => before.map(|before| before.topics.clone()).unwrap_or_default(),
        },
        urls: Some(seen.urls.clone()),
        detectors: Some(share(&detectors)),
        sinks: Some(share(&sinks)),
    }
}

/// A stage with what was seen of its lag; before that, with what was said last.
fn reported(
    stage: &StageSeen,
    report: Option<&PipelineReport>,
    before: Option<&HerdPipelineStatus>,
) -> StageStatus {
    let before = before.and_then(|before| before.stages.iter().find(|other| other.name == stage.status.name));
    let StageStatus { name, desired, ready, .. } = stage.status.clone();
    let mut status = StageStatus { name, desired, ready, ..before.cloned().unwrap_or_default() };
    if let Some(report) = report.and_then(|report| report.stages.get(&stage.role)) {
        report.write(&mut status);
    }
    status
}

/// The status after a reconcile that did not: what was seen before stays, but for the conditions that tell of the error.
#[must_use]
pub fn of_error(
    before: Option<&HerdPipelineStatus>,
    generation: Option<i64>,
    error: &Error,
    now: &str,
) -> HerdPipelineStatus {
    let stalled = error.hope() == Hope::None;
    let message = error.to_string();
    let words = vec![
        word("Ready", false, error.reason(), &*message),
        word("Reconciling", !stalled, error.reason(), &*message),
        word("Stalled", stalled, error.reason(), &*message),
        word("ScalingActive", false, error.reason(), &*message),
    ];
    let mut status = before.cloned().unwrap_or_default();
    let told: Vec<&str> = words.iter().map(|word| word.kind).collect();
    let kept: Vec<_> =
        status.conditions.iter().filter(|condition| !told.contains(&&*condition.kind)).cloned().collect();
    status.observed_generation = generation;
    status.conditions = conditions(before, generation, words, now);
    status.conditions.extend(kept);
    status
}

/// `Ready`, `Reconciling`, `Stalled`, as kstatus has them.
fn overall(seen: &Seen) -> Vec<Word> {
    if seen.is_ready() {
        let (reason, message) = if seen.paused {
            ("Paused", "detectors and sinks stand still; collectors accept events")
        } else {
            ("AllReady", "all stages are ready")
        };
        return vec![
            word("Ready", true, reason, message),
            word("Reconciling", false, reason, message),
            word("Stalled", false, reason, message),
        ];
    }
    if let topics::Seen::NotReady { reason, message, retry } = &seen.topics {
        return vec![
            word("Ready", false, *reason, message),
            word("Reconciling", *retry, *reason, message),
            word("Stalled", !retry, *reason, message),
        ];
    }
    let failing = seen.stages.iter().find_map(|stage| match &stage.state {
        State::Failing(why) => Some(("StageFailing", &stage.role, why)),
        _ => None,
    });
    let rolling = seen.stages.iter().find_map(|stage| match &stage.state {
        State::Rolling(why) => Some(("Rolling", &stage.role, why)),
        _ => None,
    });
    let Some((reason, role, why)) = failing.or(rolling) else { return Vec::new() };
    let message = format!("{role}: {why}");
    vec![
        word("Ready", false, reason, &*message),
        word("Reconciling", true, reason, &*message),
        word("Stalled", false, reason, &*message),
    ]
}

fn about_topics(seen: &topics::Seen) -> Word {
    match seen {
        topics::Seen::Ready { topics, notes } if notes.is_empty() => {
            word("TopicsReady", true, "AsAsked", format!("{} topics are as asked for", topics.len()))
        }
        topics::Seen::Ready { notes, .. } => word("TopicsReady", true, "Differ", notes.join("; ")),
        topics::Seen::NotReady { reason, message, .. } => word("TopicsReady", false, *reason, message),
    }
}

fn about(kind: &'static str, stages: &[&StageSeen], paused: bool) -> Word {
    let troubled = stages.iter().find_map(|stage| match &stage.state {
        State::Failing(why) => Some(("Failing", stage, why)),
        State::Rolling(why) => Some(("Rolling", stage, why)),
        State::Ready | State::Stopped => None,
    });
    if let Some((reason, stage, why)) = troubled {
        return word(kind, false, reason, format!("{}: {why}", stage.role));
    }
    let Some(first) = stages.first() else {
        return word(kind, true, "None", "the spec has none");
    };
    if paused && first.role.pauses() {
        return word(kind, true, "Paused", "stands still until `paused` is false");
    }
    if stages.iter().all(|stage| stage.state == State::Stopped) {
        return word(kind, true, "NoReplicas", "no replicas are asked for");
    }
    word(kind, true, "Ready", format!("{} replicas are ready", share(stages)))
}

fn share(stages: &[&StageSeen]) -> String {
    let sum = |of: fn(&StageSeen) -> u32| stages.iter().map(|stage| of(stage)).sum::<u32>();
    format!("{}/{}", sum(|stage| stage.status.ready), sum(|stage| stage.status.desired))
}

/// With times: that of the last turn, where there was none since.
fn conditions(
    before: Option<&HerdPipelineStatus>,
    generation: Option<i64>,
    words: Vec<Word>,
    now: &str,
) -> Vec<StatusCondition> {
    let since = |word: &Word| {
        let same = before?.conditions.iter().find(|condition| condition.kind == word.kind)?;
        (same.status == word.status).then(|| same.last_transition_time.clone())
    };
    words
        .into_iter()
        .map(|word| StatusCondition {
            last_transition_time: since(&word).unwrap_or_else(|| now.to_owned()),
            kind: word.kind.into(),
            status: word.status.into(),
            reason: word.reason,
            message: word.message,
            observed_generation: generation,
        })
        .collect()
}

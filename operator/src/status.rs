//! What the status of a pipeline says. Pure: from what was seen, or the error, and the status before, to the new one.

use std::time::Duration;

use herd_spec::pipeline::{HerdPipelineStatus, StageStatus, StatusCondition, UrlsStatus};

use crate::contest::Contest;
use crate::error::{Error, Hope};
use crate::observe::{StageSeen, State};
use crate::reason::Reason;
use crate::scaling::{PipelineReport, ScalingWord};
use crate::stage::Role;
use crate::topics;

/// How long a status counts as one of now, if nothing new is seen: a little less than the time between two looks at a steady
/// pipeline, so that each of them refreshes it.
const HEARTBEAT: Duration = Duration::from_secs(9 * 60);

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
    /// Who else set fields of its objects lately.
    pub contests: Vec<Contest>,
    /// Whether no consumer group is left that is to be deleted.
    pub groups_done: bool,
    /// Whether the pipeline is paused.
    pub paused: bool,
    /// Where it is reached.
    pub urls: UrlsStatus,
}

impl Seen {
    /// Whether everything is as it is to be.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let stages_are = self.stages.iter().all(|stage| stage.state.is_ready());
        stages_are && matches!(self.topics, topics::Seen::Ready { .. })
    }
}

/// A condition without its times.
struct Word {
    kind: &'static str,
    status: &'static str,
    reason: Reason,
    message: String,
}

fn word(kind: &'static str, status: bool, reason: Reason, message: impl Into<String>) -> Word {
    let status = if status { "True" } else { "False" };
    Word { kind, status, reason, message: message.into() }
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
    // What is not known now is left out: a number of before an outage would look like one of now.
    let (events_per_second, lag, alerts) = seen
        .report
        .as_ref()
        .map_or((None, None, None), |report| (report.events_per_second, report.lag(), report.alerts));
    let ScalingWord { active, reason, message } = &seen.scaling;
    words.push(word("ScalingActive", *active, *reason, message));
    words.extend(about_fields(&seen.contests));
    let after = HerdPipelineStatus {
        last_observed: None,
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
    };
    observed(before, after, now)
}

/// With the time at which it was seen. One that says nothing new keeps the time of the last that did, for a while: a steady
/// pipeline is not written to at every look, and yet nobody takes an old status for a new one.
fn observed(
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

/// A stage with what was seen of its lag; before that, with what was decided last and no numbers.
fn reported(
    stage: &StageSeen,
    report: Option<&PipelineReport>,
    before: Option<&HerdPipelineStatus>,
) -> StageStatus {
    let before = before.and_then(|before| before.stages.iter().find(|other| other.name == stage.status.name));
    let StageStatus { name, desired, ready, .. } = stage.status.clone();
    let kept = before.cloned().unwrap_or_default();
    let mut status =
        StageStatus { name, desired, ready, lag: None, lag_seconds: None, input_rate: None, ..kept };
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
    observed(before, status, now)
}

/// `Ready`, `Reconciling`, `Stalled`, as kstatus has them.
fn overall(seen: &Seen) -> Vec<Word> {
    if seen.is_ready() {
        let (reason, message) = if seen.paused {
            (Reason::Paused, "detectors and sinks stand still; collectors accept events")
        } else {
            (Reason::AllReady, "all stages are ready")
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
    let Some((reason, message)) = failing(&seen.stages).or_else(|| rolling(&seen.stages)) else {
        return Vec::new();
    };
    vec![
        word("Ready", false, reason, &*message),
        word("Reconciling", true, reason, &*message),
        word("Stalled", false, reason, &*message),
    ]
}

/// The first stage that fails, with the names of the others that do.
fn failing(stages: &[StageSeen]) -> Option<(Reason, String)> {
    let mut failing = stages.iter().filter_map(|stage| match &stage.state {
        State::Failing(trouble) => Some((stage.role.to_string(), trouble)),
        _ => None,
    });
    let (first, trouble) = failing.next()?;
    let others: Vec<String> = failing.map(|(role, _)| role).collect();
    let others =
        if others.is_empty() { String::new() } else { format!(" (failing too: {})", others.join(", ")) };
    Some((trouble.reason, format!("{first}: {}{others}", trouble.message)))
}

fn rolling(stages: &[StageSeen]) -> Option<(Reason, String)> {
    stages.iter().find_map(|stage| match &stage.state {
        State::Rolling(why) => Some((Reason::Rolling, format!("{}: {why}", stage.role))),
        _ => None,
    })
}

/// Who else sets fields of our objects; nothing while nobody does.
fn about_fields(contests: &[Contest]) -> Option<Word> {
    if contests.is_empty() {
        return None;
    }
    let all: Vec<String> = contests.iter().map(ToString::to_string).collect();
    Some(word("FieldsContested", true, Reason::FieldsContested, all.join("; ")))
}

fn about_topics(seen: &topics::Seen) -> Word {
    match seen {
        topics::Seen::Ready { topics, notes } if notes.is_empty() => {
            word("TopicsReady", true, Reason::AsAsked, format!("{} topics are as asked for", topics.len()))
        }
        topics::Seen::Ready { notes, .. } => word("TopicsReady", true, Reason::Differ, notes.join("; ")),
        topics::Seen::NotReady { reason, message, .. } => word("TopicsReady", false, *reason, message),
    }
}

fn about(kind: &'static str, stages: &[&StageSeen], paused: bool) -> Word {
    let failing = stages.iter().find_map(|stage| match &stage.state {
        State::Failing(trouble) => Some((trouble.reason, format!("{}: {}", stage.role, trouble.message))),
        _ => None,
    });
    let rolling = || {
        stages.iter().find_map(|stage| match &stage.state {
            State::Rolling(why) => Some((Reason::Rolling, format!("{}: {why}", stage.role))),
            _ => None,
        })
    };
    if let Some((reason, message)) = failing.or_else(rolling) {
        return word(kind, false, reason, message);
    }
    let Some(first) = stages.first() else {
        return word(kind, true, Reason::None, "the spec has none");
    };
    if paused && first.role.pauses() {
        return word(kind, true, Reason::Paused, "stands still until `paused` is false");
    }
    if stages.iter().all(|stage| stage.state == State::Stopped) {
        return word(kind, true, Reason::NoReplicas, "no replicas are asked for");
    }
    let scaling = stages.iter().find_map(|stage| match &stage.state {
        State::Scaling(how) => Some(format!("{}: {how}", stage.role)),
        _ => None,
    });
    if let Some(message) = scaling {
        return word(kind, true, Reason::Scaling, message);
    }
    word(kind, true, Reason::Ready, format!("{} replicas are ready", share(stages)))
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
            reason: word.reason.name().to_owned(),
            message: word.message,
            observed_generation: generation,
        })
        .collect()
}

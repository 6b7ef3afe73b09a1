//! The Events of a pipeline: changes of its main conditions, its topics and its replicas. Pure.

use herd_spec::health::Trouble;
use herd_spec::pipeline::{HerdPipelineStatus, StatusCondition, TopicStatus};
use herd_spec::scale::ReasonKind;
use kube::runtime::events::{Event, EventType};

use crate::reason::{ConditionType, Reason};

/// The most bytes of a note: the API server rejects Events with more than 1024.
const MAX_NOTE: usize = 1000;

/// What the operator did, or tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventAction {
    /// Reconciled a pipeline.
    Reconcile,
    /// Ensured its topics.
    Topics,
    /// Decided a number of replicas.
    Scale,
    /// Deleted a pipeline.
    Delete,
}

impl EventAction {
    /// The word, as it stands in an Event.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reconcile => "Reconcile",
            Self::Topics => "Topics",
            Self::Scale => "Scale",
            Self::Delete => "Delete",
        }
    }
}

/// The Events between two statuses.
#[must_use]
pub fn between(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<Event> {
    let mut events = topic_events(before, after);
    events.extend(replica_events(before, after));
    events.extend(condition_events(before, after));
    let scaling = ConditionType::ScalingActive;
    events.extend(scaling_event(before.and_then(|before| find(before, scaling)), find(after, scaling)));
    events
}

fn topic_events(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let existed = |topic: &TopicStatus| {
        before.is_some_and(|before| before.topics.iter().any(|other| other.name == topic.name))
    };
    let created = after.topics.iter().filter(|topic| topic.created && !existed(topic));
    let created: Vec<_> =
        created.map(|topic| format!("{} ({} partitions)", topic.name, topic.partitions)).collect();
    if !created.is_empty() {
        let note = format!("created topics: {}", created.join(", "));
        events.push(event(EventType::Normal, Reason::TopicsCreated.name(), EventAction::Topics, note));
    }
    let removed = |topic: &&TopicStatus| !after.topics.iter().any(|other| other.name == topic.name);
    let unused = before.into_iter().flat_map(|before| &before.topics).filter(|topic| topic.created);
    let unused: Vec<_> = unused.filter(removed).map(|topic| topic.name.as_str()).collect();
    if !unused.is_empty() {
        let note = format!("topics are no longer used and remain in Kafka: {}", unused.join(", "));
        events.push(event(EventType::Warning, Reason::TopicsLeft.name(), EventAction::Topics, note));
    }
    events
}

fn replica_events(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<Event> {
    let mut events = Vec::new();
    for stage in &after.stages {
        let last = |status: &HerdPipelineStatus| {
            let same = status.stages.iter().find(|other| other.name == stage.name);
            same.and_then(|other| other.last_scaling.clone())
        };
        if let Some(now) = &stage.last_scaling
            && before.and_then(last).as_ref() != Some(now)
        {
            let reason = if now.to > now.from { Reason::ScaledUp } else { Reason::ScaledDown };
            let note = format!("{}: {} → {} replicas: {}", stage.name, now.from, now.to, now.reason);
            events.push(event(EventType::Normal, reason.name(), EventAction::Scale, note));
        }
    }
    events
}

fn condition_events(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<Event> {
    let mut events = Vec::new();
    for kind in [ConditionType::Stalled, ConditionType::TopicsReady, ConditionType::Ready] {
        let Some(now) = find(after, kind) else { continue };
        let was = before.and_then(|before| find(before, kind));
        // A new reason for the same status is an Event, too.
        let same = was.as_ref().is_some_and(|was| (&was.status, &was.reason) == (&now.status, &now.reason));
        if same {
            continue;
        }
        let was_good = was.is_none_or(|was| is_good(&was));
        match (is_good(&now), was_good) {
            (true, _) if kind == ConditionType::Ready => {
                events.push(event(EventType::Normal, &now.reason, EventAction::Reconcile, now.message));
            }
            (true, false) if kind == ConditionType::TopicsReady => {
                let reason = Reason::TopicsReady.name();
                events.push(event(EventType::Normal, reason, EventAction::Topics, now.message));
            }
            (true, _) => {}
            // `Ready` is false during a rollout, too; and a cause that `Stalled` or `TopicsReady` has is published once.
            (false, _)
                if kind == ConditionType::Ready
                    && (Reason::Rolling.is_of(&now) || is_published(after, &now)) => {}
            (false, _) => {
                events.push(event(EventType::Warning, &now.reason, EventAction::Reconcile, now.message));
            }
        }
    }
    events
}

/// That scaling has no data, that it has data again, or a finding.
fn scaling_event(was: Option<StatusCondition>, now: Option<StatusCondition>) -> Option<Event> {
    let now = now?;
    if was.as_ref().is_some_and(|was| was.reason == now.reason) {
        return None;
    }
    let finding = is_true(&now) && !Reason::ScalingWorks.is_of(&now);
    if has_no_data(&now) || finding {
        return Some(event(EventType::Warning, &now.reason, EventAction::Scale, now.message));
    }
    let recovered = is_true(&now) && was.is_some_and(|was| has_no_data(&was));
    let reason = Reason::ScalingActive.name();
    recovered.then(|| event(EventType::Normal, reason, EventAction::Scale, now.message))
}

/// Whether scaling is inactive because a stage or Kafka cannot be observed.
fn has_no_data(scaling: &StatusCondition) -> bool {
    [
        Reason::ScalingDecision(ReasonKind::NoData),
        Reason::Trouble(Trouble::KafkaUnreachable),
        Reason::Trouble(Trouble::KafkaRefused),
    ]
    .iter()
    .any(|reason| reason.is_of(scaling))
}

/// Whether another condition has the same cause, or the cause is temporary.
fn is_published(after: &HerdPipelineStatus, ready: &StatusCondition) -> bool {
    let mut others =
        [ConditionType::Stalled, ConditionType::TopicsReady].into_iter().filter_map(|kind| find(after, kind));
    others.any(|other| !is_good(&other) && other.reason == ready.reason) || is_temporary(ready)
}

/// Whether the API server may answer differently a moment later.
fn is_temporary(ready: &StatusCondition) -> bool {
    [Reason::Conflict, Reason::Throttled, Reason::ApiServerUnavailable]
        .iter()
        .any(|reason| reason.is_of(ready))
}

fn find(status: &HerdPipelineStatus, kind: ConditionType) -> Option<StatusCondition> {
    status.conditions.iter().find(|condition| condition.kind == kind.name()).cloned()
}

fn is_true(condition: &StatusCondition) -> bool {
    condition.status == "True"
}

/// Whether the status of a condition is the normal one: of `Stalled` that is False, of the others True.
fn is_good(condition: &StatusCondition) -> bool {
    is_true(condition) != (condition.kind == ConditionType::Stalled.name())
}

/// An Event; its note is shortened to what the API server accepts.
#[must_use]
pub fn event(type_: EventType, reason: &str, action: EventAction, note: impl Into<String>) -> Event {
    let mut note: String = note.into();
    if note.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
    }
    Event { type_, reason: reason.into(), note: Some(note), action: action.name().into(), secondary: None }
}

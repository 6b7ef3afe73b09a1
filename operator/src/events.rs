//! What is worth an Event: the turns of the main conditions, as a person would tell them.

use herd_spec::pipeline::{HerdPipelineStatus, StatusCondition, TopicStatus};
use kube::runtime::events::{Event, EventType};

use crate::reason::Reason;

/// The Events between two statuses.
#[must_use]
pub fn between(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<Event> {
    let mut events = Vec::new();
    let had = |topic: &TopicStatus| {
        before.is_some_and(|before| before.topics.iter().any(|other| other.name == topic.name))
    };
    let new = after.topics.iter().filter(|topic| topic.created && !had(topic));
    let new: Vec<_> = new.map(|topic| format!("{} ({})", topic.name, topic.partitions)).collect();
    if !new.is_empty() {
        let note = format!("created, with their partitions: {}", new.join(", "));
        events.push(event(EventType::Normal, "TopicsCreated", "Topics", note));
    }
    let stays = |topic: &&TopicStatus| !after.topics.iter().any(|other| other.name == topic.name);
    let left = before.into_iter().flat_map(|before| &before.topics).filter(|topic| topic.created);
    let left: Vec<_> = left.filter(stays).map(|topic| topic.name.as_str()).collect();
    if !left.is_empty() {
        let note = format!("these are not used any more, and stay in Kafka: {}", left.join(", "));
        events.push(event(EventType::Warning, "TopicsLeft", "Topics", note));
    }
    for stage in &after.stages {
        let last = |status: &HerdPipelineStatus| {
            status
                .stages
                .iter()
                .find(|other| other.name == stage.name)
                .and_then(|other| other.last_scaling.clone())
        };
        if let Some(now) = &stage.last_scaling
            && before.and_then(last).as_ref() != Some(now)
        {
            let reason = if now.to > now.from { "ScaledUp" } else { "ScaledDown" };
            let note = format!("{}: {} → {} replicas: {}", stage.name, now.from, now.to, now.reason);
            events.push(event(EventType::Normal, reason, "Scale", note));
        }
    }
    let find = |status: &HerdPipelineStatus, kind: &str| -> Option<StatusCondition> {
        status.conditions.iter().find(|condition| condition.kind == kind).cloned()
    };
    for kind in ["Stalled", "TopicsReady", "Ready"] {
        let Some(now) = find(after, kind) else { continue };
        let was = before.and_then(|before| find(before, kind));
        // Why something is not well is news too.
        let same = was.as_ref().is_some_and(|was| (&was.status, &was.reason) == (&now.status, &now.reason));
        if same {
            continue;
        }
        let was_well = was.is_none_or(|was| is_well(&was));
        match (is_well(&now), was_well) {
            (true, _) if kind == "Ready" => {
                events.push(event(EventType::Normal, &now.reason, "Reconcile", now.message));
            }
            (true, false) if kind == "TopicsReady" => {
                events.push(event(EventType::Normal, "TopicsReady", "Topics", now.message));
            }
            (true, _) => {}
            // `Ready` is false on the way, too; and what stalls, or is the topics', is told once.
            (false, _) if kind == "Ready" && (is_on_its_way(&now) || is_told(after, &now)) => {}
            (false, _) => events.push(event(EventType::Warning, &now.reason, "Reconcile", now.message)),
        }
    }
    events.extend(about_scaling(
        before.and_then(|before| find(before, "ScalingActive")),
        find(after, "ScalingActive"),
    ));
    events
}

/// That a stage could not be looked at, that it can be again, and what scaling cannot put right.
fn about_scaling(was: Option<StatusCondition>, now: Option<StatusCondition>) -> Option<Event> {
    let now = now?;
    let outages = ["NoData", Reason::KafkaUnreachable.name(), Reason::KafkaRefused.name()];
    let blind = |condition: &StatusCondition| outages.contains(&&*condition.reason);
    if was.as_ref().is_some_and(|was| was.reason == now.reason) {
        return None;
    }
    let finding = now.status == "True" && now.reason != "Active";
    if blind(&now) || finding {
        return Some(event(EventType::Warning, &now.reason, "Scale", now.message));
    }
    let seen_again = now.status == "True" && was.is_some_and(|was| blind(&was));
    seen_again.then(|| event(EventType::Normal, "ScalingActive", "Scale", now.message))
}

fn is_on_its_way(ready: &StatusCondition) -> bool {
    ready.reason == Reason::Rolling.name()
}

/// Whether another condition tells of the same.
fn is_told(after: &HerdPipelineStatus, ready: &StatusCondition) -> bool {
    let told = |condition: &StatusCondition| {
        ["Stalled", "TopicsReady"].contains(&&*condition.kind)
            && !is_well(condition)
            && condition.reason == ready.reason
    };
    after.conditions.iter().any(told) || is_temporary(ready)
}

/// What the API server may answer differently a moment later.
fn is_temporary(ready: &StatusCondition) -> bool {
    [Reason::Conflict, Reason::Throttled, Reason::ApiServerUnavailable]
        .iter()
        .any(|reason| reason.name() == ready.reason)
}

fn is_well(condition: &StatusCondition) -> bool {
    (condition.status == "True") != (condition.kind == "Stalled")
}

/// An Event; its note within what the API server takes.
#[must_use]
pub fn event(type_: EventType, reason: &str, action: &str, note: impl Into<String>) -> Event {
    let mut note: String = note.into();
    if note.len() > 1000 {
        let end = (0..=1000).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
    }
    Event { type_, reason: reason.into(), note: Some(note), action: action.into(), secondary: None }
}

//! The status of an observation, and the Events between two statuses.

use herd_spec::health::Trouble;
use herd_spec::pipeline::{HerdPipelineStatus, StageStatus, TopicStatus, UrlsStatus};
use herd_spec::problem::Problem;
use rstest::rstest;

use super::*;
use crate::error::SecretMissing;
use crate::events;
use crate::reason::Failure;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:05:00Z";

fn stage(id: StageId, ready: u32, desired: u32, state: StageState) -> ObservedStage {
    let status = StageStatus { name: id.to_string(), desired, ready, ..StageStatus::default() };
    ObservedStage { id, status, state }
}

fn ready() -> PipelineObservation {
    let topic = TopicStatus { name: "shop.events".into(), partitions: 6, replication: 1, created: true };
    PipelineObservation {
        stages: vec![
            stage(StageId::Collector, 1, 1, StageState::Ready),
            stage(StageId::Detector, 2, 2, StageState::Ready),
            stage(StageId::Sink("store".parse().unwrap()), 1, 1, StageState::Ready),
            stage(StageId::Api, 1, 1, StageState::Ready),
        ],
        topics: TopicsState::Ready { topics: vec![topic], notes: vec![] },
        scaling: ScalingCondition {
            active: false,
            reason: Reason::ScalingNotRequested,
            message: "no stage has `scaling`".into(),
        },
        report: None,
        field_conflicts: Vec::new(),
        groups_deleted: true,
        paused: false,
        urls: UrlsStatus {
            collector: "http://shop-collector.default.svc".into(),
            api: "http://shop-api.default.svc".into(),
        },
    }
}

fn paused() -> PipelineObservation {
    let mut observation = ready();
    observation.paused = true;
    observation.stages[1] = stage(StageId::Detector, 0, 0, StageState::Stopped);
    observation.stages[2] = stage(StageId::Sink("store".parse().unwrap()), 0, 0, StageState::Stopped);
    observation
}

fn rolling() -> PipelineObservation {
    let mut observation = ready();
    observation.stages[1] = stage(
        StageId::Detector,
        1,
        2,
        StageState::Rolling("1 of 2 replicas are ready, 1 of the new version".into()),
    );
    observation
}

fn scaling() -> PipelineObservation {
    let mut observation = ready();
    let message = "1 of 4 replicas are ready, minimum 1".to_owned();
    observation.stages[1] = stage(StageId::Detector, 1, 4, StageState::Scaling(message));
    observation.field_conflicts = vec![FieldConflict {
        object: "Deployment shop-detector".into(),
        manager: "kube-controller-manager".into(),
        field: "spec.replicas".into(),
    }];
    observation
}

fn failing() -> PipelineObservation {
    let mut observation = rolling();
    observation.stages[2] = stage(
        StageId::Sink("store".parse().unwrap()),
        0,
        1,
        StageState::Failing(Failure::new(
            Reason::Trouble(Trouble::DatabaseUnreachable),
            "pod shop-sink-store-x: store: connecting to db:5432: connection refused",
        )),
    );
    observation
}

fn without_kafka() -> PipelineObservation {
    let message = "pinging: the broker does not answer".to_owned();
    let outage = Failure::new(Reason::Trouble(Trouble::KafkaUnreachable), message.clone());
    let report = PipelineReport { outage: Some(outage), ..PipelineReport::default() };
    PipelineObservation {
        topics: TopicsState::NotReady {
            reason: Reason::Trouble(Trouble::KafkaUnreachable),
            message,
            retry: true,
        },
        report: Some(report),
        ..ready()
    }
}

fn of(
    observation: &PipelineObservation,
    before: Option<&HerdPipelineStatus>,
    now: &str,
) -> HerdPipelineStatus {
    of_observed(before, Some(3), &Observed::of(observation.clone()), now)
}

fn published(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<String> {
    let line = |event: kube::runtime::events::Event| {
        format!("{:?} {}: {}", event.type_, event.reason, event.note.unwrap_or_default())
    };
    events::between(before, after).into_iter().map(line).collect()
}

#[rstest]
#[case("ready", ready())]
#[case("paused", paused())]
#[case("scaling", scaling())]
#[case("rolling", rolling())]
#[case("failing", failing())]
#[case("without-kafka", without_kafka())]
fn status_reports_the_observation(#[case] name: &str, #[case] observation: PipelineObservation) {
    insta::assert_yaml_snapshot!(format!("status-{name}"), of(&observation, None, NOW));
}

#[rstest]
#[case("invalid", Error::Invalid(vec![Problem { path: "spec.metrics[0].emit".into(), message: "is 20s, must be from 100ms to 10s".into() }]))]
#[case("secret-missing", Error::Secret(SecretMissing { name: "store".into(), key: None }))]
fn status_of_an_error_keeps_the_stages(#[case] name: &str, #[case] error: Error) {
    let before = of(&ready(), None, NOW);
    let after = of_error(Some(&before), Some(4), &error, LATER);
    assert_eq!(after.stages, before.stages);
    insta::assert_yaml_snapshot!(format!("status-{name}"), after.conditions);
}

#[test]
fn same_observation_gives_the_same_status() {
    let before = of(&ready(), None, NOW);
    assert_eq!(of(&ready(), Some(&before), LATER), before);
}

#[test]
fn unknown_numbers_are_omitted() {
    let mut known = ready();
    let (events_per_second, alerts) = (Some(120), Some(2));
    known.report = Some(PipelineReport { events_per_second, alerts, ..PipelineReport::default() });
    let before = of(&known, None, NOW);
    assert_eq!((before.events_per_second, before.alerts), (Some(120), Some(2)));
    let after = of(&without_kafka(), Some(&before), LATER);
    assert_eq!((after.events_per_second, after.lag, after.alerts), (None, None, None));
}

#[test]
fn stage_without_report_omits_numbers_and_keeps_memory() {
    let mut before = of(&ready(), None, NOW);
    let memory = serde_json::json!({"capacity": 5});
    before.stages[1].lag = Some(7);
    before.stages[1].input_rate = Some(9);
    before.stages[1].memory = Some(memory.clone());
    let after = of(&ready(), Some(&before), LATER);
    assert_eq!((after.stages[1].lag, after.stages[1].input_rate), (None, None));
    assert_eq!(after.stages[1].memory, Some(memory));
}

#[test]
fn unchanged_status_is_refreshed_after_the_heartbeat() {
    let before = of(&ready(), None, NOW);
    assert_eq!(before.last_observed.as_deref(), Some(NOW));
    assert_eq!(of(&ready(), Some(&before), "2026-01-02T03:12:00Z"), before);
    let after = of(&ready(), Some(&before), "2026-01-02T03:14:00Z");
    assert_eq!(after.last_observed.as_deref(), Some("2026-01-02T03:14:00Z"));
    assert_eq!(HerdPipelineStatus { last_observed: before.last_observed.clone(), ..after }, before);
}

#[test]
fn transition_time_is_that_of_the_last_change() {
    let before = of(&rolling(), None, NOW);
    let after = of(&ready(), Some(&before), LATER);
    let since = |status: &HerdPipelineStatus, kind: &str| {
        let found = status.conditions.iter().find(|condition| condition.kind == kind);
        found.unwrap().last_transition_time.clone()
    };
    assert_eq!((since(&after, "Ready"), since(&after, "CollectorReady")), (LATER.into(), NOW.into()));
}

#[test]
fn events_follow_the_changes_of_the_status() {
    let statuses = [rolling(), ready(), without_kafka(), ready(), failing(), failing(), paused()];
    let mut before = None;
    let mut events = Vec::new();
    for observation in statuses {
        let after = of(&observation, before.as_ref(), NOW);
        events.push(published(before.as_ref(), &after));
        before = Some(after);
    }
    insta::assert_yaml_snapshot!(events);
}

//! What the status says of what was seen, and which Events tell of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use herd_operator::contest::Contest;
use herd_operator::error::{Error, SecretMissing};
use herd_operator::events;
use herd_operator::observe::{StageSeen, State};
use herd_operator::reason::{Reason, Trouble};
use herd_operator::scaling::{PipelineReport, ScalingWord};
use herd_operator::stage::Role;
use herd_operator::status::{self, Seen};
use herd_operator::topics;
use herd_spec::pipeline::{HerdPipelineStatus, StageStatus, TopicStatus, UrlsStatus};
use herd_spec::problem::Problem;
use rstest::rstest;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:05:00Z";

fn stage(role: Role, ready: u32, desired: u32, state: State) -> StageSeen {
    let status = StageStatus { name: role.to_string(), desired, ready, ..StageStatus::default() };
    StageSeen { role, status, state }
}

fn well() -> Seen {
    let topic = TopicStatus { name: "shop.events".into(), partitions: 6, replication: 1, created: true };
    Seen {
        stages: vec![
            stage(Role::Collector, 1, 1, State::Ready),
            stage(Role::Detector, 2, 2, State::Ready),
            stage(Role::Sink("store".parse().unwrap()), 1, 1, State::Ready),
            stage(Role::Api, 1, 1, State::Ready),
        ],
        topics: topics::Seen::Ready { topics: vec![topic], notes: vec![] },
        scaling: ScalingWord {
            active: false,
            reason: Reason::OfScaling("NotAsked"),
            message: "no stage asks for scaling".into(),
        },
        report: None,
        contests: Vec::new(),
        groups_done: true,
        paused: false,
        urls: UrlsStatus {
            collector: "http://shop-collector.default.svc".into(),
            api: "http://shop-api.default.svc".into(),
        },
    }
}

fn paused() -> Seen {
    let mut seen = well();
    seen.paused = true;
    seen.stages[1] = stage(Role::Detector, 0, 0, State::Stopped);
    seen.stages[2] = stage(Role::Sink("store".parse().unwrap()), 0, 0, State::Stopped);
    seen
}

fn rolling() -> Seen {
    let mut seen = well();
    seen.stages[1] =
        stage(Role::Detector, 1, 2, State::Rolling("1 of 2 replicas are ready, 1 of them new".into()));
    seen
}

fn scaling() -> Seen {
    let mut seen = well();
    let how = "1 of 4 replicas are ready, at least 1 must be".to_owned();
    seen.stages[1] = stage(Role::Detector, 1, 4, State::Scaling(how));
    seen.contests = vec![Contest {
        object: "Deployment shop-detector".into(),
        manager: "kube-controller-manager".into(),
        field: "spec.replicas".into(),
    }];
    seen
}

fn failing() -> Seen {
    let mut seen = rolling();
    seen.stages[2] = stage(
        Role::Sink("store".parse().unwrap()),
        0,
        1,
        State::Failing(Trouble::new(
            Reason::DatabaseUnreachable,
            "pod shop-sink-store-x: store: connecting to db:5432: connection refused",
        )),
    );
    seen
}

fn without_kafka() -> Seen {
    let message = "pinging: the broker does not answer".to_owned();
    let outage = Trouble::new(Reason::KafkaUnreachable, message.clone());
    let report = PipelineReport { outage: Some(outage), ..PipelineReport::default() };
    Seen {
        topics: topics::Seen::NotReady { reason: Reason::KafkaUnreachable, message, retry: true },
        report: Some(report),
        ..well()
    }
}

fn of(seen: &Seen, before: Option<&HerdPipelineStatus>, now: &str) -> HerdPipelineStatus {
    status::of_seen(before, Some(3), seen, now)
}

fn told(before: Option<&HerdPipelineStatus>, after: &HerdPipelineStatus) -> Vec<String> {
    let words = |event: kube::runtime::events::Event| {
        format!("{:?} {}: {}", event.type_, event.reason, event.note.unwrap_or_default())
    };
    events::between(before, after).into_iter().map(words).collect()
}

#[rstest]
#[case("well", well())]
#[case("paused", paused())]
#[case("scaling", scaling())]
#[case("rolling", rolling())]
#[case("failing", failing())]
#[case("without-kafka", without_kafka())]
fn a_status_says_how_it_is(#[case] name: &str, #[case] seen: Seen) {
    insta::assert_yaml_snapshot!(format!("status-{name}"), of(&seen, None, NOW));
}

#[rstest]
#[case("invalid", Error::Invalid(vec![Problem { path: "spec.metrics[0].emit".into(), message: "is 20s, must be from 100ms to 10s".into() }]))]
#[case("secret-missing", Error::Secret(SecretMissing { name: "store".into(), key: None }))]
fn an_error_is_told_and_what_was_seen_stays(#[case] name: &str, #[case] error: Error) {
    let before = of(&well(), None, NOW);
    let after = status::of_error(Some(&before), Some(4), &error, LATER);
    assert_eq!(after.stages, before.stages);
    insta::assert_yaml_snapshot!(format!("status-{name}"), after.conditions);
}

#[test]
fn the_same_sight_gives_the_same_status() {
    let before = of(&well(), None, NOW);
    assert_eq!(of(&well(), Some(&before), LATER), before);
}

#[test]
fn what_is_not_known_any_more_is_left_out() {
    let mut known = well();
    let (events_per_second, alerts) = (Some(120), Some(2));
    known.report = Some(PipelineReport { events_per_second, alerts, ..PipelineReport::default() });
    let before = of(&known, None, NOW);
    assert_eq!((before.events_per_second, before.alerts), (Some(120), Some(2)));
    let after = of(&without_kafka(), Some(&before), LATER);
    assert_eq!((after.events_per_second, after.lag, after.alerts), (None, None, None));
}

#[test]
fn numbers_of_a_stage_are_left_out_while_nothing_is_known_and_what_was_learnt_is_kept() {
    let mut before = of(&well(), None, NOW);
    let learnt = serde_json::json!({"capacity": 5});
    before.stages[1].lag = Some(7);
    before.stages[1].input_rate = Some(9);
    before.stages[1].memory = Some(learnt.clone());
    let after = of(&well(), Some(&before), LATER);
    assert_eq!((after.stages[1].lag, after.stages[1].input_rate), (None, None));
    assert_eq!(after.stages[1].memory, Some(learnt));
}

#[test]
fn a_steady_status_is_refreshed_only_when_it_would_look_old() {
    let before = of(&well(), None, NOW);
    assert_eq!(before.last_observed.as_deref(), Some(NOW));
    assert_eq!(of(&well(), Some(&before), "2026-01-02T03:12:00Z"), before);
    let after = of(&well(), Some(&before), "2026-01-02T03:14:00Z");
    assert_eq!(after.last_observed.as_deref(), Some("2026-01-02T03:14:00Z"));
    assert_eq!(HerdPipelineStatus { last_observed: before.last_observed.clone(), ..after }, before);
}

#[test]
fn a_condition_that_turns_says_since_when() {
    let before = of(&rolling(), None, NOW);
    let after = of(&well(), Some(&before), LATER);
    let since = |status: &HerdPipelineStatus, kind: &str| {
        let found = status.conditions.iter().find(|condition| condition.kind == kind);
        found.unwrap().last_transition_time.clone()
    };
    assert_eq!((since(&after, "Ready"), since(&after, "CollectorReady")), (LATER.into(), NOW.into()));
}

#[test]
fn the_story_of_a_pipeline_is_told() {
    let statuses = [rolling(), well(), without_kafka(), well(), failing(), failing(), paused()];
    let mut before = None;
    let mut story = Vec::new();
    for seen in statuses {
        let after = of(&seen, before.as_ref(), NOW);
        story.push(told(before.as_ref(), &after));
        before = Some(after);
    }
    insta::assert_yaml_snapshot!(story);
}

//! From what is seen of Kafka to replicas, poll by poll.

use std::time::Duration;

use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_spec::pipeline::StageStatus;
use herd_spec::units::Partition;
use rstest::rstest;

use super::*;
use crate::observe::State;
use crate::reason::Reason;
use crate::stage::stages;

const UID: &str = "u-1";

/// A pipeline whose detector reads four partitions.
struct Scene {
    scaler: Scaler,
    detection: String,
    paused: bool,
    wanted: u32,
    now: WallTime,
    end: i64,
    committed: i64,
}

impl Scene {
    fn new(detection: &str) -> Self {
        Self {
            scaler: Scaler::default(),
            detection: detection.into(),
            paused: false,
            wanted: 1,
            now: WallTime(1_800_000_000_000),
            end: 0,
            committed: 0,
        }
    }

    fn plan(&self) -> Plan {
        let yaml = format!(
            "{{apiVersion: herd.dev/v1alpha1, kind: HerdPipeline, metadata: {{name: shop, namespace: demo}}, spec: {{
                kafka: {{bootstrapServers: ['127.0.0.1:1'], partitions: 4}}, paused: {}, detection: {}}}}}",
            self.paused, self.detection
        );
        let pipeline: HerdPipeline = serde_yaml::from_str(&yaml).unwrap();
        Plan::parse(&pipeline).unwrap()
    }

    fn detector(&self) -> Stage {
        stages(&self.plan()).into_iter().find(|stage| stage.role == Role::Detector).unwrap()
    }

    /// What reconcile would ask of the Deployment.
    fn asked(&self, live: Option<u32>) -> u32 {
        self.scaler.replicas(UID, &self.plan(), &self.detector(), (live, &Sizes::new()), self.now)
    }

    /// Reconcile: the Deployment gets what is asked, and all its pods are ready.
    fn reconcile(&mut self, before: Option<&HerdPipelineStatus>) {
        self.wanted = self.asked(Some(self.wanted));
        let plan = self.plan();
        let (desired, ready) = (self.wanted, self.wanted);
        let status = StageStatus { name: "detector".into(), desired, ready, ..StageStatus::default() };
        let seen = StageSeen { role: Role::Detector, status, state: State::Ready };
        let bus = KafkaBus::connect(&KafkaSettings::plain("127.0.0.1:1", "test")).unwrap();
        let sizes = plan.topics.all().map(|topic| (topic.name.clone(), topic.partitions));
        self.scaler.register(
            UID,
            Registration {
                namespace: "demo",
                name: "shop",
                kafka: Some(("way".into(), bus)),
                plan: &plan,
                stages: &[self.detector()],
                seen: &[seen],
                sizes: sizes.into(),
                before,
            },
        );
    }

    fn places(&self, at: i64) -> Places {
        (0..4).map(|number| (("shop.events".into(), Partition(number)), Offset(at))).collect()
    }

    /// Five seconds later: what a look at Kafka brings, and what is decided.
    fn poll(
        &mut self,
        groups: Result<(Places, bool), String>,
    ) -> Vec<(ObjectRef<HerdPipeline>, Vec<&'static str>)> {
        self.now = self.now.plus(POLL);
        let mut asks = self.scaler.asks(Scope::All);
        let look::Ask { pipelines, .. } = asks.pop().unwrap();
        let looked = look::Looked {
            pipelines,
            spans: Ok((self.places(0), self.places(self.end))),
            groups: BTreeMap::from([((UID.to_owned(), Role::Detector), groups)]),
        };
        self.scaler.saw(self.now, &looked);
        self.scaler.decide(Scope::All, self.now)
    }

    /// Five seconds later, when the look brings this instead of where partitions begin and end.
    fn look(
        &mut self,
        spans: Result<(Places, Places), look::Blind>,
    ) -> Vec<(ObjectRef<HerdPipeline>, Vec<&'static str>)> {
        self.now = self.now.plus(POLL);
        let look::Ask { pipelines, .. } = self.scaler.asks(Scope::All).pop().unwrap();
        self.scaler.saw(self.now, &look::Looked { pipelines, spans, groups: BTreeMap::new() });
        self.scaler.decide(Scope::All, self.now)
    }

    /// Where all topics of the pipeline end.
    fn all_ends(&self) -> Places {
        let topics = self.plan().topics;
        let all = topics
            .all()
            .into_iter()
            .flat_map(|topic| (0..4).map(|number| (topic.name.clone(), Partition(number))));
        all.map(|place| (place, Offset(self.end))).collect()
    }

    /// The same with so many records in and done on each partition.
    fn work(&mut self, input: i64, done: i64) -> Vec<(ObjectRef<HerdPipeline>, Vec<&'static str>)> {
        self.end += input;
        self.committed = (self.committed + done).min(self.end);
        self.poll(Ok((self.places(self.committed), true)))
    }

    fn word(&self) -> ScalingWord {
        word(&[self.detector()], self.paused, self.scaler.report(UID).as_ref())
    }
}

#[rstest]
#[case::fixed("{replicas: 3}", false, Some(7), 3)]
#[case::first("{scaling: {min: 2, max: 4}}", false, None, 2)]
#[case::kept("{scaling: {min: 1, max: 4}}", false, Some(3), 3)]
#[case::bounded("{scaling: {min: 1, max: 3}}", false, Some(9), 3)]
#[case::no_more_than_partitions("{scaling: {min: 1, max: 50}}", false, Some(9), 4)]
#[case::off("{replicas: 3, scaling: {mode: Off}}", false, Some(5), 3)]
#[case::asleep("{scaling: {min: 0, max: 4}}", false, Some(0), 0)]
#[case::paused("{replicas: 3}", true, Some(3), 0)]
fn before_anything_was_seen_replicas_stay_within_bounds(
    #[case] detection: &str,
    #[case] paused: bool,
    #[case] live: Option<u32>,
    #[case] wanted: u32,
) {
    let mut scene = Scene::new(detection);
    scene.paused = paused;
    assert_eq!(scene.asked(live), wanted);
}

#[test]
fn what_waits_brings_more_replicas_and_the_pipeline_is_brought_back_to_mind() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    let mut triggered = Vec::new();
    for _ in 0..12 {
        triggered = scene.work(5000, 1000);
        if scene.asked(Some(1)) > 1 {
            break;
        }
    }
    assert!(scene.asked(Some(1)) > 1, "{:?}", scene.scaler.report(UID));
    let (pipeline, reasons) = &triggered[0];
    assert_eq!((pipeline.name.as_str(), pipeline.namespace.as_deref()), ("shop", Some("demo")));
    assert_eq!(reasons.len(), 1);
}

#[test]
fn only_a_pipeline_in_doubt_gets_a_second_look() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    scene.work(10, 10);
    assert!(!scene.scaler.is_in_doubt());
    assert!(scene.scaler.asks(Scope::InDoubt).is_empty() && scene.scaler.pods(Scope::InDoubt).is_empty());
    assert!(scene.scaler.decide(Scope::InDoubt, scene.now).is_empty());
    for _ in 0..12 {
        scene.work(5000, 1000);
        if scene.scaler.is_in_doubt() {
            break;
        }
    }
    assert_eq!(scene.asked(Some(1)), 1, "one look alone adds none");
    let asks = scene.scaler.asks(Scope::InDoubt);
    assert_eq!(asks[0].pipelines.iter().map(|asked| asked.uid.as_str()).collect::<Vec<_>>(), [UID]);
    scene.work(2000, 400);
    assert!(scene.asked(Some(1)) > 1, "{:?}", scene.scaler.report(UID));
    assert!(!scene.scaler.is_in_doubt());
}

#[test]
fn while_a_decision_waits_to_be_carried_out_no_other_is_made() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    while scene.asked(Some(1)) == 1 {
        scene.work(5000, 1000);
    }
    let (decided, report) = (scene.asked(Some(1)), scene.scaler.report(UID).unwrap());
    for _ in 0..20 {
        // Everything is done at once: reason enough to change the mind.
        let news = scene.work(0, 1_000_000);
        assert!(news.iter().all(|(_, reasons)| reasons.is_empty()), "{news:?}");
        assert_eq!(scene.asked(Some(1)), decided);
    }
    let told = |report: &PipelineReport| report.stages[&Role::Detector].last_scaling.clone().unwrap();
    assert_eq!(told(&scene.scaler.report(UID).unwrap()), told(&report));
}

#[test]
fn a_group_that_cannot_be_looked_at_is_left_alone_and_the_condition_says_why() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.wanted = 3;
    scene.reconcile(None);
    scene.work(10, 10);
    scene.poll(Err("the broker does not answer".into()));
    // Told at most every ten seconds; here at once, by forgetting what was told.
    scene.scaler.pipelines.lock().get_mut(UID).unwrap().told = None;
    scene.poll(Err("the broker does not answer".into()));
    assert_eq!(scene.asked(Some(3)), 3);
    let word = scene.word();
    assert_eq!((word.active, word.reason.name()), (false, "NoData"));
    assert!(word.message.contains("the broker does not answer"), "{}", word.message);
}

fn outage() -> look::Blind {
    let outage = Trouble::new(Reason::KafkaUnreachable, "k:1 refuses the connection");
    look::Blind { why: "no answer".into(), outage: Some(outage) }
}

#[test]
fn a_kafka_that_is_away_is_told_at_once_and_its_return_too_and_no_rate_is_told_meanwhile() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    for _ in 0..4 {
        scene.end += 500;
        scene.look(Ok((scene.places(0), scene.all_ends())));
    }
    assert_eq!(scene.scaler.kafka(UID), KafkaSeen::Well);
    scene.scaler.pipelines.lock().get_mut(UID).unwrap().told = None;
    scene.look(Ok((scene.places(0), scene.all_ends())));
    assert!(scene.scaler.report(UID).unwrap().events_per_second.is_some());
    let news = scene.look(Err(outage()));
    assert_eq!(news.len(), 1, "told within one look");
    assert!(matches!(scene.scaler.kafka(UID), KafkaSeen::Away(_)));
    let report = scene.scaler.report(UID).unwrap();
    assert_eq!((report.events_per_second, report.lag()), (None, None));
    let word = scene.word();
    assert_eq!((word.active, word.reason), (false, Reason::KafkaUnreachable));
    assert!(word.message.contains("k:1 refuses the connection"), "{}", word.message);
    assert_eq!(scene.look(Ok((scene.places(0), scene.all_ends()))).len(), 1);
    assert_eq!(scene.scaler.kafka(UID), KafkaSeen::Well);
}

#[test]
fn a_look_that_fails_while_kafka_answers_is_no_outage() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    scene.look(Err(look::Blind { why: "too slow".into(), outage: None }));
    assert_eq!(scene.scaler.kafka(UID), KafkaSeen::Unknown);
    assert_eq!(scene.word().reason.name(), "NoData");
}

#[test]
fn a_topic_that_is_not_to_be_found_is_told_at_once() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    scene.look(Ok((scene.places(0), scene.all_ends())));
    let mut ends = scene.all_ends();
    ends.retain(|(topic, _), _| topic != "shop.baselines");
    let news = scene.look(Ok((scene.places(0), ends)));
    assert_eq!(news.len(), 1);
    assert_eq!(scene.scaler.kafka(UID), KafkaSeen::Without(["shop.baselines".to_owned()].into()));
}

#[test]
fn what_pods_report_is_told_at_once_and_the_same_with_other_numbers_is_no_news() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    let look = |scene: &mut Scene| scene.look(Ok((scene.places(0), scene.all_ends()))).len();
    look(&mut scene);
    let report = |scene: &Scene, troubles: &[(Reason, &str)]| {
        let troubles =
            troubles.iter().map(|(reason, words)| ("api".to_owned(), Trouble::new(*reason, *words)));
        scene.scaler.pods_report(UID, troubles.collect(), Some(3));
    };
    report(&scene, &[(Reason::DatabaseUnreachable, "tried 1 times")]);
    assert_eq!(look(&mut scene), 1);
    assert_eq!(scene.scaler.report(UID).unwrap().alerts, Some(3));
    report(&scene, &[(Reason::DatabaseUnreachable, "tried 2 times")]);
    assert_eq!(look(&mut scene), 0);
    assert_eq!(scene.scaler.troubles(UID)["api"].message, "tried 1 times");
    report(&scene, &[(Reason::DatabaseRefused, "no such database")]);
    assert_eq!(look(&mut scene), 1);
    report(&scene, &[]);
    assert_eq!(look(&mut scene), 1);
    assert!(scene.scaler.troubles(UID).is_empty());
}

#[test]
fn after_a_pause_as_many_come_back_as_wait_for() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    for _ in 0..12 {
        scene.work(1000, 1000);
    }
    scene.paused = true;
    scene.reconcile(None);
    scene.work(10_000, 0);
    assert_eq!((scene.wanted, scene.asked(Some(0))), (0, 0));
    scene.paused = false;
    scene.reconcile(None);
    assert_eq!(scene.wanted, 0, "the next look decides");
    scene.work(10_000, 0);
    assert!(scene.asked(Some(0)) >= 1);
}

#[test]
fn after_a_pause_a_stage_that_is_only_advised_runs_as_before() {
    let mut scene = Scene::new("{replicas: 3, scaling: {mode: Recommend, min: 1, max: 4}}");
    scene.wanted = 3;
    scene.reconcile(None);
    scene.work(100, 100);
    scene.paused = true;
    scene.reconcile(None);
    scene.work(100, 0);
    assert_eq!(scene.wanted, 0);
    scene.paused = false;
    for _ in 0..5 {
        scene.reconcile(None);
        scene.work(100, 100);
        assert_eq!(scene.wanted, 3);
    }
}

#[test]
fn replicas_are_kept_where_more_partitions_were_seen_than_are_asked_for() {
    let scene = Scene::new("{scaling: {min: 1, max: 50}}");
    let sizes = Sizes::from([("shop.events".to_owned(), 24)]);
    let asked =
        |sizes| scene.scaler.replicas(UID, &scene.plan(), &scene.detector(), (Some(20), sizes), scene.now);
    assert_eq!((asked(&sizes), asked(&Sizes::new())), (20, 4));
}

#[test]
fn a_pipeline_for_which_nothing_can_be_carried_out_is_not_brought_back_to_mind() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    while scene.asked(Some(1)) == 1 {
        scene.work(5000, 1000);
    }
    scene.scaler.block(UID);
    let news = |scene: &mut Scene| {
        scene.scaler.pipelines.lock().get_mut(UID).unwrap().told = None;
        scene.work(5000, 1000)
    };
    assert!(news(&mut scene).is_empty());
    scene.reconcile(None);
    assert!(scene.wanted > 1 && !news(&mut scene).is_empty());
}

#[test]
fn what_was_learnt_survives_a_restart() {
    let mut scene = Scene::new("{scaling: {min: 1, max: 4}}");
    scene.reconcile(None);
    for _ in 0..12 {
        scene.work(5000, 1000);
        scene.reconcile(None);
    }
    let report = scene.scaler.report(UID).unwrap();
    let mut stage = StageStatus { name: "detector".into(), ..StageStatus::default() };
    report.stages[&Role::Detector].write(&mut stage);
    assert!(stage.capacity.is_some(), "{stage:?}");
    let before = HerdPipelineStatus { stages: vec![stage.clone()], ..HerdPipelineStatus::default() };
    let mut again = Scene { scaler: Scaler::default(), ..scene };
    again.reconcile(Some(&before));
    again.work(0, 0);
    let mut after = StageStatus::default();
    again.scaler.report(UID).unwrap().stages[&Role::Detector].write(&mut after);
    assert_eq!(after.capacity, stage.capacity);
    assert_eq!(after.last_scaling, stage.last_scaling);
}

#[test]
fn where_nothing_waits_and_nothing_comes_the_group_is_not_asked_again() {
    let mut scene = Scene::new("{replicas: 1}");
    scene.reconcile(None);
    let quiet = |scene: &Scene| scene.scaler.quiet(UID, &Role::Detector, &scene.places(scene.end));
    scene.work(100, 50);
    assert_eq!(quiet(&scene), None);
    scene.work(0, 50);
    assert_eq!(quiet(&scene), Some(scene.places(100)));
    scene.end += 1;
    assert_eq!(quiet(&scene), None);
}

#[test]
fn the_rate_of_events_is_that_of_the_last_half_minute() {
    let mut rate = Rate::default();
    let begun = WallTime(1_800_000_000_000);
    for poll in 0..20_u32 {
        let end = if poll < 10 { 0 } else { 500 * (i64::from(poll) - 9) };
        rate.push(begun.plus(POLL * poll), end);
    }
    assert_eq!(rate.a_second(), Some(100.0));
    // The topic was made anew.
    rate.push(begun.plus(POLL * 20 + Duration::from_secs(1)), 3);
    assert_eq!(rate.a_second(), None);
}

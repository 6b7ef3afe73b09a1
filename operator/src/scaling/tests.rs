//! From polls of Kafka to replicas, poll by poll.

use std::time::Duration;

use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_spec::health::Trouble;
use herd_spec::pipeline::StageStatus;
use herd_spec::units::Partition;
use rstest::rstest;

use super::*;
use crate::observe::StageState;
use crate::reason::Reason;
use crate::stage::stages;

const UID: &str = "u-1";

/// A pipeline whose detector reads four partitions.
struct Fixture {
    scaler: Scaler,
    detection: String,
    paused: bool,
    replicas: u32,
    now: WallTime,
    end: i64,
    committed: i64,
}

impl Fixture {
    fn new(detection: &str) -> Self {
        Self {
            scaler: Scaler::default(),
            detection: detection.into(),
            paused: false,
            replicas: 1,
            now: WallTime(1_800_000_000_000),
            end: 0,
            committed: 0,
        }
    }

    fn pipeline(&self) -> HerdPipeline {
        let yaml = format!(
            "{{apiVersion: herd.dev/v1alpha1, kind: HerdPipeline, metadata: {{name: shop, namespace: demo, uid: {UID}}}, spec: {{
                kafka: {{bootstrapServers: ['127.0.0.1:1'], partitions: 4}}, paused: {}, detection: {}}}}}",
            self.paused, self.detection
        );
        serde_yaml::from_str(&yaml).unwrap()
    }

    fn plan(&self) -> Plan {
        Plan::parse(&self.pipeline()).unwrap()
    }

    fn detector(&self) -> Stage {
        stages(&self.plan()).into_iter().find(|stage| stage.id == StageId::Detector).unwrap()
    }

    /// `spec.replicas` that reconcile would apply.
    fn decided(&self, current: Option<u32>) -> u32 {
        self.scaler.replicas(
            UID,
            &self.plan(),
            &self.detector(),
            (current, &PartitionCounts::new()),
            self.now,
        )
    }

    /// Reconciles: applies the decision, and all pods become ready.
    fn reconcile(&mut self, before: Option<&HerdPipelineStatus>) {
        self.replicas = self.decided(Some(self.replicas));
        let plan = self.plan();
        let (desired, ready) = (self.replicas, self.replicas);
        let status = StageStatus { name: "detector".into(), desired, ready, ..StageStatus::default() };
        let observed = ObservedStage { id: StageId::Detector, status, state: StageState::Ready };
        let bus = KafkaBus::connect(&KafkaSettings::plain("127.0.0.1:1", "test")).unwrap();
        let partition_counts = plan.topics.all().map(|topic| (topic.name.clone(), topic.partitions));
        let identity = PipelineIdentity::of(&self.pipeline()).unwrap();
        self.scaler.register(
            &identity,
            Registration {
                kafka: Some(&KafkaConnection { bus, cluster_key: "cluster".into() }),
                plan: &plan,
                stages: &[self.detector()],
                observed: &[observed],
                partition_counts: partition_counts.into(),
                before,
            },
        );
    }

    fn offsets(&self, at: i64) -> Places {
        (0..4).map(|number| (("shop.events".into(), Partition(number)), Offset(at))).collect()
    }

    /// Records a poll of Kafka five seconds later, and decides.
    fn poll(
        &mut self,
        groups: Result<(Places, bool), String>,
    ) -> Vec<(ObjectRef<HerdPipeline>, Vec<ReasonKind>)> {
        self.now = self.now.plus(POLL);
        let mut requests = self.scaler.cluster_requests(Scope::All);
        let kafka_poll::ClusterRequest { pipelines, .. } = requests.pop().unwrap();
        let poll = kafka_poll::ClusterPoll {
            pipelines,
            spans: Ok((self.offsets(0), self.offsets(self.end))),
            groups: BTreeMap::from([((UID.to_owned(), StageId::Detector), groups)]),
        };
        self.scaler.record_poll(self.now, &poll);
        self.scaler.decide(Scope::All, self.now)
    }

    /// The same with these start and end offsets, or an error.
    fn poll_offsets(
        &mut self,
        spans: Result<(Places, Places), kafka_poll::PollError>,
    ) -> Vec<(ObjectRef<HerdPipeline>, Vec<ReasonKind>)> {
        self.now = self.now.plus(POLL);
        let kafka_poll::ClusterRequest { pipelines, .. } =
            self.scaler.cluster_requests(Scope::All).pop().unwrap();
        self.scaler
            .record_poll(self.now, &kafka_poll::ClusterPoll { pipelines, spans, groups: BTreeMap::new() });
        self.scaler.decide(Scope::All, self.now)
    }

    /// The end offsets of all topics of the pipeline.
    fn all_ends(&self) -> Places {
        let topics = self.plan().topics;
        let all = topics
            .all()
            .into_iter()
            .flat_map(|topic| (0..4).map(|number| (topic.name.clone(), Partition(number))));
        all.map(|partition| (partition, Offset(self.end))).collect()
    }

    /// The same with this many records added to and read from each partition.
    fn work(&mut self, input: i64, done: i64) -> Vec<(ObjectRef<HerdPipeline>, Vec<ReasonKind>)> {
        self.end += input;
        self.committed = (self.committed + done).min(self.end);
        self.poll(Ok((self.offsets(self.committed), true)))
    }

    fn condition(&self) -> ScalingCondition {
        condition(&[self.detector()], self.paused, self.scaler.report(UID).as_ref())
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
fn replicas_stay_within_bounds_before_the_first_poll(
    #[case] detection: &str,
    #[case] paused: bool,
    #[case] current: Option<u32>,
    #[case] expected: u32,
) {
    let mut fixture = Fixture::new(detection);
    fixture.paused = paused;
    assert_eq!(fixture.decided(current), expected);
}

#[test]
fn lag_adds_replicas_and_requeues_the_pipeline() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    let mut requeued = Vec::new();
    for _ in 0..12 {
        requeued = fixture.work(5000, 1000);
        if fixture.decided(Some(1)) > 1 {
            break;
        }
    }
    assert!(fixture.decided(Some(1)) > 1, "{:?}", fixture.scaler.report(UID));
    let (pipeline, reasons) = &requeued[0];
    assert_eq!((pipeline.name.as_str(), pipeline.namespace.as_deref()), ("shop", Some("demo")));
    assert_eq!(reasons.len(), 1);
}

#[test]
fn only_an_unconfirmed_decision_gets_a_second_poll() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    fixture.work(10, 10);
    assert!(!fixture.scaler.needs_confirmation());
    assert!(
        fixture.scaler.cluster_requests(Scope::Unconfirmed).is_empty()
            && fixture.scaler.pod_requests(Scope::Unconfirmed).is_empty()
    );
    assert!(fixture.scaler.decide(Scope::Unconfirmed, fixture.now).is_empty());
    for _ in 0..12 {
        fixture.work(5000, 1000);
        if fixture.scaler.needs_confirmation() {
            break;
        }
    }
    assert_eq!(fixture.decided(Some(1)), 1, "one poll alone adds none");
    let requests = fixture.scaler.cluster_requests(Scope::Unconfirmed);
    assert_eq!(requests[0].pipelines.iter().map(|request| request.uid.as_str()).collect::<Vec<_>>(), [UID]);
    fixture.work(2000, 400);
    assert!(fixture.decided(Some(1)) > 1, "{:?}", fixture.scaler.report(UID));
    assert!(!fixture.scaler.needs_confirmation());
}

#[test]
fn makes_no_decision_while_another_is_pending() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    while fixture.decided(Some(1)) == 1 {
        fixture.work(5000, 1000);
    }
    let (decided, report) = (fixture.decided(Some(1)), fixture.scaler.report(UID).unwrap());
    for _ in 0..20 {
        // The lag is gone: another decision would remove replicas.
        let news = fixture.work(0, 1_000_000);
        assert!(news.iter().all(|(_, reasons)| reasons.is_empty()), "{news:?}");
        assert_eq!(fixture.decided(Some(1)), decided);
    }
    let last_scaling =
        |report: &PipelineReport| report.stages[&StageId::Detector].last_scaling.clone().unwrap();
    assert_eq!(last_scaling(&fixture.scaler.report(UID).unwrap()), last_scaling(&report));
}

#[test]
fn keeps_replicas_of_an_unknown_group_and_reports_why() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.replicas = 3;
    fixture.reconcile(None);
    fixture.work(10, 10);
    fixture.poll(Err("the broker does not answer".into()));
    // A report is due every ten seconds; without a last one, at once.
    fixture.scaler.pipelines.lock().get_mut(UID).unwrap().reported = None;
    fixture.poll(Err("the broker does not answer".into()));
    assert_eq!(fixture.decided(Some(3)), 3);
    let condition = fixture.condition();
    assert_eq!((condition.active, condition.reason.name()), (false, "NoData"));
    assert!(condition.message.contains("the broker does not answer"), "{}", condition.message);
}

fn outage() -> kafka_poll::PollError {
    let outage = Failure::new(Reason::Trouble(Trouble::KafkaUnreachable), "k:1 refuses the connection");
    kafka_poll::PollError { message: "no answer".into(), outage: Some(outage) }
}

#[test]
fn reports_an_outage_and_its_end_at_once_without_rates_meanwhile() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    for _ in 0..4 {
        fixture.end += 500;
        fixture.poll_offsets(Ok((fixture.offsets(0), fixture.all_ends())));
    }
    assert_eq!(fixture.scaler.kafka(UID), KafkaHealth::Healthy);
    fixture.scaler.pipelines.lock().get_mut(UID).unwrap().reported = None;
    fixture.poll_offsets(Ok((fixture.offsets(0), fixture.all_ends())));
    assert!(fixture.scaler.report(UID).unwrap().events_per_second.is_some());
    let news = fixture.poll_offsets(Err(outage()));
    assert_eq!(news.len(), 1, "reported after one poll");
    assert!(matches!(fixture.scaler.kafka(UID), KafkaHealth::Unavailable(_)));
    let report = fixture.scaler.report(UID).unwrap();
    assert_eq!((report.events_per_second, report.lag()), (None, None));
    let condition = fixture.condition();
    assert_eq!((condition.active, condition.reason), (false, Reason::Trouble(Trouble::KafkaUnreachable)));
    assert!(condition.message.contains("k:1 refuses the connection"), "{}", condition.message);
    assert_eq!(fixture.poll_offsets(Ok((fixture.offsets(0), fixture.all_ends()))).len(), 1);
    assert_eq!(fixture.scaler.kafka(UID), KafkaHealth::Healthy);
}

#[test]
fn failed_poll_of_a_cluster_that_answers_is_no_outage() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    fixture.poll_offsets(Err(kafka_poll::PollError { message: "too slow".into(), outage: None }));
    assert_eq!(fixture.scaler.kafka(UID), KafkaHealth::Unknown);
    assert_eq!(fixture.condition().reason.name(), "NoData");
}

#[test]
fn reports_a_missing_topic_at_once() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    fixture.poll_offsets(Ok((fixture.offsets(0), fixture.all_ends())));
    let mut ends = fixture.all_ends();
    ends.retain(|(topic, _), _| topic != "shop.baselines");
    let news = fixture.poll_offsets(Ok((fixture.offsets(0), ends)));
    assert_eq!(news.len(), 1);
    assert_eq!(fixture.scaler.kafka(UID), KafkaHealth::TopicsMissing(["shop.baselines".to_owned()].into()));
}

#[test]
fn reports_a_pod_failure_at_once_and_ignores_other_numbers_in_its_message() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    let poll =
        |fixture: &mut Fixture| fixture.poll_offsets(Ok((fixture.offsets(0), fixture.all_ends()))).len();
    poll(&mut fixture);
    let report = |fixture: &Fixture, failures: &[(Reason, &str)]| {
        let failures =
            failures.iter().map(|(reason, message)| ("api".to_owned(), Failure::new(*reason, *message)));
        fixture.scaler.record_pod_health(UID, failures.collect(), Some(3));
    };
    report(&fixture, &[(Reason::Trouble(Trouble::DatabaseUnreachable), "tried 1 times")]);
    assert_eq!(poll(&mut fixture), 1);
    assert_eq!(fixture.scaler.report(UID).unwrap().alerts, Some(3));
    report(&fixture, &[(Reason::Trouble(Trouble::DatabaseUnreachable), "tried 2 times")]);
    assert_eq!(poll(&mut fixture), 0);
    assert_eq!(fixture.scaler.failures(UID)["api"].message, "tried 1 times");
    report(&fixture, &[(Reason::Trouble(Trouble::DatabaseRefused), "no such database")]);
    assert_eq!(poll(&mut fixture), 1);
    report(&fixture, &[]);
    assert_eq!(poll(&mut fixture), 1);
    assert!(fixture.scaler.failures(UID).is_empty());
}

#[test]
fn resumes_after_a_pause_with_replicas_for_the_lag() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    for _ in 0..12 {
        fixture.work(1000, 1000);
    }
    fixture.paused = true;
    fixture.reconcile(None);
    fixture.work(10_000, 0);
    assert_eq!((fixture.replicas, fixture.decided(Some(0))), (0, 0));
    fixture.paused = false;
    fixture.reconcile(None);
    assert_eq!(fixture.replicas, 0, "the next poll decides");
    fixture.work(10_000, 0);
    assert!(fixture.decided(Some(0)) >= 1);
}

#[test]
fn resumes_after_a_pause_with_fixed_replicas_in_recommend_mode() {
    let mut fixture = Fixture::new("{replicas: 3, scaling: {mode: Recommend, min: 1, max: 4}}");
    fixture.replicas = 3;
    fixture.reconcile(None);
    fixture.work(100, 100);
    fixture.paused = true;
    fixture.reconcile(None);
    fixture.work(100, 0);
    assert_eq!(fixture.replicas, 0);
    fixture.paused = false;
    for _ in 0..5 {
        fixture.reconcile(None);
        fixture.work(100, 100);
        assert_eq!(fixture.replicas, 3);
    }
}

#[test]
fn keeps_replicas_up_to_the_partitions_in_kafka() {
    let fixture = Fixture::new("{scaling: {min: 1, max: 50}}");
    let partition_counts = PartitionCounts::from([("shop.events".to_owned(), 24)]);
    let decided = |partition_counts| {
        fixture.scaler.replicas(
            UID,
            &fixture.plan(),
            &fixture.detector(),
            (Some(20), partition_counts),
            fixture.now,
        )
    };
    assert_eq!((decided(&partition_counts), decided(&PartitionCounts::new())), (20, 4));
}

#[test]
fn does_not_requeue_a_blocked_pipeline() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    while fixture.decided(Some(1)) == 1 {
        fixture.work(5000, 1000);
    }
    fixture.scaler.block(UID);
    let news = |fixture: &mut Fixture| {
        fixture.scaler.pipelines.lock().get_mut(UID).unwrap().reported = None;
        fixture.work(5000, 1000)
    };
    assert!(news(&mut fixture).is_empty());
    fixture.reconcile(None);
    assert!(fixture.replicas > 1 && !news(&mut fixture).is_empty());
}

#[test]
fn memory_survives_a_restart() {
    let mut fixture = Fixture::new("{scaling: {min: 1, max: 4}}");
    fixture.reconcile(None);
    for _ in 0..12 {
        fixture.work(5000, 1000);
        fixture.reconcile(None);
    }
    let report = fixture.scaler.report(UID).unwrap();
    let mut stage = StageStatus { name: "detector".into(), ..StageStatus::default() };
    report.stages[&StageId::Detector].write(&mut stage);
    assert!(stage.capacity.is_some(), "{stage:?}");
    let before = HerdPipelineStatus { stages: vec![stage.clone()], ..HerdPipelineStatus::default() };
    let mut again = Fixture { scaler: Scaler::default(), ..fixture };
    again.reconcile(Some(&before));
    again.work(0, 0);
    let mut after = StageStatus::default();
    again.scaler.report(UID).unwrap().stages[&StageId::Detector].write(&mut after);
    assert_eq!(after.capacity, stage.capacity);
    assert_eq!(after.last_scaling, stage.last_scaling);
}

#[test]
fn idle_group_is_not_polled_again() {
    let mut fixture = Fixture::new("{replicas: 1}");
    fixture.reconcile(None);
    let idle = |fixture: &Fixture| {
        fixture.scaler.idle_commits(UID, &StageId::Detector, &fixture.offsets(fixture.end))
    };
    fixture.work(100, 50);
    assert_eq!(idle(&fixture), None);
    fixture.work(0, 50);
    assert_eq!(idle(&fixture), Some(fixture.offsets(100)));
    fixture.end += 1;
    assert_eq!(idle(&fixture), None);
}

#[test]
fn event_rate_covers_the_last_30_seconds() {
    let mut rate = EventRate::default();
    let begun = WallTime(1_800_000_000_000);
    for poll in 0..20_u32 {
        let end = if poll < 10 { 0 } else { 500 * (i64::from(poll) - 9) };
        rate.push(begun.plus(POLL * poll), end);
    }
    assert_eq!(rate.per_second(), Some(100.0));
    // The topic was created again.
    rate.push(begun.plus(POLL * 20 + Duration::from_secs(1)), 3);
    assert_eq!(rate.per_second(), None);
}

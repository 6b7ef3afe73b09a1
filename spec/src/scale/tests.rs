//! The rule, poll by poll, on a stage that does as it is told.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::pipeline::{FloorSpec, ScalingMode, ScalingSpec, Span};
use crate::plan::StagePlan;
use crate::units::{Offset, Partition, Replicas, WallTime};

/// A stage that is polled every five seconds. Its pods are ready at once.
struct Scene {
    policy: Policy,
    history: History,
    memory: Memory,
    pods: Pods,
    now: WallTime,
    ends: Vec<f64>,
    done: Vec<f64>,
    busy: Option<f64>,
    stable: bool,
}

const PARTITIONS: usize = 12;

impl Scene {
    fn new(replicas: u32, scaling: ScalingSpec) -> Self {
        let stage = StagePlan { replicas, scaling: Some(scaling), resources: Default::default() };
        let source = Source::Topic { partitions: PARTITIONS as u32 };
        Self {
            policy: Policy::of(&stage, source, false),
            history: History::new(Reset::Earliest),
            memory: Memory::default(),
            pods: Pods { wanted: Replicas(replicas), ready: Replicas(replicas) },
            now: WallTime(1_800_000_000_000),
            ends: vec![0.0; PARTITIONS],
            done: vec![0.0; PARTITIONS],
            busy: None,
            stable: true,
        }
    }

    fn name(index: usize) -> PartitionName {
        PartitionName { topic: "shop.events".into(), partition: Partition(index as u32) }
    }

    fn seen(&self) -> Observation {
        let partition = |index: usize| PartitionProgress {
            name: Self::name(index),
            start: Offset(0),
            end: Offset(self.ends[index] as i64),
            committed: Some(Offset(self.done[index] as i64)),
        };
        let work = Work::Records((0..PARTITIONS).map(partition).collect());
        Observation { work, stable: self.stable, busy: self.busy }
    }

    /// Five seconds in which each partition gets `input` records a second and at most `output` of what waits is done.
    fn poll_each(&mut self, input: impl Fn(usize) -> f64, output: impl Fn(usize) -> f64) -> Decision {
        self.now = self.now.plus(POLL);
        for index in 0..PARTITIONS {
            self.ends[index] += 5.0 * input(index);
            self.done[index] = (self.done[index] + 5.0 * output(index)).min(self.ends[index]);
        }
        self.history.push(self.now, self.seen());
        self.decide()
    }

    /// The same for a load as a whole, with replicas that do `each` a second.
    fn poll(&mut self, input: f64, each: f64) -> Decision {
        let share = PARTITIONS as f64;
        let output = each * f64::from(self.pods.ready.0);
        let lag: f64 = self.ends.iter().zip(&self.done).map(|(end, done)| end - done).sum();
        self.busy = (self.pods.ready.0 > 0).then(|| ((lag / 5.0 + input) / output).min(1.0));
        self.poll_each(|_| input / share, |_| output / share)
    }

    /// Carries the decision out.
    fn decide(&mut self) -> Decision {
        let decision = decide(&self.policy, &self.history, self.pods, &self.memory, self.now);
        self.memory = decision.memory.clone();
        self.pods = Pods { wanted: decision.replicas, ready: decision.replicas };
        decision
    }

    fn polls(&mut self, seconds: u64, input: f64, each: f64) -> Vec<Decision> {
        (0..seconds / 5).map(|_| self.poll(input, each)).collect()
    }
}

fn last(decisions: &[Decision]) -> &Decision {
    decisions.last().unwrap()
}

#[test]
fn without_scaling_the_fixed_count_runs() {
    let stage = StagePlan { replicas: 3, scaling: None, resources: Default::default() };
    let policy = Policy::of(&stage, Source::Requests, false);
    let pods = Pods { wanted: Replicas(1), ready: Replicas(1) };
    let decision = decide(&policy, &History::default(), pods, &Memory::default(), WallTime(0));
    assert_eq!((decision.replicas, decision.reason), (Replicas(3), Reason::Fixed));
}

#[test]
fn a_paused_pipeline_stops_and_goes_on_with_as_many_as_wait_for() {
    let mut scene = Scene::new(4, ScalingSpec::default());
    scene.polls(120, 2000.0, 1000.0);
    scene.policy.paused = true;
    assert_eq!(scene.poll(2000.0, 1000.0).replicas, Replicas(0));
    scene.polls(60, 2000.0, 1000.0);
    scene.policy.paused = false;
    let decision = scene.poll(2000.0, 1000.0);
    assert!(matches!(decision.reason, Reason::Wake { .. }), "{}", decision.reason);
    assert!(decision.replicas >= Replicas(4), "{}", decision.replicas);
}

#[test]
fn more_replicas_want_one_more_look_and_only_one() {
    let mut scene = Scene::new(1, ScalingSpec::default());
    scene.polls(60, 500.0, 1000.0);
    let wanted: Vec<bool> = (0..6).map(|_| scene.poll(5000.0, 1000.0).wants_another_look()).collect();
    let first = wanted.iter().position(|wanted| *wanted).expect("never in doubt");
    assert!(scene.pods.wanted > Replicas(1));
    assert_eq!(wanted[first + 1..].iter().filter(|wanted| **wanted).count(), 0, "{wanted:?}");
}

#[test]
fn what_was_only_seen_to_be_done_is_no_limit() {
    let mut scene = Scene::new(1, ScalingSpec::default());
    for _ in 0..12 {
        scene.poll_each(|_| 10.0, |_| 1000.0);
    }
    for _ in 0..24 {
        let decision = scene.poll_each(|_| 100.0, |_| 1000.0);
        assert_eq!(decision.replicas, Replicas(1), "{}", decision.reason);
    }
}

#[test]
fn recommend_tells_and_changes_nothing() {
    let scaling = ScalingSpec { mode: ScalingMode::Recommend, ..ScalingSpec::default() };
    let mut scene = Scene::new(1, scaling);
    let all = scene.polls(120, 4000.0, 1000.0);
    assert!(all.iter().all(|decision| decision.replicas == Replicas(1)));
    assert!(last(&all).recommended > Replicas(4), "{:?}", last(&all).reason);
    assert!(scene.memory.last.is_none());
}

#[test]
fn off_leaves_every_count_alone() {
    let scaling = ScalingSpec { mode: ScalingMode::Off, max: 2, ..ScalingSpec::default() };
    let mut scene = Scene::new(5, scaling);
    assert_eq!(scene.poll(0.0, 1.0).replicas, Replicas(5));
}

#[test]
fn a_step_is_answered_within_ten_seconds_of_two_polls_that_see_it() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.polls(300, 800.0, 1000.0);
    let all = scene.polls(30, 4000.0, 1000.0);
    let first = all.iter().position(|decision| decision.replicas > Replicas(2)).unwrap();
    assert!(first <= 3, "only after {} s", 5 * (first + 1));
    assert!(all[first].replicas >= Replicas(4));
}

#[test]
fn capacity_is_what_a_replica_does_when_it_is_busy() {
    let mut scene = Scene::new(2, ScalingSpec { max: 2, ..ScalingSpec::default() });
    scene.polls(120, 1200.0, 1000.0);
    let known = scene.memory.capacity.unwrap();
    assert!(known.proven && (known.records_per_second - 1000.0).abs() < 20.0, "{known:?}");
    // Low traffic does not lower it.
    scene.polls(600, 3.0, 1000.0);
    let later = scene.memory.capacity.unwrap().records_per_second;
    assert!((later - known.records_per_second).abs() < 20.0, "{later}");
}

#[test]
fn without_data_nothing_is_taken_away() {
    let mut scene = Scene::new(6, ScalingSpec::default());
    scene.polls(280, 800.0, 1000.0);
    for _ in 0..60 {
        scene.now = scene.now.plus(POLL);
        scene.history.fail(scene.now, "the broker does not answer");
        let decision = scene.decide();
        assert_eq!((decision.replicas, decision.active), (Replicas(6), false));
    }
    // Data that is merely old does no more.
    let mut scene = Scene::new(6, ScalingSpec::default());
    scene.polls(600, 4000.0, 1000.0);
    scene.now = scene.now.plus(Duration::from_secs(400));
    let decision = scene.decide();
    assert!(matches!(decision.reason, Reason::NoData { .. }), "{}", decision.reason);
}

#[test]
fn nothing_is_taken_away_before_the_stabilisation_time_and_at_most_half_each_time() {
    let mut scene = Scene::new(12, ScalingSpec::default());
    scene.polls(60, 8000.0, 1000.0);
    let mut before = Replicas(12);
    let mut lowered = Vec::new();
    for second in (5..1800_u64).step_by(5) {
        let decision = scene.poll(500.0, 1000.0);
        if decision.replicas < before {
            assert!(decision.replicas.0 >= before.0.div_ceil(2), "{} → {}", before, decision.replicas);
            lowered.push(second);
        }
        before = decision.replicas;
    }
    assert_eq!(before, Replicas(1));
    assert!(lowered[0] >= 300, "{lowered:?}");
    assert!(lowered.windows(2).all(|pair| pair[1] - pair[0] >= 300), "{lowered:?}");
}

#[test]
fn an_idle_stage_sleeps_and_wakes_within_one_poll_with_as_many_as_it_takes() {
    let mut scene = Scene::new(2, ScalingSpec { min: 0, ..ScalingSpec::default() });
    scene.polls(300, 1200.0, 1000.0);
    let all = scene.polls(1800, 0.0, 1000.0);
    assert_eq!(last(&all).reason, Reason::Asleep);
    let decision = scene.poll(4000.0, 1000.0);
    assert!(matches!(decision.reason, Reason::Wake { .. }), "{}", decision.reason);
    assert!(decision.replicas >= Replicas(6), "{}", decision.replicas);
}

#[test]
fn one_record_wakes_and_transaction_markers_do_not_keep_awake() {
    let mut scene = Scene::new(1, ScalingSpec { min: 0, ..ScalingSpec::default() });
    scene.poll(1200.0, 1000.0);
    // Each partition ends with a marker that no reader ever commits.
    scene.ends.iter_mut().zip(&scene.done).for_each(|(end, done)| *end = done + 2.0);
    let still = |scene: &mut Scene| scene.poll_each(|_| 0.0, |_| 0.0);
    for _ in 0..100 {
        still(&mut scene);
    }
    assert_eq!(still(&mut scene).reason, Reason::Asleep);
    // The memory survives a restart, and with it up to where everything was done.
    let kept = serde_json::to_string(&scene.memory).unwrap();
    scene.memory = serde_json::from_str(&kept).unwrap();
    scene.history = History::new(Reset::Earliest);
    scene.ends[3] += 1.0;
    assert_eq!(still(&mut scene).replicas, Replicas(1));
}

#[test]
fn a_partition_that_stands_still_is_reported_and_not_chased() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.busy = Some(0.6);
    let all: Vec<_> =
        (0..120).map(|_| scene.poll_each(|_| 100.0, |index| if index == 3 { 0.0 } else { 100.0 })).collect();
    let stuck = Scene::name(3);
    let found = &last(&all).findings;
    assert!(
        matches!(found.as_slice(), [Finding::StuckPartition { partition, .. }] if *partition == stuck),
        "{found:?}"
    );
    assert!(last(&all).reason.to_string().contains("records/s come in"), "{}", last(&all).reason);
    assert!(all.iter().all(|decision| decision.replicas <= Replicas(4)));
}

#[test]
fn a_partition_that_is_too_hot_is_reported_and_not_chased() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.memory.capacity = Some(Capacity { records_per_second: 1000.0, proven: true });
    scene.busy = Some(0.6);
    let input = |index: usize| if index == 0 { 1500.0 } else { 20.0 };
    let all: Vec<_> = (0..60).map(|_| scene.poll_each(input, |index| input(index).min(1000.0))).collect();
    let hot = |one: &Finding| matches!(one, Finding::HotPartition { partition, .. } if *partition == Scene::name(0));
    assert!(last(&all).findings.iter().any(hot), "{:?}", last(&all).findings);
    assert!(last(&all).replicas <= Replicas(2), "{}", last(&all).reason);
}

#[test]
fn replicas_that_raise_nothing_are_the_last_that_are_added() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.polls(120, 1000.0, 1000.0);
    // What comes after the stage takes 2,000 a second, however many replicas there are.
    let capped = |scene: &mut Scene| {
        let each = 2000.0 / f64::from(scene.pods.ready.0);
        scene.poll(5000.0, each)
    };
    let all: Vec<_> = (0..100).map(|_| capped(&mut scene)).collect();
    let bound = |one: &Finding| matches!(one, Finding::DownstreamBound { .. });
    assert!(last(&all).findings.iter().any(bound), "{:?} {}", last(&all).findings, last(&all).reason);
    assert!(matches!(last(&all).reason, Reason::DownstreamBound { .. }), "{}", last(&all).reason);
    let added = all.windows(2).filter(|pair| pair[1].replicas > pair[0].replicas).count();
    assert!(added <= 1, "added {added} times");
}

#[test]
fn replicas_with_which_less_is_done_go_again() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.polls(120, 1000.0, 1000.0);
    let worse = |scene: &mut Scene| {
        let ready = f64::from(scene.pods.ready.0);
        scene.poll(5000.0, if ready > 2.0 { 1500.0 / ready } else { 1000.0 })
    };
    let all: Vec<_> = (0..60).map(|_| worse(&mut scene)).collect();
    let back = all.iter().find(|decision| matches!(decision.reason, Reason::GoBack { .. })).unwrap();
    assert_eq!(back.replicas, Replicas(2));
    assert!(back.reason.to_string().contains("1,500"), "{}", back.reason);
}

#[rstest]
#[case::above_max(ScalingSpec { max: 4, ..ScalingSpec::default() }, 9, 4)]
#[case::above_partitions(ScalingSpec { max: 100, ..ScalingSpec::default() }, 40, 12)]
#[case::below_min(ScalingSpec { min: 3, ..ScalingSpec::default() }, 1, 3)]
#[case::below_floor(
    ScalingSpec {
        floors: vec![FloorSpec {
            schedule: "* * * * *".into(), lasts: Span::secs(120), min: 5, time_zone: "UTC".into(),
        }],
        ..ScalingSpec::default()
    },
    2,
    5
)]
#[case::pause_up_below_min(ScalingSpec { min: 3, pause_up: true, ..ScalingSpec::default() }, 1, 3)]
fn a_count_out_of_bounds_is_put_right_at_once_even_without_data(
    #[case] scaling: ScalingSpec,
    #[case] replicas: u32,
    #[case] expected: u32,
) {
    let mut scene = Scene::new(replicas, scaling);
    scene.history.fail(scene.now, "the broker does not answer");
    assert_eq!(scene.decide().replicas, Replicas(expected));
}

#[test]
fn pauses_hold_one_direction_each() {
    let mut scene = Scene::new(2, ScalingSpec { pause_up: true, ..ScalingSpec::default() });
    let all = scene.polls(300, 4000.0, 1000.0);
    assert!(matches!(last(&all).reason, Reason::PausedUp { .. }), "{}", last(&all).reason);
    let mut scene = Scene::new(8, ScalingSpec { pause_down: true, ..ScalingSpec::default() });
    scene.polls(100, 5000.0, 1000.0);
    let all = scene.polls(900, 500.0, 1000.0);
    assert!(matches!(last(&all).reason, Reason::PausedDown { .. }), "{}", last(&all).reason);
    assert_eq!(scene.pods.wanted, Replicas(8));
}

#[test]
fn what_a_step_brought_is_not_taken_away_by_rates_from_before_it() {
    let stabilisation = Span::secs(30);
    let mut scene = Scene::new(1, ScalingSpec { stabilisation, max: 12, ..ScalingSpec::default() });
    scene.polls(120, 400.0, 1000.0);
    let mut running = scene.pods.wanted;
    for decision in scene.polls(300, 3000.0, 1000.0) {
        assert!(decision.replicas >= running, "{running} → {}: {}", decision.replicas, decision.reason);
        running = decision.replicas;
    }
    assert_eq!(running, Replicas(6));
}

#[test]
fn what_has_no_room_goes_once_it_is_not_needed() {
    for ready in [8, 3] {
        let mut scene = Scene::new(12, ScalingSpec { max: 12, ..ScalingSpec::default() });
        scene.polls(60, 1000.0, 1000.0);
        let pending = Pods { wanted: Replicas(12), ready: Replicas(ready) };
        let polls_until_fewer = (0..200).position(|_| {
            scene.pods = pending;
            scene.poll(500.0, 1000.0).replicas < Replicas(12)
        });
        // The five minutes of looking back, and where fewer are ready than shall stay, those of giving them up; here they coincide.
        let polls = polls_until_fewer.expect("twelve are asked for, for ever");
        assert!(polls >= 45, "{polls} with {ready} ready");
    }
}

#[test]
fn who_wakes_gets_its_least_although_no_more_may_be_added() {
    let mut scene = Scene::new(4, ScalingSpec { pause_up: true, ..ScalingSpec::default() });
    scene.polls(120, 2000.0, 1000.0);
    scene.policy.paused = true;
    scene.polls(120, 2000.0, 1000.0);
    assert_eq!(scene.pods.wanted, Replicas(0));
    scene.policy.paused = false;
    let decision = scene.poll(2000.0, 1000.0);
    assert_eq!(decision.replicas, Replicas(1), "{}", decision.reason);
}

#[test]
fn who_serves_requests_never_sleeps() {
    let scaling = ScalingSpec { min: 0, ..ScalingSpec::default() };
    let stage = StagePlan { replicas: 0, scaling: Some(scaling.clone()), resources: Default::default() };
    let policy = Policy::of(&stage, Source::Requests, false);
    assert_eq!(policy.bounds(&scaling, WallTime(0)).0, Replicas(1));
    assert_eq!(policy.initial(WallTime(0)), Replicas(1));
}

#[test]
fn nothing_is_changed_while_replicas_start_or_partitions_move() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.polls(60, 1000.0, 1000.0);
    scene.stable = false;
    let all = scene.polls(60, 5000.0, 1000.0);
    assert_eq!(last(&all).reason, Reason::Rebalancing);
    scene.stable = true;
    scene.pods.ready = Replicas(1);
    let decision = scene.poll(5000.0, 1000.0);
    assert_eq!(decision.reason, Reason::NotReady { ready: Replicas(1), wanted: Replicas(2) });
}

#[test]
fn requests_are_served_with_room() {
    let stage =
        StagePlan { replicas: 2, scaling: Some(ScalingSpec::default()), resources: Default::default() };
    let policy = Policy::of(&stage, Source::Requests, false);
    let (mut history, mut memory) = (History::default(), Memory::default());
    let (mut pods, mut served) = (Pods { wanted: Replicas(2), ready: Replicas(2) }, 0.0);
    for poll in 1..60_u64 {
        let input: f64 = if poll < 20 { 1000.0 } else { 5000.0 };
        let possible = 1000.0 * f64::from(pods.ready.0);
        served += 5.0 * input.min(possible);
        let busy = Some((input / possible).min(1.0));
        let now = WallTime(0).plus(POLL * u32::try_from(poll).unwrap());
        history.push(now, Observation { work: Work::Requests(served as u64), stable: true, busy });
        let decision = decide(&policy, &history, pods, &memory, now);
        memory = decision.memory;
        pods = Pods { wanted: decision.replicas, ready: decision.replicas };
    }
    // 5,000 a second of 1,000 each at 70 %: eight, and no more than what half-used room lets pass.
    assert!((6..=9).contains(&pods.wanted.0), "{}", pods.wanted);
}

#[test]
fn a_restart_forgets_nothing_that_was_learnt_and_takes_nothing_away_in_haste() {
    let mut scene = Scene::new(8, ScalingSpec::default());
    scene.polls(290, 2000.0, 1000.0);
    let kept = serde_json::to_string(&scene.memory).unwrap();
    scene.memory = serde_json::from_str(&kept).unwrap();
    scene.history = History::new(Reset::Earliest);
    assert!(scene.memory.capacity.is_some());
    let all = scene.polls(290, 2000.0, 1000.0);
    assert!(all.iter().all(|decision| decision.replicas == Replicas(8)), "{}", last(&all).reason);
}

#[test]
fn a_group_that_never_committed_begins_where_it_is_told_to() {
    for (reset, expected) in [(Reset::Earliest, 130), (Reset::Latest, 30)] {
        let mut history = History::new(reset);
        for poll in 0..4_i64 {
            let progress = PartitionProgress {
                name: Scene::name(0),
                start: Offset(0),
                end: Offset(100 + 10 * poll),
                committed: None,
            };
            let work = Work::Records(vec![progress]);
            history.push(WallTime(5000 * poll), Observation { work, stable: true, busy: None });
        }
        assert_eq!(Signals::of(&history).unwrap().lag, expected);
    }
}

#[test]
fn reasons_are_sentences_with_numbers() {
    let mut scene = Scene::new(2, ScalingSpec::default());
    scene.polls(300, 800.0, 1000.0);
    let pods = scene.pods;
    let all = scene.polls(20, 4000.0, 1000.0);
    let up = all.iter().find(|decision| decision.replicas > pods.wanted).unwrap();
    let said = up.sentence(pods);
    assert!(said.starts_with("2 → ") && said.contains("records"), "{said}");
    assert_eq!(
        Reason::AtMost { most: Replicas(4), lag: 1_234_567, delay: Some(Duration::from_secs(90)) }
            .to_string(),
        "all 4 that may run do, and 1,234,567 records wait for 1m30s"
    );
}

fn any_scaling() -> impl Strategy<Value = ScalingSpec> {
    (0_u32..4, 1_u32..20, 0.1_f64..1.0, any::<(bool, bool, bool)>(), 0_u64..400).prop_map(
        |(min, more, utilisation, (align, pause_up, pause_down), stabilisation)| ScalingSpec {
            min,
            max: min + more,
            utilisation,
            align,
            pause_up,
            pause_down,
            stabilisation: Span::secs(stabilisation),
            ..ScalingSpec::default()
        },
    )
}

/// What happens in a stretch of time: polls, load, speed of a replica, what is broken.
fn any_stretch() -> impl Strategy<Value = (u8, f64, f64, u8)> {
    (1_u8..40, 0.0_f64..20_000.0, 1.0_f64..2000.0, 0_u8..10)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_count_stays_within_bounds_and_falls_only_on_data(
        scaling in any_scaling(),
        replicas in 0_u32..30,
        stretches in proptest::collection::vec(any_stretch(), 1..8),
    ) {
        let mut scene = Scene::new(replicas, scaling.clone());
        let most = scaling.max.min(PARTITIONS as u32);
        let mut before = replicas;
        for (polls, input, each, trouble) in stretches {
            for _ in 0..polls {
                scene.stable = trouble != 1;
                let decision = if trouble == 0 {
                    scene.now = scene.now.plus(POLL);
                    scene.history.fail(scene.now, "the broker does not answer");
                    scene.decide()
                } else {
                    scene.poll(if trouble == 2 { 0.0 } else { input }, each)
                };
                let count = decision.replicas.0;
                prop_assert!(count <= most, "{count} of at most {most}");
                prop_assert!(count >= scaling.min.min(most), "{count} of at least {}", scaling.min);
                let in_bounds = before <= most && before >= scaling.min.min(most);
                if in_bounds && (trouble == 0 || trouble == 1) && before > 0 {
                    prop_assert!(count == before, "changed without rest: {}", decision.reason);
                }
                if in_bounds && count < before {
                    prop_assert!(!scaling.pause_down || matches!(decision.reason, Reason::GoBack { .. }), "{}", decision.reason);
                }
                if in_bounds && count > before {
                    prop_assert!(!scaling.pause_up, "{}", decision.reason);
                }
                prop_assert!(!decision.reason.to_string().is_empty());
                before = count;
            }
        }
    }

    #[test]
    fn the_same_arguments_give_the_same_decision(input in 0.0_f64..5000.0, each in 1.0_f64..2000.0) {
        let mut scene = Scene::new(3, ScalingSpec::default());
        scene.polls(100, input, each);
        let again = |scene: &Scene| decide(&scene.policy, &scene.history, scene.pods, &scene.memory, scene.now);
        prop_assert_eq!(again(&scene), again(&scene));
    }

    #[test]
    fn a_steady_load_comes_to_rest(input in 1.0_f64..8000.0, each in 700.0_f64..2000.0) {
        let mut scene = Scene::new(2, ScalingSpec::default());
        scene.polls(2400, input, each);
        let changes = scene.polls(3600, input, each);
        let counts: Vec<u32> = changes.iter().map(|decision| decision.replicas.0).collect();
        prop_assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
        if input < 11.0 * each {
            prop_assert!(changes.last().unwrap().signals.as_ref().unwrap().no_backlog());
        }
    }
}

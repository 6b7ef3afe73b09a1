//! The rule, poll by poll, on a stage that applies each decision at once.

mod properties;

use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::pipeline::{FloorSpec, ScalingMode, ScalingSpec, Span};
use crate::plan::StagePlan;
use crate::units::{Offset, Partition, Replicas, WallTime};

/// A stage that is polled every five seconds, and whose pods are ready at once.
struct Fixture {
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

impl Fixture {
    fn new(replicas: u32, scaling: ScalingSpec) -> Self {
        let stage =
            StagePlan { replicas, scaling: Some(scaling.try_into().unwrap()), resources: Default::default() };
        let source = Source::Topic { partitions: PARTITIONS as u32 };
        Self {
            policy: Policy::of(&stage, source, false),
            history: History::new(Reset::Earliest),
            memory: Memory::default(),
            pods: Pods { desired: Replicas(replicas), ready: Replicas(replicas) },
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

    fn observation(&self) -> Observation {
        let partition = |index: usize| PartitionProgress {
            name: Self::name(index),
            start: Offset(0),
            end: Offset(self.ends[index] as i64),
            committed: Some(Offset(self.done[index] as i64)),
        };
        let work = Work::Records((0..PARTITIONS).map(partition).collect());
        Observation { work, stable: self.stable, busy: self.busy }
    }

    /// Five seconds with `input` records per second on each partition, of which at most `output` are processed.
    fn poll_each(&mut self, input: impl Fn(usize) -> f64, output: impl Fn(usize) -> f64) -> Decision {
        self.now = self.now.plus(POLL);
        for index in 0..PARTITIONS {
            self.ends[index] += 5.0 * input(index);
            self.done[index] = (self.done[index] + 5.0 * output(index)).min(self.ends[index]);
        }
        self.history.push(self.now, self.observation());
        self.decide()
    }

    /// The same for the total load, with a capacity of `each` per replica.
    fn poll(&mut self, input: f64, each: f64) -> Decision {
        let share = PARTITIONS as f64;
        let output = each * f64::from(self.pods.ready.0);
        let lag: f64 = self.ends.iter().zip(&self.done).map(|(end, done)| end - done).sum();
        self.busy = (self.pods.ready.0 > 0).then(|| ((lag / 5.0 + input) / output).min(1.0));
        self.poll_each(|_| input / share, |_| output / share)
    }

    /// Decides, and applies the decision.
    fn decide(&mut self) -> Decision {
        let decision = decide(&self.policy, &self.history, self.pods, &self.memory, self.now);
        self.memory = decision.memory.clone();
        self.pods = Pods { desired: decision.replicas, ready: decision.replicas };
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
fn runs_fixed_replicas_without_scaling() {
    let stage = StagePlan { replicas: 3, scaling: None, resources: Default::default() };
    let policy = Policy::of(&stage, Source::Requests, false);
    let pods = Pods { desired: Replicas(1), ready: Replicas(1) };
    let decision = decide(&policy, &History::default(), pods, &Memory::default(), WallTime(0));
    assert_eq!((decision.replicas, decision.reason), (Replicas(3), Reason::Fixed));
}

#[test]
fn stops_when_paused_and_resumes_with_replicas_for_the_lag() {
    let mut fixture = Fixture::new(4, ScalingSpec::default());
    fixture.polls(120, 2000.0, 1000.0);
    fixture.policy.paused = true;
    assert_eq!(fixture.poll(2000.0, 1000.0).replicas, Replicas(0));
    fixture.polls(60, 2000.0, 1000.0);
    fixture.policy.paused = false;
    let decision = fixture.poll(2000.0, 1000.0);
    assert!(matches!(decision.reason, Reason::Wake { .. }), "{}", decision.reason);
    assert!(decision.replicas >= Replicas(4), "{}", decision.replicas);
}

#[test]
fn adding_replicas_needs_exactly_one_confirmation() {
    let mut fixture = Fixture::new(1, ScalingSpec::default());
    fixture.polls(60, 500.0, 1000.0);
    let wanted: Vec<bool> = (0..6).map(|_| fixture.poll(5000.0, 1000.0).needs_confirmation()).collect();
    let first = wanted.iter().position(|wanted| *wanted).expect("no decision needed confirmation");
    assert!(fixture.pods.desired > Replicas(1));
    assert_eq!(wanted[first + 1..].iter().filter(|wanted| **wanted).count(), 0, "{wanted:?}");
}

#[test]
fn unproven_capacity_does_not_add_replicas() {
    let mut fixture = Fixture::new(1, ScalingSpec::default());
    for _ in 0..12 {
        fixture.poll_each(|_| 10.0, |_| 1000.0);
    }
    for _ in 0..24 {
        let decision = fixture.poll_each(|_| 100.0, |_| 1000.0);
        assert_eq!(decision.replicas, Replicas(1), "{}", decision.reason);
    }
}

#[test]
fn recommend_mode_changes_nothing() {
    let scaling = ScalingSpec { mode: ScalingMode::Recommend, ..ScalingSpec::default() };
    let mut fixture = Fixture::new(1, scaling);
    let all = fixture.polls(120, 4000.0, 1000.0);
    assert!(all.iter().all(|decision| decision.replicas == Replicas(1)));
    assert!(last(&all).recommended > Replicas(4), "{:?}", last(&all).reason);
    assert!(fixture.memory.last.is_none());
}

#[test]
fn off_mode_keeps_any_number() {
    let scaling = ScalingSpec { mode: ScalingMode::Off, max: 2, ..ScalingSpec::default() };
    let mut fixture = Fixture::new(5, scaling);
    assert_eq!(fixture.poll(0.0, 1.0).replicas, Replicas(5));
}

#[test]
fn adds_replicas_within_four_polls_of_a_step() {
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.polls(300, 800.0, 1000.0);
    let all = fixture.polls(30, 4000.0, 1000.0);
    let first = all.iter().position(|decision| decision.replicas > Replicas(2)).unwrap();
    assert!(first <= 3, "only after {} s", 5 * (first + 1));
    assert!(all[first].replicas >= Replicas(4));
}

#[test]
fn capacity_is_learned_from_busy_replicas_only() {
    let mut fixture = Fixture::new(2, ScalingSpec { max: 2, ..ScalingSpec::default() });
    fixture.polls(120, 1200.0, 1000.0);
    let known = fixture.memory.capacity.unwrap();
    assert!(known.proven && (known.records_per_second - 1000.0).abs() < 20.0, "{known:?}");
    // Low traffic does not lower it.
    fixture.polls(600, 3.0, 1000.0);
    let later = fixture.memory.capacity.unwrap().records_per_second;
    assert!((later - known.records_per_second).abs() < 20.0, "{later}");
}

#[test]
fn removes_no_replicas_without_data() {
    let mut fixture = Fixture::new(6, ScalingSpec::default());
    fixture.polls(280, 800.0, 1000.0);
    for _ in 0..60 {
        fixture.now = fixture.now.plus(POLL);
        fixture.history.fail(fixture.now, "the broker does not answer");
        let decision = fixture.decide();
        assert_eq!((decision.replicas, decision.active), (Replicas(6), false));
    }
    // Nor with outdated data.
    let mut fixture = Fixture::new(6, ScalingSpec::default());
    fixture.polls(600, 4000.0, 1000.0);
    fixture.now = fixture.now.plus(Duration::from_secs(400));
    let decision = fixture.decide();
    assert!(matches!(decision.reason, Reason::NoData { .. }), "{}", decision.reason);
}

#[test]
fn removes_at_most_half_after_each_stabilisation_time() {
    let mut fixture = Fixture::new(12, ScalingSpec::default());
    fixture.polls(60, 8000.0, 1000.0);
    let mut before = Replicas(12);
    let mut lowered = Vec::new();
    for second in (5..1800_u64).step_by(5) {
        let decision = fixture.poll(500.0, 1000.0);
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
fn scales_to_zero_when_idle_and_wakes_within_one_poll_with_enough_replicas() {
    let mut fixture = Fixture::new(2, ScalingSpec { min: 0, ..ScalingSpec::default() });
    fixture.polls(300, 1200.0, 1000.0);
    let all = fixture.polls(1800, 0.0, 1000.0);
    assert_eq!(last(&all).reason, Reason::Asleep);
    let decision = fixture.poll(4000.0, 1000.0);
    assert!(matches!(decision.reason, Reason::Wake { .. }), "{}", decision.reason);
    assert!(decision.replicas >= Replicas(6), "{}", decision.replicas);
}

#[test]
fn one_record_wakes_a_stage_and_transaction_markers_do_not() {
    let mut fixture = Fixture::new(1, ScalingSpec { min: 0, ..ScalingSpec::default() });
    fixture.poll(1200.0, 1000.0);
    // Each partition ends with a marker that no reader ever commits.
    fixture.ends.iter_mut().zip(&fixture.done).for_each(|(end, done)| *end = done + 2.0);
    let still = |fixture: &mut Fixture| fixture.poll_each(|_| 0.0, |_| 0.0);
    for _ in 0..100 {
        still(&mut fixture);
    }
    assert_eq!(still(&mut fixture).reason, Reason::Asleep);
    // The memory survives a restart, and with it the processed end offsets.
    let kept = serde_json::to_string(&fixture.memory).unwrap();
    fixture.memory = serde_json::from_str(&kept).unwrap();
    fixture.history = History::new(Reset::Earliest);
    fixture.ends[3] += 1.0;
    assert_eq!(still(&mut fixture).replicas, Replicas(1));
}

#[test]
fn stuck_partition_is_reported_and_adds_no_replicas() {
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.busy = Some(0.6);
    let all: Vec<_> = (0..120)
        .map(|_| fixture.poll_each(|_| 100.0, |index| if index == 3 { 0.0 } else { 100.0 }))
        .collect();
    let stuck = Fixture::name(3);
    let found = &last(&all).findings;
    assert!(
        matches!(found.as_slice(), [Finding::StuckPartition { partition, .. }] if *partition == stuck),
        "{found:?}"
    );
    assert!(last(&all).reason.to_string().contains("input "), "{}", last(&all).reason);
    assert!(all.iter().all(|decision| decision.replicas <= Replicas(4)));
}

#[test]
fn hot_partition_is_reported_and_adds_no_replicas() {
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.memory.capacity = Some(Capacity { records_per_second: 1000.0, proven: true });
    fixture.busy = Some(0.6);
    let input = |index: usize| if index == 0 { 1500.0 } else { 20.0 };
    let all: Vec<_> = (0..60).map(|_| fixture.poll_each(input, |index| input(index).min(1000.0))).collect();
    let hot = |one: &Finding| matches!(one, Finding::HotPartition { partition, .. } if *partition == Fixture::name(0));
    assert!(last(&all).findings.iter().any(hot), "{:?}", last(&all).findings);
    assert!(last(&all).replicas <= Replicas(2), "{}", last(&all).reason);
}

#[test]
fn adds_no_more_replicas_after_some_did_not_raise_the_output() {
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.polls(120, 1000.0, 1000.0);
    // Downstream takes 2,000 records/s, whatever the number of replicas.
    let capped = |fixture: &mut Fixture| {
        let each = 2000.0 / f64::from(fixture.pods.ready.0);
        fixture.poll(5000.0, each)
    };
    let all: Vec<_> = (0..100).map(|_| capped(&mut fixture)).collect();
    let bound = |one: &Finding| matches!(one, Finding::DownstreamBound { .. });
    assert!(last(&all).findings.iter().any(bound), "{:?} {}", last(&all).findings, last(&all).reason);
    assert!(matches!(last(&all).reason, Reason::DownstreamBound { .. }), "{}", last(&all).reason);
    let added = all.windows(2).filter(|pair| pair[1].replicas > pair[0].replicas).count();
    assert!(added <= 1, "added {added} times");
}

#[test]
fn removes_replicas_that_lowered_the_output() {
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.polls(120, 1000.0, 1000.0);
    let worse = |fixture: &mut Fixture| {
        let ready = f64::from(fixture.pods.ready.0);
        fixture.poll(5000.0, if ready > 2.0 { 1500.0 / ready } else { 1000.0 })
    };
    let all: Vec<_> = (0..60).map(|_| worse(&mut fixture)).collect();
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
fn number_out_of_bounds_is_corrected_at_once_without_data(
    #[case] scaling: ScalingSpec,
    #[case] replicas: u32,
    #[case] expected: u32,
) {
    let mut fixture = Fixture::new(replicas, scaling);
    fixture.history.fail(fixture.now, "the broker does not answer");
    assert_eq!(fixture.decide().replicas, Replicas(expected));
}

#[test]
fn pause_up_and_pause_down_hold_one_direction_each() {
    let mut fixture = Fixture::new(2, ScalingSpec { pause_up: true, ..ScalingSpec::default() });
    let all = fixture.polls(300, 4000.0, 1000.0);
    assert!(matches!(last(&all).reason, Reason::PausedUp { .. }), "{}", last(&all).reason);
    let mut fixture = Fixture::new(8, ScalingSpec { pause_down: true, ..ScalingSpec::default() });
    fixture.polls(100, 5000.0, 1000.0);
    let all = fixture.polls(900, 500.0, 1000.0);
    assert!(matches!(last(&all).reason, Reason::PausedDown { .. }), "{}", last(&all).reason);
    assert_eq!(fixture.pods.desired, Replicas(8));
}

#[test]
fn replicas_added_for_a_step_are_not_removed_by_older_rates() {
    let stabilisation = Span::secs(30);
    let mut fixture = Fixture::new(1, ScalingSpec { stabilisation, max: 12, ..ScalingSpec::default() });
    fixture.polls(120, 400.0, 1000.0);
    let mut running = fixture.pods.desired;
    for decision in fixture.polls(300, 3000.0, 1000.0) {
        assert!(decision.replicas >= running, "{running} → {}: {}", decision.replicas, decision.reason);
        running = decision.replicas;
    }
    assert_eq!(running, Replicas(6));
}

#[test]
fn removes_unneeded_replicas_that_do_not_become_ready() {
    for ready in [8, 3] {
        let mut fixture = Fixture::new(12, ScalingSpec { max: 12, ..ScalingSpec::default() });
        fixture.polls(60, 1000.0, 1000.0);
        let pending = Pods { desired: Replicas(12), ready: Replicas(ready) };
        let polls_until_fewer = (0..200).position(|_| {
            fixture.pods = pending;
            fixture.poll(500.0, 1000.0).replicas < Replicas(12)
        });
        // The stabilisation time; and, where too few are ready, the maximum rescale time. Here both are five minutes.
        let polls = polls_until_fewer.expect("replicas are never removed");
        assert!(polls >= 45, "{polls} with {ready} ready");
    }
}

#[test]
fn wakes_to_min_replicas_with_pause_up() {
    let mut fixture = Fixture::new(4, ScalingSpec { pause_up: true, ..ScalingSpec::default() });
    fixture.polls(120, 2000.0, 1000.0);
    fixture.policy.paused = true;
    fixture.polls(120, 2000.0, 1000.0);
    assert_eq!(fixture.pods.desired, Replicas(0));
    fixture.policy.paused = false;
    let decision = fixture.poll(2000.0, 1000.0);
    assert_eq!(decision.replicas, Replicas(1), "{}", decision.reason);
}

#[test]
fn stage_that_serves_requests_keeps_one_replica() {
    let scaling = ScalingSpec { min: 0, ..ScalingSpec::default() };
    let stage = StagePlan {
        replicas: 0,
        scaling: Some(scaling.clone().try_into().unwrap()),
        resources: Default::default(),
    };
    let policy = Policy::of(&stage, Source::Requests, false);
    assert_eq!(policy.bounds(&scaling, WallTime(0)).0, Replicas(1));
    assert_eq!(policy.initial(WallTime(0)), Replicas(1));
}

#[test]
fn changes_nothing_while_replicas_start_or_the_group_rebalances() {
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.polls(60, 1000.0, 1000.0);
    fixture.stable = false;
    let all = fixture.polls(60, 5000.0, 1000.0);
    assert_eq!(last(&all).reason, Reason::Rebalancing);
    fixture.stable = true;
    fixture.pods.ready = Replicas(1);
    let decision = fixture.poll(5000.0, 1000.0);
    assert_eq!(decision.reason, Reason::NotReady { ready: Replicas(1), desired: Replicas(2) });
}

#[test]
fn scales_requests_with_headroom() {
    let stage = StagePlan {
        replicas: 2,
        scaling: Some(ScalingSpec::default().try_into().unwrap()),
        resources: Default::default(),
    };
    let policy = Policy::of(&stage, Source::Requests, false);
    let (mut history, mut memory) = (History::default(), Memory::default());
    let (mut pods, mut served) = (Pods { desired: Replicas(2), ready: Replicas(2) }, 0.0);
    for poll in 1..60_u64 {
        let input: f64 = if poll < 20 { 1000.0 } else { 5000.0 };
        let possible = 1000.0 * f64::from(pods.ready.0);
        served += 5.0 * input.min(possible);
        let busy = Some((input / possible).min(1.0));
        let now = WallTime(0).plus(POLL * u32::try_from(poll).unwrap());
        history.push(now, Observation { work: Work::Requests(served as u64), stable: true, busy });
        let decision = decide(&policy, &history, pods, &memory, now);
        memory = decision.memory;
        pods = Pods { desired: decision.replicas, ready: decision.replicas };
    }
    // 5,000/s with 1,000/s each at 70 % utilisation: eight, or fewer while half of the headroom suffices.
    assert!((6..=9).contains(&pods.desired.0), "{}", pods.desired);
}

#[test]
fn keeps_capacity_and_replicas_after_a_restart() {
    let mut fixture = Fixture::new(8, ScalingSpec::default());
    fixture.polls(290, 2000.0, 1000.0);
    let kept = serde_json::to_string(&fixture.memory).unwrap();
    fixture.memory = serde_json::from_str(&kept).unwrap();
    fixture.history = History::new(Reset::Earliest);
    assert!(fixture.memory.capacity.is_some());
    let all = fixture.polls(290, 2000.0, 1000.0);
    assert!(all.iter().all(|decision| decision.replicas == Replicas(8)), "{}", last(&all).reason);
}

#[test]
fn group_without_commits_starts_at_its_reset_position() {
    for (reset, expected) in [(Reset::Earliest, 130), (Reset::Latest, 30)] {
        let mut history = History::new(reset);
        for poll in 0..4_i64 {
            let progress = PartitionProgress {
                name: Fixture::name(0),
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
    let mut fixture = Fixture::new(2, ScalingSpec::default());
    fixture.polls(300, 800.0, 1000.0);
    let pods = fixture.pods;
    let all = fixture.polls(20, 4000.0, 1000.0);
    let up = all.iter().find(|decision| decision.replicas > pods.desired).unwrap();
    let sentence = up.sentence(pods);
    assert!(sentence.starts_with("2 → ") && sentence.contains(" records/s exceeds capacity "), "{sentence}");
    assert!(
        last(&all).sentence(fixture.pods).starts_with("keeping "),
        "{}",
        last(&all).sentence(fixture.pods)
    );
    assert_eq!(
        Reason::AtMost { max: Replicas(4), lag: 1_234_567, delay: Some(Duration::from_secs(90)) }.to_string(),
        "at the maximum of 4 replicas, with a lag of 1,234,567 records (delay 1m30s)"
    );
}

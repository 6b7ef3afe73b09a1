//! Fold and judge against crashes, zombies, slow members, sparse, idle and empty sources, from seeds: whatever happens,
//! the closed windows equal a recount of the events, and the alerts equal those of a run in which nothing happened.
//!
//! Here the pure parts are driven by hand, in every order the protocol allows; the workers that drive them over a bus have
//! tests of their own. A failing seed runs alone with `SEED=<n> cargo test -p herd-detector --test protocol`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]

mod plan;
mod script;
mod simulator;

use herd_detector::judge::watch::Watched;
use herd_detector::metric::Metrics;
use herd_spec::wire::AlertState;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use self::plan::plan;
use self::script::{Script, pick, script};
use self::simulator::{FoldMember, JudgeMember, Log, RunResult, Simulator};

fn run(seed: u64, script: &Script, faults: bool) -> RunResult {
    let plan = plan();
    let mut simulator = Simulator {
        random: SmallRng::seed_from_u64(seed ^ 0x5EED),
        metrics: Metrics::of(&plan),
        watched: Watched::all(&plan),
        plan,
        now: 1_800_000_000_000,
        events: vec![Log::new(); script.sources],
        parts: vec![Log::new(); script.judges],
        baselines: vec![Vec::new(); script.judges],
        fold_commits: vec![None; script.sources],
        judge_commits: vec![None; script.judges],
        outcome: RunResult::default(),
    };
    assert_eq!(simulator.plan.pipeline.as_str(), "proof");
    let mut folds: Vec<Option<FoldMember>> =
        (0..script.sources).map(|p| Some(simulator.fold_member(p))).collect();
    let mut judges: Vec<Option<JudgeMember>> =
        (0..script.judges).map(|q| Some(simulator.judge_member(q))).collect();
    let mut fold_back = vec![0; script.sources];
    let mut judge_back = vec![0; script.judges];
    let mut fold_zombies: Vec<(usize, FoldMember, i64)> = Vec::new();
    let mut judge_zombies: Vec<(usize, JudgeMember, i64)> = Vec::new();
    for second in 0..script.sends.len() + 500 {
        simulator.now += 1_000;
        let feeding = second < script.sends.len();
        for (source, event) in script.sends.get(second).into_iter().flatten() {
            simulator.events[*source].push(event.clone());
        }
        let crash = if faults && feeding { script.crash * 0.1 } else { 0.0 };
        for place in 0..script.sources {
            let Some(mut member) = folds[place].take() else {
                if second as i64 >= fold_back[place] {
                    folds[place] = Some(simulator.fold_member(place));
                }
                continue;
            };
            let mut gone = false;
            for _ in 0..simulator.random.random_range(if faults { 0..40 } else { 30..40 }) {
                simulator.fold_step(place, &mut member);
                gone = simulator.random.random_bool(crash);
                if gone {
                    break;
                }
            }
            if !gone {
                folds[place] = Some(member);
                continue;
            }
            fold_back[place] = second as i64 + *pick(&mut simulator.random, &[0, 1, 5, 60]);
            if simulator.random.random_bool(0.4) {
                member.zombie = true;
                let until = second as i64 + simulator.random.random_range(1..20);
                fold_zombies.push((place, member, until));
            }
        }
        for place in 0..script.judges {
            let Some(mut member) = judges[place].take() else {
                if second as i64 >= judge_back[place] {
                    judges[place] = Some(simulator.judge_member(place));
                }
                continue;
            };
            let mut gone = false;
            for _ in 0..simulator.random.random_range(if faults { 0..40 } else { 30..40 }) {
                simulator.judge_step(place, &mut member);
                gone = simulator.random.random_bool(crash);
                if gone {
                    break;
                }
            }
            if !gone {
                judges[place] = Some(member);
                continue;
            }
            judge_back[place] = second as i64 + *pick(&mut simulator.random, &[0, 1, 5, 60]);
            if simulator.random.random_bool(0.4) {
                member.zombie = true;
                let until = second as i64 + simulator.random.random_range(1..20);
                judge_zombies.push((place, member, until));
            }
        }
        fold_zombies.retain(|(_, _, until)| second as i64 <= *until);
        judge_zombies.retain(|(_, _, until)| second as i64 <= *until);
        for (place, member, _) in &mut fold_zombies {
            for _ in 0..simulator.random.random_range(0..10) {
                simulator.fold_step(*place, member);
            }
        }
        for (place, member, _) in &mut judge_zombies {
            for _ in 0..simulator.random.random_range(0..10) {
                simulator.judge_step(*place, member);
            }
        }
    }
    simulator.outcome
}

fn check(seed: u64) -> Result<(usize, usize), String> {
    let script = script(seed);
    let calm = run(seed, &script, false);
    let faulty = run(seed, &script, true);
    for (name, outcome) in [("calm", &calm), ("faulty", &faulty)] {
        if let Some(clash) = outcome.clashes.first() {
            return Err(format!("seed {seed}, {name}: {clash}"));
        }
        if outcome.windows != script.expected {
            let wrong =
                script.expected.iter().find(|(window, count)| outcome.windows.get(*window) != Some(count));
            let extra = outcome.windows.keys().find(|window| !script.expected.contains_key(*window));
            return Err(format!(
                "seed {seed}, {name}: of {} windows, wrong {wrong:?} (closed as {:?}), extra {extra:?}",
                script.expected.len(),
                wrong.and_then(|(window, _)| outcome.windows.get(window)),
            ));
        }
    }
    let shown = |outcome: &RunResult| -> Vec<(AlertState, String)> {
        let all = outcome.alerts.values().filter(|(state, _)| *state != AlertState::Withdrawn);
        let mut all: Vec<_> = all.cloned().collect();
        all.sort_by(|a, b| a.1.cmp(&b.1));
        all
    };
    let (calm_alerts, faulty_alerts) = (shown(&calm), shown(&faulty));
    if calm_alerts != faulty_alerts {
        let only = |a: &[(AlertState, String)], b: &[(AlertState, String)]| -> Vec<_> {
            a.iter().filter(|alert| !b.contains(alert)).take(3).cloned().collect()
        };
        return Err(format!(
            "seed {seed}: alerts differ: calm only {:?}, faulty only {:?}",
            only(&calm_alerts, &faulty_alerts),
            only(&faulty_alerts, &calm_alerts)
        ));
    }
    Ok((script.expected.len(), calm_alerts.len()))
}

#[test]
fn windows_and_alerts_are_the_same_with_and_without_faults() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..std::env::var("SEEDS").map_or(300, |n| n.parse().expect("SEEDS is a number")),
    };
    let (mut windows, mut alerts, mut failures) = (0, 0, Vec::new());
    let count = seeds.end - seeds.start;
    for seed in seeds {
        match check(seed) {
            Ok((w, a)) => {
                windows += w;
                alerts += a;
            }
            Err(failure) => failures.push(failure),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {count} seeds fail, first: {:#?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert!(
        count < 100 || (windows > 10_000 && alerts > 500),
        "the seeds prove little: {windows} windows, {alerts} alerts"
    );
}

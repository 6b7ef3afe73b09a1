//! Exactly once, under faults by the thousand: the real collector core, fold, judge and sinks run on a simulated bus, step by
//! step, while members die, join, stand still and write on after they were taken for dead, while acknowledgements are lost
//! and records come late and twice. Whatever happens, every accepted event is stored once, every window closes as a recount
//! says, and the alerts are those that follow from the windows.
//!
//! | file | what it is |
//! |---|---|
//! | `scenario` | what a seed stands for |
//! | `run` | the members, stepped; `clock` is theirs, `tables` the store, `plan` the pipeline |
//! | `checker` | what must have come of it; `../oracle` works the alerts out |
//! | `change` | the spec changed while all that happens, and what must come of that |
//! | `mutant` | the rules of the protocol, each broken once: the seeds must notice |
//! | `shrink` | a failing scenario made smaller |
//!
//! `make simulate SEEDS=1000000` runs more of them (from `FROM`, for at most `MINUTES`), `make simulate SEED=7` one alone,
//! `MUTANT=WatermarksFirst` with a broken rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

mod change;
mod checker;
mod clock;
mod growth;
mod mutant;
#[path = "../oracle/mod.rs"]
mod oracle;
mod plan;
mod run;
mod scenario;
mod shrink;
mod tables;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checker::{CrowdsChecked, Finding};
use mutant::Mutant;
use scenario::{Fault, Scenario};
use tokio::runtime::{Handle, Runtime};

/// What the seeds amount to.
#[derive(Debug, Default)]
struct Tally {
    events: usize,
    windows: usize,
    alerts: usize,
    /// Users whose statistics were worked out by SQL.
    users: usize,
    troubles: usize,
    /// Alerts of detectors that look at all keys of a partition, and how many of them could be checked: not those after a window of
    /// which nobody knows with what it closed, because events came too late for any promise.
    crowds: usize,
    crowds_checked: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        let Self { events, windows, alerts, users, troubles, crowds, crowds_checked } = other;
        self.events += events;
        self.windows += windows;
        self.alerts += alerts;
        self.users += users;
        self.troubles += troubles;
        self.crowds += crowds;
        self.crowds_checked += crowds_checked;
    }
}

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name)
        .ok()
        .filter(|n| !n.is_empty())
        .map_or(or, |n| n.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {n}")))
}

/// Runs a scenario, and says what is wrong.
fn findings(
    scenario: &Scenario,
    mutant: Option<Mutant>,
    runtime: &Handle,
    tally: &mut Tally,
) -> Vec<Finding> {
    let is_changed = scenario.faults.iter().any(|fault| matches!(fault.what, Fault::Change(..)));
    let outcome = run::run(scenario, mutant, runtime);
    let (found, crowds) = if is_changed {
        (change::check(scenario, &outcome), CrowdsChecked::default())
    } else {
        checker::check(scenario, &outcome)
    };
    tally.add(&Tally {
        events: outcome.accepted.len(),
        windows: outcome.database.windows.len(),
        alerts: outcome.database.alerts.len(),
        users: outcome.database.users.as_ref().map_or(0, BTreeMap::len),
        troubles: outcome.log.len(),
        crowds: crowds.found,
        crowds_checked: crowds.checked,
    });
    found
}

/// Checks seeds on all cores until `deadline`: how many, and those that fail, with what is wrong, lowest first.
fn seeds(
    of: fn(u64) -> Scenario,
    seeds: std::ops::Range<u64>,
    mutant: Option<Mutant>,
    enough: usize,
    deadline: Option<Instant>,
) -> (u64, Tally, Vec<(u64, Vec<Finding>)>) {
    let runtime = Runtime::new().unwrap();
    let next = AtomicU64::new(seeds.start);
    let is_over = || deadline.is_some_and(|deadline| Instant::now() > deadline);
    let total = Mutex::new((Tally::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut tally = Tally::default();
                while !is_over() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || total.lock().unwrap().1.len() >= enough {
                        break;
                    }
                    let found = findings(&of(seed), mutant, runtime.handle(), &mut tally);
                    if !found.is_empty() {
                        total.lock().unwrap().1.push((seed, found));
                    }
                }
                total.lock().unwrap().0.add(&tally);
            });
        }
    });
    let (tally, mut failed) = total.into_inner().unwrap();
    failed.sort_by_key(|(seed, _)| *seed);
    (next.into_inner().min(seeds.end) - seeds.start, tally, failed)
}

/// What a failing seed comes down to.
fn report(of: fn(u64) -> Scenario, seed: u64, found: &[Finding], mutant: Option<Mutant>) -> String {
    let runtime = Runtime::new().unwrap();
    let scenario = of(seed);
    let kind = found[0].kind;
    let again = |scenario: &Scenario| findings(scenario, mutant, runtime.handle(), &mut Tally::default());
    let small =
        shrink::shrink(&scenario, |smaller| again(smaller).first().is_some_and(|found| found.kind == kind));
    let left = again(&small);
    let small_found = left.first().unwrap_or(&found[0]);
    format!(
        "seed {seed} (alone: make simulate SEED={seed}), {} findings, the first: {}\n  shrunk from {} sends and {} faults to {} and {} \
         ({} sources, {} judges, {:?} members, scale {}):\n    {small_found}\n    faults left: {:?}\n    fault_schedule left: {:?}, store {}",
        found.len(),
        found[0],
        scenario.sends.len(),
        scenario.faults.len(),
        small.sends.len(),
        small.faults.len(),
        small.sources,
        small.judges,
        small.members,
        small.scale,
        small.faults,
        small.fault_schedule,
        small.store,
    )
}

#[test]
fn counts_every_event_once_under_faults() {
    let from = number("FROM", 0);
    let range = match number("SEED", u64::MAX) {
        u64::MAX => from..from + number("SEEDS", 5_000),
        seed => seed..seed + 1,
    };
    let mutant = std::env::var("MUTANT").ok().filter(|name| !name.is_empty()).map(|name| {
        *Mutant::ALL
            .iter()
            .find(|mutant| format!("{mutant:?}") == name)
            .expect("MUTANT is one of Mutant::ALL")
    });
    let begun = Instant::now();
    let deadline = begun.checked_add(Duration::from_secs(60 * number("MINUTES", 24 * 60)));
    let (count, tally, failed) = seeds(Scenario::of, range, mutant, 20, deadline);
    eprintln!("{count} seeds in {:.1?}: {tally:?}, {} failed", begun.elapsed(), failed.len());
    if let Some((seed, found)) = failed.first() {
        let rest: Vec<_> = failed.iter().map(|(seed, found)| (*seed, found[0].kind)).collect();
        panic!(
            "{} of {count} seeds fail: {rest:?}\n{}",
            failed.len(),
            report(Scenario::of, *seed, found, mutant)
        );
    }
    let crowds = tally.crowds > 1_000 && tally.crowds_checked > tally.crowds * 4 / 5;
    assert!(
        count < 500
            || (tally.windows > 20_000
                && tally.alerts > 1_000
                && tally.users > 20
                && tally.troubles > 500
                && crowds),
        "the seeds prove little: {tally:?}"
    );
}

/// As many seeds with changes of the spec. `CHANGES=7` is one of them alone.
#[test]
fn counts_every_event_once_when_the_spec_changes() {
    let range = match number("CHANGES", u64::MAX) {
        u64::MAX => 0..number("SEEDS", 1_500),
        seed => seed..seed + 1,
    };
    let (count, tally, failed) = seeds(Scenario::changing, range, None, 20, None);
    eprintln!("{count} seeds with changes of the spec: {tally:?}, {} failed", failed.len());
    if let Some((seed, found)) = failed.first() {
        let rest: Vec<_> = failed.iter().map(|(seed, found)| (*seed, found[0].kind)).collect();
        panic!(
            "{} of {count} seeds fail: {rest:?}\n{}",
            failed.len(),
            report(Scenario::changing, *seed, found, None)
        );
    }
}

/// Seeds that found something, once: kept, however many seeds a run has.
/// - 0: a score that JSON cannot write (a value where it was always the same): the window never reached the store;
/// - 117: a key whose silence ended an alert and made it forgotten, in one closing: what was usual depended on timing;
/// - 351: a window that fired early and belongs to the episode of an older one: its early alert was never withdrawn;
/// - 804: an idle source vouched for windows whose parts it had not sent, since their metric was not due;
/// - 1002437: old windows of a forgotten key, replayed after their judge died, were judged against an empty memory.
const FOUND: [u64; 5] = [0, 117, 351, 804, 1_002_437];

#[test]
fn passes_seeds_that_once_failed() {
    for seed in FOUND {
        let (_, _, failed) = seeds(Scenario::of, seed..seed + 1, None, 1, None);
        assert!(failed.is_empty(), "{}", report(Scenario::of, seed, &failed[0].1, None));
    }
}

#[test]
fn a_seed_always_gives_the_same_run() {
    let runtime = Runtime::new().unwrap();
    for seed in 0..100 {
        let told = |_| {
            let outcome = run::run(&Scenario::of(seed), None, runtime.handle());
            outcome.topics.into_values().flatten().map(|record| (*record).clone()).collect::<Vec<_>>()
        };
        let [first, second] = [(); 2].map(told);
        let differs = first.iter().zip(&second).find(|(a, b)| a != b);
        assert!(differs.is_none() && first.len() == second.len(), "seed {seed}: {differs:?}");
    }
}

/// How many seeds may pass before a mutant is noticed.
const NOTICED: u64 = 300;

#[test]
fn notices_every_broken_rule() {
    let mut unnoticed = Vec::new();
    for mutant in Mutant::ALL {
        let of = if mutant.is_of_changes() { Scenario::changing } else { Scenario::of };
        let (_, _, failed) = seeds(of, 0..NOTICED, Some(mutant), 1, None);
        match failed.first() {
            Some((seed, found)) => eprintln!("{mutant:?}: seed {seed}, {:?}", found[0].kind),
            None => unnoticed.push(mutant),
        }
    }
    assert!(unnoticed.is_empty(), "not noticed in {NOTICED} seeds: {unnoticed:?}");
}

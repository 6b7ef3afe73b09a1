//! What Herd's rule must do on every load, whatever the seed; and how it compares.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use herd_bench_scaling::rules::{ALL, Herd};
use herd_bench_scaling::{Run, Trace, run, traces};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

fn ours(trace: &Trace, seed: u64) -> Run {
    run(trace, &mut Herd::new(trace), seed)
}

#[test]
fn every_count_is_within_bounds_on_every_load() {
    for trace in traces() {
        for seed in SEEDS {
            for (_, from, to) in ours(&trace, seed).score.changes {
                assert!(
                    to >= trace.min && to <= trace.max.min(trace.partitions()),
                    "{}: {from} → {to}",
                    trace.name
                );
            }
        }
    }
}

#[test]
fn no_record_is_lost_by_the_simulator() {
    for trace in traces().into_iter().filter(|trace| trace.poison.is_none()) {
        let counts: Vec<u64> =
            ALL.iter().map(|(_, make)| run(&trace, make(&trace).as_mut(), 1).score.records()).collect();
        assert!(counts.iter().all(|count| *count > 0), "{}: {counts:?}", trace.name);
    }
}

//! Times the rule `crowd`: `crowd_timing [KEYS]`. 1,000 windows of Poisson traffic with rates proportional to 1/rank over KEYS keys (default
//! 100,000) and as many events as keys; prints the shortest time of a block of 50 windows, per key and window, and the bytes a key takes.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

use std::time::{Duration, Instant};

use herd_detection::crowd::{Change, Direction, Episode, KeyState, Limit, Population, Settings};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Poisson};

const BLOCK: u32 = 50;

fn main() {
    let keys: usize = std::env::args().nth(1).map_or(100_000, |keys| keys.parse().unwrap());
    let limit = Limit::Budget(5.0);
    let settings = Settings { size_ms: 10_000, lag: 2, limit, direction: Direction::Up };
    let sum: f64 = (1..=keys).map(|rank| 1.0 / rank as f64).sum();
    let traffic: Vec<_> =
        (1..=keys).map(|rank| Poisson::new(keys as f64 / sum / rank as f64).unwrap()).collect();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut population = Population::new(1);
    let mut states: Vec<Option<KeyState>> = vec![None; keys];
    let mut episodes: Vec<Option<Box<Episode>>> = vec![None; keys];
    let (mut best, mut alerts) = ([f64::INFINITY; 2], 0u32);
    let mut block = ([Duration::ZERO; 2], 0usize);
    for index in 1..=1000 {
        let counts: Vec<(usize, u64)> = traffic
            .iter()
            .map(|traffic| traffic.sample(&mut rng) as u64)
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .collect();
        let total = counts.iter().map(|(_, count)| count).sum();
        let started = Instant::now();
        let mut closing = population.begin(index, total, &settings);
        for (key, count) in &counts {
            let state = states[*key].get_or_insert_with(|| KeyState::new(&population, index));
            state.take(&mut closing, &population, &settings, *count as f64, *count);
        }
        population.close(&closing, &settings);
        let taken = started.elapsed();
        for (key, _) in &counts {
            let Some(state) = &mut states[*key] else { continue };
            let score = state.score(&mut population, &settings, index);
            let change = Episode::observe(&mut episodes[*key], state, &population, index, &score);
            alerts += u32::from(change == Change::Began);
        }
        block.0[0] += taken;
        block.0[1] += started.elapsed() - taken;
        block.1 += counts.len();
        if index % BLOCK == 0 {
            for (best, spent) in best.iter_mut().zip(block.0) {
                *best = best.min(spent.as_nanos() as f64 / block.1 as f64);
            }
            block = ([Duration::ZERO; 2], 0);
        }
    }
    println!(
        "{keys} keys: taking in {:.0} ns, scoring {:.0} ns a key and window; {} bytes a key with two recent windows; {alerts} alerts",
        best[0],
        best[1],
        size_of::<KeyState>(),
    );
}

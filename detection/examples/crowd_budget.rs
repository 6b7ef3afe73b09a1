//! Measures how many alerts the rule `crowd` raises on generated traffic without a crowd, against its budget:
//! `crowd_budget [--windows N] [--seed N] [--budgets 1,5,50] [--partitions N] [KIND...]`.
//!
//! Prints, for each kind of traffic and budget, alerts a day after the first day of windows of 10 s, the threshold at the end, and
//! the time a key and window takes.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

use std::f64::consts::TAU;
use std::time::{Duration, Instant};

use herd_detection::crowd::{Change, Direction, Episode, KeyState, Limit, Population, Settings};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Gamma, Geometric, Poisson, Zipf};

const DAY: u32 = 8640;
const KINDS: [&str; 8] =
    ["poisson", "bursty", "daily-wave", "weekly", "outage", "baskets", "wandering", "few-keys"];

/// Traffic of one kind.
struct Traffic {
    kind: String,
    rates: Vec<f64>,
    /// Slowly moving factors of the keys' rates.
    factors: Vec<f64>,
    rng: SmallRng,
}

impl Traffic {
    fn new(kind: &str, seed: u64) -> Self {
        let keys: usize = if kind == "few-keys" { 4 } else { 300 };
        let weights: Vec<f64> = (1..=keys).map(|rank| 1.0 / rank as f64).collect();
        let sum: f64 = weights.iter().sum();
        let rates = weights.iter().map(|weight| 60.0 * weight / sum).collect();
        Self { kind: kind.to_owned(), rates, factors: vec![1.0; keys], rng: SmallRng::seed_from_u64(seed) }
    }

    fn window(&mut self, index: u32, counts: &mut Vec<(usize, u64)>) {
        counts.clear();
        let day = f64::from(index % DAY) / f64::from(DAY);
        let level = match self.kind.as_str() {
            "daily-wave" => 1.0 + 0.85 * (TAU * day).sin(),
            "weekly" => (1.0 + 0.7 * (TAU * day).sin()) * if index / DAY % 7 < 5 { 1.0 } else { 0.4 },
            "outage" if index % 3000 < 60 => 0.0,
            "outage" if index % 3000 < 90 => 3.0,
            _ => 1.0,
        };
        let gamma = Gamma::new(3.0, 1.0 / 3.0).unwrap();
        let size = Geometric::new(0.6).unwrap();
        let long = Zipf::new(30.0, 2.5).unwrap();
        for (key, rate) in self.rates.iter().enumerate() {
            let mut mean = rate * level;
            match self.kind.as_str() {
                "bursty" => mean *= gamma.sample(&mut self.rng),
                "wandering" => {
                    // An autoregressive logarithm with a standard deviation of 0.4 and a memory of 100 windows.
                    let noise: f64 = (0..4).map(|_| self.rng.random::<f64>()).sum::<f64>() - 2.0;
                    self.factors[key] = (self.factors[key].ln() * 0.99 + noise * 0.1).exp();
                    mean *= self.factors[key];
                }
                _ => {}
            }
            if mean <= 0.0 {
                continue;
            }
            let mut count = Poisson::new(mean).unwrap().sample(&mut self.rng) as u64;
            if self.kind == "baskets" {
                // Someone takes more than one at a time, and a few very many.
                count = (0..count)
                    .map(|_| 1 + size.sample(&mut self.rng) + long.sample(&mut self.rng) as u64 - 1)
                    .sum();
            }
            if count > 0 {
                counts.push((key, count));
            }
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut windows, mut seed, mut partitions) = (100_000u32, 1u64, 1usize);
    let (mut budgets, mut kinds) = (vec![1.0, 5.0, 50.0], Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--windows" => windows = arguments.next().unwrap().parse().unwrap(),
            "--seed" => seed = arguments.next().unwrap().parse().unwrap(),
            "--partitions" => partitions = arguments.next().unwrap().parse().unwrap(),
            "--budgets" => {
                budgets = arguments.next().unwrap().split(',').map(|one| one.parse().unwrap()).collect()
            }
            _ => kinds.push(argument),
        }
    }
    if kinds.is_empty() {
        kinds = KINDS.map(str::to_owned).to_vec();
    }
    for kind in kinds {
        for budget in &budgets {
            measure(&kind, *budget, windows, seed, partitions);
        }
    }
}

fn measure(kind: &str, budget: f64, windows: u32, seed: u64, partitions: usize) {
    let limit = Limit::Budget(budget / partitions as f64);
    let settings = Settings { size_ms: 10_000, lag: 2, limit, direction: Direction::Up };
    let mut traffic = Traffic::new(kind, seed);
    let mut populations: Vec<Population> = (0..partitions).map(|_| Population::new(1)).collect();
    let mut keys: Vec<Option<KeyState>> = vec![None; traffic.rates.len()];
    let mut episodes: Vec<Option<Box<Episode>>> = vec![None; traffic.rates.len()];
    let (mut counts, mut first, mut alerts, mut scored) = (Vec::new(), 0u32, 0u32, 0u64);
    let mut spent = Duration::ZERO;
    for index in 1..=windows {
        traffic.window(index, &mut counts);
        let started = Instant::now();
        let total = counts.iter().map(|(_, count)| count).sum();
        for (partition, population) in populations.iter_mut().enumerate() {
            let mut closing = population.begin(index, total, &settings);
            let own = || counts.iter().filter(|(key, _)| key % partitions == partition);
            for (key, count) in own() {
                let state = keys[*key].get_or_insert_with(|| KeyState::new(population, index));
                state.take(&mut closing, population, &settings, *count as f64, *count);
            }
            population.close(&closing, &settings);
            let silent = (0..keys.len()).filter(|key| {
                key % partitions == partition
                    && episodes[*key].is_some()
                    && counts.binary_search_by_key(key, |(key, _)| *key).is_err()
            });
            let silent: Vec<usize> = silent.collect();
            for key in own().map(|(key, _)| *key).chain(silent) {
                let Some(state) = &mut keys[key] else { continue };
                scored += 1;
                let score = state.score(population, &settings, index);
                if Episode::observe(&mut episodes[key], state, population, index, &score) == Change::Began {
                    if index <= DAY {
                        first += 1;
                    } else {
                        alerts += 1;
                    }
                }
            }
        }
        spent += started.elapsed();
    }
    let days = f64::from(windows.saturating_sub(DAY)) / f64::from(DAY);
    let threshold = populations[0].threshold(&settings, windows).unwrap_or(0.0);
    println!(
        "{kind:12} budget {budget:4}: {:6.2} a day, {first:3} on the first, threshold {threshold:.2}, {} ns a key and window",
        f64::from(alerts) / days,
        spent.as_nanos() / u128::from(scored.max(1)),
    );
}

//! How often the rule `level` raises news of a score on series without anomalies, against how often the score says:
//! `level_rates [KEYS [WINDOWS [SEED [DIRECTION]]]]`, DIRECTION 0 for both, 1 for up, 2 for down. A ratio of 1 is exact,
//! below 1 careful.

use std::env;
use std::error::Error;
use std::time::Instant;

use herd_detection::level::{Direction, Level, LevelRule};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Normal, Poisson, StandardNormal, StudentT};

/// Length of a window.
const SIZE_MS: u64 = 10_000;
/// The scores whose rates are measured.
const SCORES: [f64; 4] = [3.0, 4.0, 5.0, 6.0];
/// Where the ages begin whose rates are measured apart.
const AGES: [u64; 4] = [0, 1_000, 10_000, 100_000];

/// A kind of series.
type Next = Box<dyn FnMut(&mut StdRng, u64) -> f64>;

fn kind(name: &str) -> Result<Next, Box<dyn Error>> {
    let mut state = 0.0;
    Ok(match name {
        "normal" => Box::new(|rng, _| 100.0 + 5.0 * normal(rng)),
        "student t3" => {
            let distribution = StudentT::new(3.0)?;
            Box::new(move |rng, _| 100.0 + 5.0 * distribution.sample(rng))
        }
        "log-normal" => {
            let distribution = LogNormal::new(3.0, 1.0)?;
            Box::new(move |rng, _| distribution.sample(rng))
        }
        "AR(1) 0.9" => Box::new(move |rng, _| {
            state = 0.9 * state + normal(rng);
            50.0 + state
        }),
        "constant" => Box::new(|_, _| 7.0),
        "on/off" => Box::new(move |rng, _| {
            let change = if state > 0.5 { 0.02 } else { 0.005 };
            if rng.random_bool(change) {
                state = 1.0 - state;
            }
            100.0 * state + normal(rng)
        }),
        "counts" => {
            let distribution = Poisson::new(3.0)?;
            Box::new(move |rng, _| distribution.sample(rng))
        }
        "daily wave" => Box::new(|rng, window| {
            let angle = (window * SIZE_MS % 86_400_000) as f64 / 86_400_000.0 * std::f64::consts::TAU;
            100.0 + 60.0 * angle.sin() + 5.0 * normal(rng)
        }),
        "purchases" => {
            let distribution = LogNormal::new(3.0, 0.3)?;
            Box::new(move |rng, _| if rng.random_bool(0.005) { distribution.sample(rng) } else { 0.0 })
        }
        "rare purchases" => {
            let distribution = Normal::new(30.0, 5.0)?;
            Box::new(move |rng, _| if rng.random_bool(0.0005) { distribution.sample(rng) } else { 0.0 })
        }
        _ => return Err("no such kind".into()),
    })
}

fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

#[allow(clippy::print_stdout)] // its output
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<u64> = env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let keys = arguments.first().copied().unwrap_or(10);
    let windows = arguments.get(1).copied().unwrap_or(1_000_000);
    let seed = arguments.get(2).copied().unwrap_or(1);
    let direction = match arguments.get(3) {
        Some(1) => Direction::Up,
        Some(2) => Direction::Down,
        _ => Direction::Both,
    };
    println!(
        "{:16} {:>5} {}",
        "series",
        "ns",
        AGES.map(|age| format!("{:>34}", format!("from window {age}"))).concat()
    );
    for name in [
        "normal",
        "student t3",
        "log-normal",
        "AR(1) 0.9",
        "constant",
        "on/off",
        "counts",
        "daily wave",
        "purchases",
        "rare purchases",
    ] {
        let rule = LevelRule { direction, additive: true, threshold: 4.0 };
        let mut found = [[0_u64; SCORES.len()]; AGES.len()];
        let mut seen = [0_u64; AGES.len()];
        let began = Instant::now();
        for key in 0..keys {
            let mut rng = StdRng::seed_from_u64(seed * 1_000_003 + key);
            let mut next = kind(name)?;
            let mut level = Level::default();
            for window in 0..windows {
                let value = next(&mut rng, window);
                let said = level.observe(&rule, window * SIZE_MS, SIZE_MS, value);
                let age = AGES.iter().rposition(|age| window >= *age).unwrap_or(0);
                seen[age] += 1;
                for (count, score) in found[age].iter_mut().zip(SCORES) {
                    *count += u64::from(said.score >= score);
                }
            }
        }
        let took = began.elapsed().as_nanos() as f64 / (keys * windows) as f64;
        let mut line = format!("{name:16} {took:5.0} ");
        for (found, seen) in found.iter().zip(seen) {
            line += "  ";
            for (count, score) in found.iter().zip(SCORES) {
                line += &format!("{:8.2}", *count as f64 / (seen as f64 * 10f64.powf(-score)));
            }
        }
        println!("{line}");
    }
    Ok(())
}

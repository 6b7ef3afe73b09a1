//! Long traffic without a crowd, of four kinds in turn: steady, with rates that wander, with a daily wave, with outages.

use herd_backtest::{Backtest, BacktestResult};
use herd_spec::plan::Plan;
use herd_spec::wire::{AlertState, Window};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Gamma};

use crate::scenarios::{Shape, poisson, zipf};
use crate::traffic::{BASE, Event, Written};

/// Items.
const ITEMS: usize = 300;
/// Events of a window.
const RATE: f64 = 60.0;
const DAY: i64 = 86_400_000;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The same rates all the time.
    Steady,
    /// Each item's rate has a gamma factor (shape 3) of its own in each window.
    Bursty,
    /// A daily wave from 0.2 to 1.8 times the mean rate.
    DailyWave,
    /// Steady, but ten minutes a day without an event.
    Outages,
}

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 4] = [Self::Steady, Self::Bursty, Self::DailyWave, Self::Outages];

    /// Its name in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Bursty => "bursty",
            Self::DailyWave => "daily wave",
            Self::Outages => "outages",
        }
    }

    fn factor(self, of_day: i64) -> f64 {
        match self {
            Self::Steady | Self::Bursty => 1.0,
            Self::DailyWave => 1.0 + 0.8 * (std::f64::consts::TAU * of_day as f64 / DAY as f64).sin(),
            Self::Outages if of_day % DAY < 600_000 => 0.0,
            Self::Outages => 1.0,
        }
    }
}

/// Alerts of each detector of `plan` per day after the first day, over this many windows.
pub(crate) fn alerts_per_day(
    kind: Kind,
    plan: &Plan,
    windows: i64,
    shape: Shape,
) -> anyhow::Result<Vec<(String, f64)>> {
    let mut random = SmallRng::seed_from_u64(shape.seed);
    let shares = zipf(ITEMS, shape.zipf);
    let cumulated: Vec<f64> = shares
        .iter()
        .scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        })
        .collect();
    let items: Vec<String> = (0..ITEMS).map(|item| format!("item-{item}")).collect();
    let gamma = Gamma::new(3.0, 1.0 / 3.0)?;
    let mut backtest = Backtest::new(plan, |_: &Window<'_>| {});
    let mut written = Written::default();
    let (mut number, mut events) = (0_u64, Vec::new());
    for window in 0..windows {
        let start = BASE + window * shape.window;
        let rate = RATE * kind.factor((window * shape.window) % DAY);
        events.clear();
        let mut add = |random: &mut SmallRng, item: usize| {
            events.push(Event {
                time: start + random.random_range(0..shape.window),
                item: u32::try_from(item).unwrap_or(u32::MAX),
                user: random.random_range(0..20_000),
                country: random.random_range(0..5),
                device: random.random_range(0..3),
            });
        };
        if kind == Kind::Bursty {
            for (item, share) in shares.iter().enumerate() {
                let mean = rate * share * gamma.sample(&mut random);
                (0..poisson(&mut random, mean)).for_each(|_| add(&mut random, item));
            }
        } else {
            // The same distribution as a Poisson number for each item, at the cost of the events.
            for _ in 0..poisson(&mut random, rate) {
                let at: f64 = random.random();
                let item = cumulated.partition_point(|sum| *sum < at).min(ITEMS - 1);
                add(&mut random, item);
            }
        }
        events.sort_by_key(|event| event.time);
        for event in &events {
            number += 1;
            written.push(number, event, &items[event.item as usize], "view", &mut backtest)?;
        }
    }
    let end = backtest.end();
    let (BacktestResult { alerts, .. }, _) = backtest.finish(end)?;
    let days = (windows * shape.window - DAY) as f64 / DAY as f64;
    anyhow::ensure!(days > 0.0, "the quiet traffic lasts less than a day: give more --quiet-windows");
    let count = |name: &str| {
        let is_counted = |alert: &&herd_spec::wire::Alert| {
            alert.detector == name && alert.state != AlertState::Withdrawn && alert.start.0 >= BASE + DAY
        };
        alerts.iter().filter(is_counted).count() as f64 / days
    };
    Ok(plan
        .detectors
        .iter()
        .map(|detector| (detector.name.to_string(), count(detector.name.as_str())))
        .collect())
}

//! Ten kinds of traffic with crowds, and with what looks like one.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Gamma, Poisson};

use crate::traffic::{Origin, Traffic};

/// Items of ordinary popularity.
const ITEMS: usize = 300;
/// Views of all items in a window.
const RATE: f64 = 60.0;

/// What can be varied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Seed of the random numbers.
    pub(crate) seed: u64,
    /// Factor of all times, in windows.
    pub(crate) length: f64,
    /// Milliseconds of a window.
    pub(crate) window: i64,
    /// Exponent of the popularity of items.
    pub(crate) zipf: f64,
}

/// Popularity of items: the share of the `n`-th is proportional to `n^-exponent`.
pub(crate) fn zipf(items: usize, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> = (1..=items).map(|rank| (rank as f64).powf(-exponent)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// A Poisson number; 0 for a mean of 0.
pub(crate) fn poisson(random: &mut SmallRng, mean: f64) -> u32 {
    Poisson::new(mean).map_or(0, |poisson| poisson.sample(random) as u32)
}

struct Generator {
    random: SmallRng,
    shape: Shape,
    shares: Vec<f64>,
}

impl Generator {
    /// Traffic whose rate is that of all items times a factor for the window and the item.
    fn counts(
        &mut self,
        windows: usize,
        mut factor: impl FnMut(&mut SmallRng, usize) -> f64,
    ) -> Vec<Vec<u32>> {
        let Self { random, shares, .. } = self;
        (0..windows)
            .map(|window| {
                shares
                    .iter()
                    .map(|share| {
                        let factor = factor(random, window);
                        poisson(random, RATE * share * factor)
                    })
                    .collect()
            })
            .collect()
    }

    fn steady(&mut self, windows: usize) -> Vec<Vec<u32>> {
        self.counts(windows, |_, _| 1.0)
    }

    fn traffic(&mut self, name: &str, counts: Vec<Vec<u32>>) -> Traffic {
        let seed = self.random.random();
        Traffic::new(name, counts, self.shape.window, seed)
    }

    /// Adds about `events` to an item over `length` windows and labels them.
    fn crowd(
        &mut self,
        traffic: &mut Traffic,
        item: usize,
        from: usize,
        events: f64,
        length: usize,
        why: &str,
    ) {
        for counts in traffic.counts.iter_mut().skip(from).take(length) {
            counts[item] += poisson(&mut self.random, events / length as f64);
        }
        traffic.label(item, from, length, why);
    }
}

/// All scenarios.
pub(crate) fn all(shape: Shape) -> Vec<Traffic> {
    let random = SmallRng::seed_from_u64(shape.seed);
    let mut g = Generator { random, shape, shares: zipf(ITEMS, shape.zipf) };
    let t = |windows: usize| ((windows as f64) * shape.length).round() as usize;
    let mut all = Vec::new();

    // The same item four times.
    let counts = g.steady(t(900));
    let mut traffic = g.traffic("again", counts);
    for from in [200, 240, 280, 560] {
        g.crowd(&mut traffic, 17, t(from), 120.0, 2, "again");
    }
    all.push(traffic);

    // Items that did not exist before.
    let mut counts = g.steady(t(900));
    counts.iter_mut().for_each(|counts| counts.resize(ITEMS + 20, 0));
    let mut traffic = g.traffic("new-items", counts);
    for item in 0..20 {
        g.crowd(&mut traffic, ITEMS + item, t(100 + 35 * item), 60.0, 2, "new");
    }
    all.push(traffic);

    // Items with a view in five minutes.
    let mut counts = g.steady(t(1500));
    for counts in &mut counts {
        counts.extend((0..200).map(|_| poisson(&mut g.random, 1.0 / 30.0)));
    }
    let mut traffic = g.traffic("rare-items", counts);
    for item in 0..30 {
        g.crowd(&mut traffic, ITEMS + 6 * item, t(300 + 38 * item), 15.0, 2, "rare");
    }
    all.push(traffic);

    // A newsletter: everything grows to four times.
    let newsletter = t(400)..t(430);
    let counts = g.counts(t(900), |_, window| if newsletter.contains(&window) { 4.0 } else { 1.0 });
    let mut traffic = g.traffic("whole-site", counts);
    let global = (traffic.at(t(400)), traffic.at(t(432)));
    traffic.truth.global.push(global);
    all.push(traffic);

    // Three days of 600 windows, with a crowd in the last two nights.
    let day = t(600) as f64;
    let wave = |window: usize| {
        let phase = std::f64::consts::TAU * window as f64 / day;
        (60.0 * (0.6 + 0.5 * phase.sin()) * 1.6 + 2.0) / RATE
    };
    let counts = g.counts(t(1800), |_, window| wave(window));
    let mut traffic = g.traffic("daily-wave", counts);
    for night in [1, 2] {
        g.crowd(&mut traffic, 40, t(night * 600 + 450), 25.0, 2, "at night");
    }
    all.push(traffic);

    // No event for ten minutes.
    let mut counts = g.steady(t(900));
    counts[t(400)..t(460)].iter_mut().for_each(|counts| counts.fill(0));
    let mut traffic = g.traffic("outage", counts);
    let outage = (traffic.at(t(400)), traffic.at(t(462)));
    traffic.truth.global.push(outage);
    all.push(traffic);

    // The rate of each item wanders.
    let gamma = Gamma::new(3.0, 1.0 / 3.0).ok();
    let counts = g.counts(t(900), |random, _| gamma.map_or(1.0, |gamma| gamma.sample(random)));
    all.push(g.traffic("bursty", counts));

    // An item goes to another level and stays there.
    let mut counts = g.steady(t(1200));
    for counts in counts.iter_mut().skip(t(300)) {
        counts[50] += poisson(&mut g.random, 8.0);
    }
    let mut traffic = g.traffic("new-level", counts);
    traffic.label(50, t(300), 4, "new level");
    all.push(traffic);

    // A climb over half an hour, and a crowd from one country with one device.
    let mut counts = g.steady(t(1200));
    let (from, to) = (t(300), t(480));
    for (window, counts) in counts.iter_mut().enumerate().skip(from) {
        let climbed = ((window - from) as f64 / (to - from).max(1) as f64).min(1.0);
        counts[60] += poisson(&mut g.random, 12.0 * climbed);
    }
    let mut traffic = g.traffic("climb-and-country", counts);
    let begin = t(330);
    traffic.label(60, begin, t(480) - begin - 2, "climb");
    g.crowd(&mut traffic, 33, t(900), 80.0, 3, "one country, one device");
    traffic.origins.push((33, t(900)..t(900) + 3, Origin::Country(4, 2)));
    all.push(traffic);

    // Three users view one item.
    let mut counts = g.steady(t(900));
    let bot = t(500)..t(500) + 4;
    counts[bot.clone()].iter_mut().for_each(|counts| counts[70] += 50);
    let mut traffic = g.traffic("bot", counts);
    traffic.label(70, bot.start, 4, "bot: three users");
    traffic.origins.push((70, bot, Origin::Users(3)));
    all.push(traffic);
    all
}

//! Crowds added to real purchases.
//!
//! An open hour of the shop (20 purchases or more) becomes a window; items with 30 purchases or more are kept. A crowd brings 6, 12, 24
//! or 48 purchases more over 1, 3 or 8 windows to an item picked at random, in the last three quarters of the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::scenarios::{Shape, poisson};
use crate::traffic::Traffic;

/// Crowds that are added.
const CROWDS: usize = 480;
/// 2010-12-01, the second year of the purchases.
const SECOND_YEAR: i64 = 1_291_161_600_000;
const HOUR: i64 = 3_600_000;

/// A purchase of the file.
pub(crate) struct Purchase {
    pub(crate) time: i64,
    pub(crate) user: String,
    pub(crate) item: String,
    pub(crate) event: String,
}

/// Reads a file with the columns ts_ms, user, item, event.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Purchase>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let plain: Box<dyn Read> = if path.extension().is_some_and(|end| end == "gz") {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = csv::Reader::from_reader(plain);
    let header = reader.headers()?.clone();
    let place = |name: &str| {
        header
            .iter()
            .position(|column| column == name)
            .with_context(|| format!("{} has no column `{name}`", path.display()))
    };
    let (time, user, item, event) = (place("ts_ms")?, place("user")?, place("item")?, place("event")?);
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record?;
        let text = |place: usize| record.get(place).unwrap_or_default().to_owned();
        let time = record.get(time).unwrap_or_default().parse().context("ts_ms is not a number")?;
        all.push(Purchase { time, user: text(user), item: text(item), event: text(event) });
    }
    Ok(all)
}

/// The purchases of the second year by open hour and item.
pub(crate) struct Shop {
    counts: Vec<Vec<u32>>,
    items: Vec<String>,
    days: usize,
}

impl Shop {
    /// Of these purchases.
    pub(crate) fn of(purchases: &[Purchase]) -> Self {
        let bought = || purchases.iter().filter(|p| p.event == "purchase" && p.time >= SECOND_YEAR);
        let mut totals: BTreeMap<i64, u32> = BTreeMap::new();
        bought().for_each(|purchase| *totals.entry(purchase.time / HOUR).or_default() += 1);
        let hours: BTreeMap<i64, usize> = totals
            .into_iter()
            .filter(|(_, n)| *n >= 20)
            .enumerate()
            .map(|(place, (hour, _))| (hour, place))
            .collect();
        let open =
            || bought().filter_map(|purchase| Some((hours.get(&(purchase.time / HOUR))?, &purchase.item)));
        let mut popularity: BTreeMap<&str, u32> = BTreeMap::new();
        open().for_each(|(_, item)| *popularity.entry(item).or_default() += 1);
        let items: Vec<&str> =
            popularity.into_iter().filter(|(_, n)| *n >= 30).map(|(item, _)| item).collect();
        let places: HashMap<&str, usize> =
            items.iter().enumerate().map(|(place, item)| (*item, place)).collect();
        let mut counts = vec![vec![0; items.len()]; hours.len()];
        for (hour, item) in open() {
            if let Some(item) = places.get(item.as_str()) {
                counts[*hour][*item] += 1;
            }
        }
        let days: BTreeSet<i64> = hours.keys().map(|hour| hour / 24).collect();
        Self { counts, items: items.into_iter().map(str::to_owned).collect(), days: days.len() }
    }

    /// With crowds in it.
    pub(crate) fn inject(&self, shape: Shape) -> Traffic {
        let mut random = SmallRng::seed_from_u64(shape.seed);
        let mut counts = self.counts.clone();
        let (windows, items) = (counts.len(), self.items.len());
        let first = windows / 4;
        let mut busy: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); items];
        let mut crowds = Vec::new();
        // More attempts than a file with room for the crowds needs.
        for _ in 0..CROWDS * 100 {
            if crowds.len() == CROWDS || first + 40 >= windows {
                break;
            }
            let length = [1, 3, 8][random.random_range(0..3)];
            let events = [6_u32, 12, 24, 48][random.random_range(0..4)];
            let (item, from) = (random.random_range(0..items), random.random_range(first..windows - 40));
            if busy[item].range(from.saturating_sub(60)..from + 80).next().is_some() {
                continue;
            }
            for counts in &mut counts[from..from + length] {
                counts[item] += poisson(&mut random, f64::from(events) / length as f64);
            }
            busy[item].extend(from..from + length + 4);
            crowds.push((item, from, length, events));
        }
        let mut traffic =
            Traffic::new(&format!("inject-{}", shape.seed), counts, shape.window, random.random());
        traffic.items.clone_from(&self.items);
        traffic.event_type = "purchase";
        traffic.truth.t0 = Some(traffic.at(first));
        traffic.truth.days = Some(self.days as f64);
        for (item, from, length, events) in crowds {
            traffic.label(item, from, length, &events.to_string());
        }
        traffic
    }
}

//! What is sent, and what must come of it: made from a seed, with arithmetic of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

pub(crate) const PARTITIONS: u32 = 6;
/// Event time runs this many milliseconds an event: 200,000 events make 20 minutes.
const STEP_MS: i64 = 6;
const START_MS: i64 = 1_790_000_000_000;
const DISORDER_MS: i64 = 25_000;
const BATCH: usize = 500;

/// A window of a metric: name, key, start in milliseconds.
pub(crate) type Name = (String, String, i64);

pub(crate) struct Script {
    /// Bodies of requests, in order.
    pub(crate) batches: Vec<String>,
    pub(crate) sent: usize,
    /// Ids of all valid events.
    pub(crate) ids: BTreeSet<String>,
    /// Raw bytes of the invalid ones, with how often each was sent.
    pub(crate) invalid: HashMap<String, usize>,
    /// Windows: events, sum in cents, different users.
    pub(crate) windows: BTreeMap<Name, Expected>,
}

#[derive(Default, Debug)]
pub(crate) struct Expected {
    pub(crate) count: u64,
    pub(crate) cents: i64,
    pub(crate) users: BTreeSet<u32>,
}

impl Script {
    pub(crate) fn new(events: usize, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut items: Vec<String> = Vec::new();
        let mut ids = BTreeSet::new();
        let mut invalid = HashMap::new();
        let mut windows: BTreeMap<Name, Expected> = BTreeMap::new();
        for n in 0..i64::try_from(events).unwrap() {
            if random.random_bool(0.02) {
                let raw = broken(&mut random, n);
                *invalid.entry(raw.clone()).or_default() += 1;
                items.push(raw);
                continue;
            }
            let time = START_MS + n * STEP_MS - random.random_range(0..DISORDER_MS);
            let (user, item) = (random.random_range(0..20_000_u32), zipf(&mut random));
            let cents = random.random_range(100..10_000_i64);
            let kind = if random.random_bool(0.1) { "purchase" } else { "view" };
            let id = format!("e-{seed}-{n}");
            let price = format!("{}.{:02}", cents / 100, cents % 100);
            let raw = format!(
                r#"{{"event_id":"{id}","type":"{kind}","user_id":"u-{user}","item_id":"item-{item}","time":{time},"price":{price}}}"#
            );
            let mut note = |metric: &str, size: i64| {
                let start = time.div_euclid(size) * size;
                let window = windows.entry((metric.into(), format!("item-{item}"), start)).or_default();
                window.count += 1;
                window.cents += cents;
                window.users.insert(user);
            };
            note("all", 10_000);
            note("visitors", 60_000);
            if kind == "purchase" {
                note("revenue", 30_000);
            }
            ids.insert(id);
            items.push(raw.clone());
            if random.random_bool(0.05) {
                // A client's retry: usually at once, sometimes a little later.
                let later = items.len().saturating_sub(random.random_range(0..50));
                items.insert(later.max(1), raw);
            }
        }
        // Long after: lets every source's watermark pass all windows. Of a type that no metric counts.
        let end = START_MS + i64::try_from(events).unwrap() * STEP_MS + 300_000;
        for n in 0..64 * PARTITIONS {
            let id = format!("end-{seed}-{n}");
            items.push(format!(
                r#"{{"event_id":"{id}","type":"end","user_id":"end-{n}","item_id":"none","time":{end}}}"#
            ));
            ids.insert(id);
        }
        let batches = items.chunks(BATCH).map(|chunk| format!("[{}]", chunk.join(","))).collect();
        Self { batches, sent: items.len(), ids, invalid, windows }
    }
}

/// Few items get most of the events.
fn zipf(random: &mut SmallRng) -> u32 {
    let spread: f64 = random.random_range(0.0..1.0);
    let rank = 300.0_f64.powf(spread);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 1 to 300
    let rank = rank as u32;
    rank
}

/// One of the ways in which events are wrong.
fn broken(random: &mut SmallRng, n: i64) -> String {
    match random.random_range(0..5) {
        0 => format!(r#"{{"event_id":"bad-{n}","user_id":"u-1","item_id":"i","time":{START_MS}}}"#),
        1 => format!(r#"{{"event_id":"bad-{n}","type":"view","user_id":"u-1","time":"yesterday, {n}"}}"#),
        2 => format!(r#"{{"event_id":"bad-{n}","type":"nonsense","user_id":"u-1","time":{START_MS}}}"#),
        3 => format!(r#"{{"event_id":"bad-{n}","type":"view","user_id":"u-1","time":4102444800000}}"#),
        _ => format!(r#""just a string, {n}""#),
    }
}

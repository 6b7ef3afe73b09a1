//! The events of a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herd_spec::units::EventTime;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::plan::LATENESS;

/// The events of a seed, by the second they are sent in: source and bytes.
pub(crate) struct Script {
    pub(crate) sends: Vec<Vec<(usize, Vec<u8>)>>,
    pub(crate) expected: BTreeMap<(String, String, i64), u64>,
    pub(crate) sources: usize,
    pub(crate) judges: usize,
    pub(crate) crash: f64,
}

pub(crate) fn script(seed: u64) -> Script {
    let mut random = SmallRng::seed_from_u64(seed);
    let (sources, judges) = (random.random_range(1..=4), random.random_range(1..=3));
    let seconds = random.random_range(60..=400);
    let scale = *pick(&mut random, &[1, 1, 1, 50]);
    let base = *pick(&mut random, &[0, 1_700_000_000_000_i64]);
    let rates: Vec<f64> = (0..sources).map(|_| *pick(&mut random, &[0.0, 0.02, 0.3, 2.0])).collect();
    let crash = *pick(&mut random, &[0.0, 0.003, 0.02]);
    let keys = ["a", "bb", "ccc", "dddd"];
    let mut expected: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    let mut sends = Vec::new();
    let mut id = 0;
    for second in 1..=seconds {
        let mut sent = Vec::new();
        // A crowd on one key now and then, so that detectors have something to say.
        let crowd = second % 90 > 80;
        for (source, rate) in rates.iter().enumerate() {
            let rate = if crowd && *rate > 0.1 { rate * 6.0 } else { *rate };
            let n = rate as u64 + u64::from(random.random_bool(rate.fract()));
            for _ in 0..n {
                id += 1;
                let clock = base + second * 1_000 * scale;
                let time = if scale == 1 { clock - random.random_range(0..LATENESS - 5_000) } else { clock };
                let time = time.max(0);
                let key = if crowd { keys[0] } else { pick(&mut random, &keys) };
                let event = format!(
                    r#"{{"v":1,"event_id":"{id}","type":"view","item_id":"{key}","time":{time},"received":{clock}}}"#
                );
                for (metric, size) in [("short", 10), ("long", 60)] {
                    let start = EventTime(time).window_start(Duration::from_secs(size)).0;
                    expected.entry((metric.to_owned(), key.to_owned(), start)).or_default().insert(id);
                }
                sent.push((source, event.clone().into_bytes()));
                if random.random_bool(0.05) {
                    sent.push((source, event.into_bytes())); // a client's retry
                }
            }
        }
        sends.push(sent);
    }
    let expected = expected.into_iter().map(|(name, ids)| (name, ids.len() as u64)).collect();
    Script { sends, expected, sources, judges, crash }
}

pub(crate) fn pick<'a, T>(random: &mut SmallRng, list: &'a [T]) -> &'a T {
    &list[random.random_range(0..list.len())]
}

//! The alerts in the database are those that follow from the windows in the database, each once: worked out anew by
//! `../oracle`, which shares nothing with the detectors.

use std::collections::{BTreeMap, HashSet};

use herd_spec::plan::ALL_KEY;
use herd_spec::wire::AlertState;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use xxhash_rust::xxh3::xxh3_64;

use crate::load::Load;
use crate::oracle::{Difference, Found, Metric, Traffic};
use crate::pipeline::{PARTITIONS, Pipeline};
use crate::verdict::{Kind, Verdict};

/// Metric and key.
type Name = (String, String);
/// Start of a window → its events, its value.
type Windows = BTreeMap<i64, (u64, f64)>;

pub(crate) async fn check(
    verdict: &mut Verdict,
    connection: &mut PgConnection,
    pipeline: &Pipeline,
    load: &Load,
) {
    let windows = windows(connection, &pipeline.schema).await;
    let mut found = found(connection, &pipeline.schema).await;
    verdict.alerts = found.values().map(Vec::len).sum();
    let metrics = Metric::all(&pipeline.plan);
    let closed_until = |metric: &str| {
        let of_metric = windows.iter().filter(|((name, _), _)| name == metric);
        of_metric.filter_map(|(_, windows)| windows.keys().next_back()).max().copied().unwrap_or(i64::MIN)
    };
    let horizons: BTreeMap<&str, i64> = metrics
        .iter()
        .map(|(name, metric)| (*name, closed_until(name).saturating_add(metric.size)))
        .collect();
    // Events too late for any promise may let a window close twice: then nobody knows which of the two was judged.
    let unsure: HashSet<Name> = {
        let expected = load.expected.lock();
        let late = expected.windows.iter().filter(|(_, window)| window.perhaps > 0);
        late.map(|((metric, key, _), _)| (metric.name().to_owned(), key.to_string())).collect()
    };
    let mut of_all_keys: BTreeMap<String, BTreeMap<String, Vec<Found>>> = BTreeMap::new();
    for (name, windows) in &windows {
        let mut found = found.remove(name).unwrap_or_default();
        let metric = &metrics[name.0.as_str()];
        let of_all = found.extract_if(.., |found| metric.is_of_all_keys(&found.detector)).collect();
        of_all_keys.entry(name.0.clone()).or_default().insert(name.1.clone(), of_all);
        if unsure.contains(name) {
            continue;
        }
        for difference in metric.differences(windows, horizons[name.0.as_str()], found) {
            differs(verdict, pipeline, name, difference);
        }
    }
    for ((metric, key), of_total) in found.iter_mut().filter(|((_, key), _)| key == ALL_KEY) {
        of_all_keys.entry(metric.clone()).or_default().insert(key.clone(), std::mem::take(of_total));
    }
    for (name, found) in of_all_keys {
        let doubtful: Vec<i64> = {
            let expected = load.expected.lock();
            let late = expected.windows.iter().filter(|(_, window)| window.perhaps > 0);
            let starts =
                late.filter(|((metric, ..), _)| metric.name() == name).map(|((.., start), _)| *start);
            starts.collect()
        };
        let metric = &metrics[name.as_str()];
        for traffic in traffic(&windows, &name, metric.size, &doubtful) {
            let is_here = |key: &str| {
                (key == ALL_KEY && traffic.watches_total)
                    || traffic.windows.values().any(|keys| keys.contains_key(key))
            };
            let found = found.iter().filter(|(key, _)| is_here(key));
            let found = found.map(|(key, found)| (key.clone(), found.clone())).collect();
            for (key, difference) in metric.differences_of_all_keys(&traffic, found).0 {
                differs(verdict, pipeline, &(name.clone(), key), difference);
            }
        }
    }
    for (metric, key) in found.into_keys().filter(|(_, key)| key != ALL_KEY) {
        verdict.find(Kind::Invented, format!("alerts of {metric} for {key}, which has no windows"), None);
    }
}

fn differs(verdict: &mut Verdict, pipeline: &Pipeline, name: &Name, difference: Difference) {
    let (kind, what) = match difference {
        Difference::Unseen(expected) => (Kind::Unseen, format!("{expected:?}")),
        Difference::Invented(found) => (Kind::Invented, format!("{found:?}")),
        Difference::Inconsistent(found, expected) => {
            (Kind::Inconsistent, format!("{found:?} must be {expected:?}"))
        }
    };
    let trace = (pipeline.plan.topics.alerts.name.clone(), format!("\"{}\"\u{1F}\"{}\"", name.0, name.1));
    verdict.find(kind, format!("alert of {} for {}: {what}", name.0, name.1), Some(trace));
}

/// The windows of a metric as each partition of `parts` has them. `doubtful`: the starts of those of which nobody knows with what they
/// closed.
fn traffic(windows: &BTreeMap<Name, Windows>, metric: &str, size: i64, doubtful: &[i64]) -> Vec<Traffic> {
    let of_metric = || windows.iter().filter(|((of, _), _)| of == metric);
    let mut totals: BTreeMap<i64, u64> = BTreeMap::new();
    for (start, (count, _)) in of_metric().flat_map(|(_, windows)| windows) {
        *totals.entry(*start).or_default() += count;
    }
    let mut partitions: BTreeMap<u64, Traffic> = BTreeMap::new();
    for ((_, key), windows) in of_metric() {
        // As the detectors spread keys: by XXH3 of metric and key.
        let partition = xxh3_64(format!("{metric}\u{1F}{key}").as_bytes()) % u64::from(PARTITIONS);
        let watches = xxh3_64(format!("{metric}\u{1F}{ALL_KEY}").as_bytes()) % u64::from(PARTITIONS);
        let new = || Traffic {
            totals: totals.clone(),
            partitions: PARTITIONS,
            watches_total: partition == watches,
            ..Traffic::default()
        };
        let traffic = partitions.entry(partition).or_insert_with(new);
        doubtful.iter().for_each(|start| traffic.doubt(*start));
        for (start, value) in windows {
            traffic.horizon = traffic.horizon.max(start + size);
            traffic.windows.entry(*start).or_default().insert(key.clone(), *value);
        }
    }
    partitions.into_values().collect()
}

async fn windows(connection: &mut PgConnection, schema: &str) -> BTreeMap<Name, Windows> {
    let query = format!(
        "SELECT metric, key, (extract(epoch FROM start) * 1000)::bigint, count, value FROM {schema}.windows"
    );
    let mut windows: BTreeMap<Name, Windows> = BTreeMap::new();
    for row in sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await.unwrap() {
        let value = (u64::try_from(row.get::<i64, _>(3)).unwrap(), row.get(4));
        windows.entry((row.get(0), row.get(1))).or_default().insert(row.get(2), value);
    }
    windows
}

async fn found(connection: &mut PgConnection, schema: &str) -> BTreeMap<Name, Vec<Found>> {
    let query = format!(
        "SELECT metric, key, id, detector, (extract(epoch FROM start) * 1000)::bigint, state, value, expected, \
         (extract(epoch FROM resolved) * 1000)::bigint FROM {schema}.alerts"
    );
    let mut found: BTreeMap<Name, Vec<Found>> = BTreeMap::new();
    for row in sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await.unwrap() {
        let state: AlertState = serde_json::from_value(row.get::<String, _>(5).into()).unwrap();
        found.entry((row.get(0), row.get(1))).or_default().push(Found {
            id: row.get(2),
            detector: row.get(3),
            start: row.get(4),
            state,
            value: row.get(6),
            expected: row.get(7),
            resolved: row.get(8),
            episode: None,
        });
    }
    found
}

//! Measures the rule `crowd` on files of events with known crowds: `crowd [--lag N] [--partitions N] [--budget N] FILE.csv...`
//!
//! Each file (`ts,event,item,...`) has its truth beside it (`FILE.json` or `FILE.csv.json`). Windows close in order. Prints, at
//! the default budget and for a row of fixed thresholds, crowds found and false alerts. With `--verbose`, each false or missed one.
//! Files with `days` also get the share found at 0.5, 1 and 5 false alerts a day, between thresholds.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

use std::collections::HashMap;

use herd_detection::crowd::{Change, Direction, Ending, Episode, KeyState, Limit, Population, Settings};
use serde_json::Value;

struct Truth {
    item: usize,
    from: i64,
    to: i64,
    why: String,
}

struct Events {
    name: String,
    windows: Vec<Vec<(usize, u64)>>,
    items: Vec<String>,
    truth: Vec<Truth>,
    first: i64,
    /// The unit of the false alerts' rate: a shop's days, or hours.
    span: f64,
    has_days: bool,
    size_ms: u64,
}

fn read(path: &str) -> Events {
    let beside = format!("{path}.json");
    let beside = if std::path::Path::new(&beside).exists() { beside } else { path.replace(".csv", ".json") };
    let meta: Value = serde_json::from_str(&std::fs::read_to_string(beside).unwrap()).unwrap();
    let number = |name: &str| meta[name].as_i64();
    let (base, size) = (number("base").unwrap(), number("window").unwrap());
    let windows = number("windows").unwrap();
    let mut counts = vec![HashMap::<usize, u64>::new(); usize::try_from(windows).unwrap()];
    let (mut names, mut items) = (HashMap::new(), Vec::new());
    let mut name_of = |item: &str| {
        *names.entry(item.to_owned()).or_insert_with(|| {
            items.push(item.to_owned());
            items.len() - 1
        })
    };
    for line in std::fs::read_to_string(path).unwrap().lines().skip(1) {
        let mut cells = line.split(',');
        let at: i64 = cells.next().unwrap().parse().unwrap();
        let item = name_of(cells.nth(1).unwrap());
        *counts[usize::try_from((at - base) / size).unwrap()].entry(item).or_default() += 1;
    }
    let truth = meta["truth"].as_array().unwrap().iter().map(|one| Truth {
        item: name_of(one["item"].as_str().unwrap()),
        from: (one["from"].as_i64().unwrap() - base) / size - 1,
        to: (one["to"].as_i64().unwrap() - base) / size,
        why: one["why"].to_string(),
    });
    let truth = truth.collect();
    let days = number("days");
    Events {
        name: meta["scenario"].as_str().unwrap().to_owned(),
        windows: counts.into_iter().map(|keys| keys.into_iter().collect()).collect(),
        items,
        truth,
        first: (number("t0").unwrap_or(base) - base) / size,
        span: days.map_or((windows * size) as f64 / 3.6e6, |days| days as f64 * 0.75),
        has_days: days.is_some(),
        size_ms: size.try_into().unwrap(),
    }
}

struct Alert {
    index: i64,
    item: usize,
    text: String,
}

/// The alerts of a detector over the windows of a file.
fn run(events: &Events, settings: &Settings, partitions: usize) -> Vec<Alert> {
    const FIRST: u32 = 1000; // windows are numbered since 1970
    let mut alerts = Vec::new();
    let mut populations: Vec<Population> = (0..partitions).map(|_| Population::new(FIRST)).collect();
    let mut keys: Vec<Option<KeyState>> = vec![None; events.items.len()];
    let mut episodes: Vec<Option<Episode>> = vec![None; events.items.len()];
    for (index, window) in events.windows.iter().enumerate() {
        let total: u64 = window.iter().map(|(_, count)| count).sum();
        let at = FIRST + u32::try_from(index).unwrap();
        for (partition, population) in populations.iter_mut().enumerate() {
            let mut closing = population.begin(at, total, settings);
            let own: Vec<_> = window.iter().filter(|(key, _)| key % partitions == partition).collect();
            for (key, count) in &own {
                let state = &mut keys[*key];
                if state
                    .as_ref()
                    .and_then(KeyState::newest)
                    .is_some_and(|last| Population::is_forgotten(last, at))
                {
                    *state = None;
                }
                let state = state.get_or_insert_with(|| KeyState::new(population, at));
                state.take(&mut closing, population, settings, *count as f64, *count);
            }
            population.close(&closing, settings);
            let silent =
                (0..keys.len()).filter(|key| key % partitions == partition && episodes[*key].is_some());
            let silent: Vec<usize> = silent.filter(|key| own.iter().all(|(hot, _)| hot != key)).collect();
            for key in own.iter().map(|(key, _)| *key).chain(silent) {
                let Some(state) = &mut keys[key] else { continue };
                let score = state.score(population, settings, at);
                match Episode::observe(&mut episodes[key], state, population, at, &score) {
                    Change::Began => {
                        let text = format!(
                            "{} in {} windows, {:.2} usual, score {:.1} of {:.1}",
                            score.value,
                            score.span,
                            score.expected,
                            score.score,
                            score.threshold.unwrap_or(0.0)
                        );
                        alerts.push(Alert { index: index as i64, item: key, text });
                    }
                    Change::Ended(_, Ending::NewLevel(level)) => {
                        if let Some(alert) = alerts.iter_mut().rfind(|alert| alert.item == key) {
                            alert.text += &format!("; new level {level:.1} at {index}");
                        }
                    }
                    Change::Ended(..) => {
                        if let Some(alert) = alerts.iter_mut().rfind(|alert| alert.item == key) {
                            alert.text += &format!("; usual at {index}");
                        }
                    }
                    Change::None | Change::Continued => {}
                }
            }
        }
    }
    alerts
}

/// How many crowds were found, and how many alerts are false.
fn judge(events: &Events, alerts: &[Alert], verbose: bool) -> (usize, usize) {
    let mut found = vec![false; events.truth.len()];
    let mut wrong = 0;
    for alert in alerts.iter().filter(|alert| alert.index >= events.first) {
        let mut right = false;
        for (truth, found) in events.truth.iter().zip(&mut found) {
            if truth.item == alert.item && (truth.from..=truth.to).contains(&alert.index) {
                (*found, right) = (true, true);
            }
        }
        if verbose {
            let right = if right { "right" } else { "false" };
            println!("  {right} {} {}: {}", alert.index, events.items[alert.item], alert.text);
        }
        wrong += usize::from(!right);
    }
    if verbose {
        for (truth, _) in events.truth.iter().zip(&found).filter(|(_, found)| !**found) {
            println!("  missed {}..{} {} {}", truth.from, truth.to, events.items[truth.item], truth.why);
        }
    }
    (found.iter().filter(|found| **found).count(), wrong)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut lag, mut partitions, mut budget, mut verbose, mut files) = (2, 1, 5.0, None, Vec::new());
    let mut thresholds: Vec<f64> = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--lag" => lag = arguments.next().unwrap().parse().unwrap(),
            "--partitions" => partitions = arguments.next().unwrap().parse().unwrap(),
            "--budget" => budget = arguments.next().unwrap().parse().unwrap(),
            "--thresholds" => {
                thresholds = arguments.next().unwrap().split(',').map(|one| one.parse().unwrap()).collect();
            }
            "--verbose" => verbose = Some(arguments.next().unwrap().parse::<f64>().unwrap()),
            _ => files.push(argument),
        }
    }
    let mut sums: Vec<(usize, usize)> = Vec::new();
    let (mut crowds, mut defaults) = (0, (0, 0));
    let mut shares: Vec<[f64; 3]> = Vec::new();
    for path in files {
        let events = read(&path);
        let settings = |limit| Settings { size_ms: events.size_ms, lag, limit, direction: Direction::Up };
        let share = budget / partitions as f64;
        let default = run(&events, &settings(Limit::Budget(share)), partitions);
        if verbose == Some(0.0) {
            judge(&events, &default, true);
        }
        let mut cells = Vec::new();
        let default = judge(&events, &default, false);
        let count = events.truth.len();
        let mut row = Vec::new();
        let swept = if thresholds.is_empty() {
            let (from, to) = if events.has_days { (14, 32) } else { (20, 32) };
            (from..=to).step_by(if events.has_days { 1 } else { 4 }).map(|t| f64::from(t) / 4.0).collect()
        } else {
            thresholds.clone()
        };
        for threshold in swept {
            let limit = Limit::Probability(10f64.powf(-threshold));
            let alerts = run(&events, &settings(limit), partitions);
            let (found, wrong) = judge(&events, &alerts, verbose == Some(threshold));
            row.push((found, wrong));
            let rate = wrong as f64 / events.span;
            cells.push(format!("{threshold}: {found}, {wrong} ({rate:.2})"));
        }
        if events.has_days {
            // Between two thresholds the share is interpolated.
            let at = |wanted: f64| {
                let rates: Vec<_> =
                    row.iter().map(|(f, w)| (*w as f64 / events.span, *f as f64 / count as f64)).collect();
                let next = rates.iter().position(|(rate, _)| *rate <= wanted).unwrap_or(rates.len() - 1);
                let (high, low) = (rates[next.saturating_sub(1)], rates[next]);
                if high.0 - low.0 < 1e-9 {
                    low.1
                } else {
                    low.1 + (high.1 - low.1) * ((wanted - low.0) / (high.0 - low.0)).clamp(0.0, 1.0)
                }
            };
            let share = [at(0.5), at(1.0), at(5.0)];
            println!(
                "{:18} 0.5/day {:.3}  1/day {:.3}  5/day {:.3}  default {}/{count}, {} false | {}",
                events.name,
                share[0],
                share[1],
                share[2],
                default.0,
                default.1,
                cells.join(" | ")
            );
            shares.push(share);
        } else {
            println!(
                "{:18} default {}/{count}, {} false | {}",
                events.name,
                default.0,
                default.1,
                cells.join(" | ")
            );
            sums.resize(row.len(), (0, 0));
            for (sum, (found, wrong)) in sums.iter_mut().zip(row) {
                *sum = (sum.0 + found, sum.1 + wrong);
            }
            defaults = (defaults.0 + default.0, defaults.1 + default.1);
            crowds += count;
        }
    }
    if crowds > 0 {
        println!("all scenarios: default {}/{crowds}, {} false | {sums:?}", defaults.0, defaults.1);
    }
    if !shares.is_empty() {
        let mean = |at: usize| shares.iter().map(|share| share[at]).sum::<f64>() / shares.len() as f64;
        println!("injections: {:.3} at 0.5, {:.3} at 1, {:.3} at 5 false a day", mean(0), mean(1), mean(2));
    }
}

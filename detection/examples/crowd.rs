//! Measures the rule `crowd` on files of events with known crowds: `crowd [--lag N] [--partitions N] [--budget N] FILE.csv...`
//!
//! Each file (`ts,event,item,...`) has its truth beside it (`FILE.json` or `FILE.csv.json`). Windows close in order. Prints, at
//! the default budget and for a row of fixed thresholds, crowds found and false alerts. With `--verbose`, each false or missed one.
//! With `--early`, also how many alerts were raised while their window was open, second by second, and how many of these the closed
//! window did not confirm. Files with `days` also get the share found at 0.5, 1 and 5 false alerts a day, between thresholds.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss, missing_docs)]

use std::collections::{HashMap, HashSet};

use herd_detection::crowd::{
    Change, Direction, Ending, Episode, KeyState, Limit, OpenWindow, Population, Settings,
};
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
    /// Tenth of the window and key of each event.
    arrivals: Vec<Vec<(usize, usize)>>,
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
    let mut arrivals = vec![Vec::new(); counts.len()];
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
        let window = usize::try_from((at - base) / size).unwrap();
        *counts[window].entry(item).or_default() += 1;
        arrivals[window].push((usize::try_from((at - base) % size * 10 / size).unwrap(), item));
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
        arrivals,
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

const FIRST: u32 = 1000; // windows are numbered since 1970

/// A detector over the windows of a file.
struct Detector<'a> {
    events: &'a Events,
    settings: Settings,
    populations: Vec<Population>,
    keys: Vec<Option<KeyState>>,
    episodes: Vec<Option<Box<Episode>>>,
    alerts: Vec<Alert>,
    /// Keys that alerted while the window was open, by window.
    early: HashMap<usize, HashSet<usize>>,
    raised: usize,
    withdrawn: usize,
}

impl<'a> Detector<'a> {
    fn new(events: &'a Events, settings: Settings, partitions: usize) -> Self {
        Self {
            events,
            settings,
            populations: (0..partitions).map(|_| Population::new(FIRST)).collect(),
            keys: vec![None; events.items.len()],
            episodes: vec![None; events.items.len()],
            alerts: Vec::new(),
            early: HashMap::new(),
            raised: 0,
            withdrawn: 0,
        }
    }

    fn close(&mut self, index: usize) {
        let (window, settings) = (&self.events.windows[index], &self.settings);
        let total: u64 = window.iter().map(|(_, count)| count).sum();
        let (at, partitions) = (FIRST + u32::try_from(index).unwrap(), self.populations.len());
        for (partition, population) in self.populations.iter_mut().enumerate() {
            let mut closing = population.begin(at, total, settings);
            let own: Vec<_> = window.iter().filter(|(key, _)| key % partitions == partition).collect();
            for (key, count) in &own {
                let state = &mut self.keys[*key];
                let last = state.as_ref().and_then(KeyState::newest);
                if last.is_some_and(|last| Population::is_forgotten(last, at)) {
                    *state = None;
                }
                let state = state.get_or_insert_with(|| KeyState::new(population, at));
                state.take(&mut closing, population, settings, *count as f64, *count);
            }
            population.close(&closing, settings);
            let lasting = |key: &usize| key % partitions == partition && self.episodes[*key].is_some();
            let silent = (0..self.keys.len()).filter(lasting);
            let silent: Vec<usize> = silent.filter(|key| own.iter().all(|(hot, _)| hot != key)).collect();
            for key in own.iter().map(|(key, _)| *key).chain(silent) {
                let Some(state) = &mut self.keys[key] else { continue };
                let score = state.score(population, settings, at);
                let change = Episode::observe(&mut self.episodes[key], state, population, at, &score);
                if change == Change::Began {
                    let text = format!(
                        "{} in {} windows, {:.2} usual, score {:.1} of {:.1}",
                        score.value,
                        score.span,
                        score.expected,
                        score.score,
                        score.threshold.unwrap_or(0.0)
                    );
                    self.alerts.push(Alert { index: index as i64, item: key, text });
                } else if let Change::Ended(_, ending) = change
                    && let Some(alert) = self.alerts.iter_mut().rfind(|alert| alert.item == key)
                {
                    alert.text += &match ending {
                        Ending::NewLevel(level) => format!("; new level {level:.1} at {index}"),
                        Ending::Usual => format!("; usual at {index}"),
                    };
                }
            }
        }
        let early = self.early.remove(&index).unwrap_or_default();
        self.raised += early.len();
        self.withdrawn += early.iter().filter(|key| self.episodes[**key].is_none()).count();
    }

    /// What is alerted of the window `index` and the one before, if that is open, when `tenths` of it have passed; what other keys had
    /// is known a tenth later.
    fn peek(&mut self, index: usize, tenths: usize) {
        let arrivals = &self.events.arrivals[index];
        let mut counts: HashMap<usize, u64> = HashMap::new();
        arrivals
            .iter()
            .filter(|(at, _)| *at < tenths)
            .for_each(|(_, key)| *counts.entry(*key).or_default() += 1);
        let total = arrivals.iter().filter(|(at, _)| *at + 1 < tenths).count() as u64;
        let at = FIRST + u32::try_from(index).unwrap();
        for key in arrivals.iter().filter(|(arrived, _)| *arrived + 1 == tenths).map(|(_, key)| *key) {
            let population = &self.populations[key % self.populations.len()];
            let mut open =
                vec![OpenWindow { index: at, value: counts[&key] as f64, count: counts[&key], total }];
            if population.newest() + 1 < at && index > 0 {
                let window = &self.events.windows[index - 1];
                let count = window.iter().find(|(known, _)| *known == key).map_or(0, |(_, count)| *count);
                let total = window.iter().map(|(_, count)| count).sum();
                open.push(OpenWindow { index: at - 1, value: count as f64, count, total });
            }
            let new = || KeyState::new(population, at);
            let score =
                self.keys[key].clone().unwrap_or_else(new).peek(population, &self.settings, at, &open);
            if score.is_alert() && self.episodes[key].is_none() {
                self.early.entry(index).or_default().insert(key);
            }
        }
    }
}

/// The alerts of a detector over the windows of a file, and how many were raised early and withdrawn.
fn run(events: &Events, settings: &Settings, partitions: usize, early: bool) -> (Vec<Alert>, usize, usize) {
    let mut detector = Detector::new(events, *settings, partitions);
    for index in 0..events.windows.len() {
        if !early {
            detector.close(index);
            continue;
        }
        // A window closes when two tenths of the next one have passed.
        (1..=2).for_each(|tenths| detector.peek(index, tenths));
        if index > 0 {
            detector.close(index - 1);
        }
        (3..=10).for_each(|tenths| detector.peek(index, tenths));
    }
    (detector.alerts, detector.raised, detector.withdrawn)
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
    let (mut early, mut raised, mut withdrawn) = (false, 0, 0);
    let mut thresholds: Vec<f64> = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--lag" => lag = arguments.next().unwrap().parse().unwrap(),
            "--partitions" => partitions = arguments.next().unwrap().parse().unwrap(),
            "--budget" => budget = arguments.next().unwrap().parse().unwrap(),
            "--thresholds" => {
                thresholds = arguments.next().unwrap().split(',').map(|one| one.parse().unwrap()).collect();
            }
            "--early" => early = true,
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
        let (default, its_raised, its_withdrawn) =
            run(&events, &settings(Limit::Budget(share)), partitions, early);
        (raised, withdrawn) = (raised + its_raised, withdrawn + its_withdrawn);
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
            let (alerts, its_raised, its_withdrawn) = run(&events, &settings(limit), partitions, early);
            (raised, withdrawn) = (raised + its_raised, withdrawn + its_withdrawn);
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
    if early {
        println!("early: {raised} raised, {withdrawn} withdrawn");
    }
    if !shares.is_empty() {
        let mean = |at: usize| shares.iter().map(|share| share[at]).sum::<f64>() / shares.len() as f64;
        println!("injections: {:.3} at 0.5, {:.3} at 1, {:.3} at 5 false a day", mean(0), mean(1), mean(2));
    }
}

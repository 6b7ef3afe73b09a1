//! What detectors find, and what they cry wolf about: each algorithm over the same traffic, through the backtest.
#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

mod explanations;
mod injections;
mod nab;
mod quiet;
mod rules;
mod scenarios;
mod speed;
mod table;
mod traffic;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use herd_backtest::Backtest;
use herd_backtest::truth::Found;
use herd_spec::wire::Window;

use injections::Shop;
use quiet::Kind;
use rules::{Detector, Metric};
use scenarios::Shape;
use table::Table;
use traffic::{COUNTRIES, DEVICES, Traffic};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what detectors find, and prints the tables.
#[derive(Parser, Debug)]
struct Options {
    /// What to measure [default: everything for which there is data]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Number of seeds
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// First seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Seconds of a window
    #[arg(long, default_value_t = 10)]
    window: u64,
    /// Factor of the length of the scenarios
    #[arg(long, default_value_t = 1.0)]
    length: f64,
    /// Exponent of the popularity of items
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// Windows of each kind of quiet traffic
    #[arg(long, default_value_t = 250_000)]
    quiet_windows: i64,
    /// Asked alerts a day
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 5.0, 50.0])]
    budgets: Vec<f64>,
    /// File of real purchases (CSV with the columns ts_ms,user,item,event; gzipped or plain)
    #[arg(long)]
    purchases: Option<PathBuf>,
    /// Copy of the Numenta Anomaly Benchmark, with data/, labels/ and split.json
    #[arg(long)]
    nab: Option<PathBuf>,
    /// Events of the measurement of speed
    #[arg(long, default_value_t = 3_000_000)]
    speed_events: u64,
    /// Writes the tables into this file (Markdown): between `<!-- table -->` and `<!-- /table -->` if it has these lines
    #[arg(long)]
    write: Option<PathBuf>,
    /// Writes the events (CSV) and labels (JSON) of the scenarios and injections of the first seed, and the scores of the Numenta
    /// Anomaly Benchmark (CSV), into this directory, and measures nothing
    #[arg(long)]
    export: Option<PathBuf>,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Scenarios,
    Injections,
    Quiet,
    Nab,
    Explanations,
    Speed,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(folder) = &options.export {
        return export(&options, folder);
    }
    let is_asked = |part| options.only.is_empty() || options.only.contains(&part);
    let mut page = format!(
        "{} seeds from {}, windows of {} s, length {}, Zipf exponent {}.\n",
        options.seeds, options.first_seed, options.window, options.length, options.zipf
    );
    let mut add = |text: String| {
        println!("{text}");
        page.push('\n');
        page.push_str(&text);
    };
    if is_asked(Part::Scenarios) {
        add(scenario_table(&options)?);
    }
    if let Some(path) = options.purchases.as_ref().filter(|_| is_asked(Part::Injections)) {
        add(injection_table(&options, path)?);
    }
    if is_asked(Part::Quiet) {
        add(quiet_table(&options)?);
    }
    if let Some(folder) = options.nab.as_ref().filter(|_| is_asked(Part::Nab)) {
        add(nab_table(folder)?);
    }
    if is_asked(Part::Explanations) {
        add(explanations::table(options.all_seeds()));
    }
    if is_asked(Part::Speed) {
        add(speed::table(options.speed_events, options.purchases.as_deref())?);
    }
    if let Some(path) = &options.write {
        let before = std::fs::read_to_string(path).unwrap_or_default();
        let text = between_marks(&before, &page).unwrap_or(page);
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The text of a document with the tables in the place that it has for them; none if it has none.
fn between_marks(document: &str, tables: &str) -> Option<String> {
    const MARKS: [&str; 2] = ["<!-- table -->\n", "<!-- /table -->"];
    let (head, rest) = document.split_once(MARKS[0])?;
    let (_, tail) = rest.split_once(MARKS[1])?;
    // The document has headings of its own above.
    let tables = tables.replace("\n## ", "\n### ");
    Some(format!("{head}{}\n{}\n{}{tail}", MARKS[0], tables.trim(), MARKS[1]))
}

impl Options {
    fn shape(&self, seed: u64) -> Shape {
        Shape { seed, length: self.length, window: self.window as i64 * 1000, zipf: self.zipf }
    }

    fn all_seeds(&self) -> impl Iterator<Item = u64> {
        self.first_seed..self.first_seed + self.seeds
    }
}

/// What each detector finds in this traffic.
fn found(traffic: &Traffic, detectors: &[Detector], window: u64) -> anyhow::Result<Vec<Found>> {
    let plan = rules::plan(&Metric::counts(window), detectors)?;
    let mut backtest = Backtest::new(&plan, |_: &Window<'_>| {});
    traffic.push(&mut backtest)?;
    let end = backtest.end();
    let (result, _) = backtest.finish(end)?;
    let names: Vec<String> = detectors.iter().map(|detector| detector.name.clone()).collect();
    Ok(traffic.truth.compare(&result.alerts, &names))
}

/// What a detector found over all seeds.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    found: usize,
    crowds: usize,
    whole_found: usize,
    whole: usize,
    false_alerts: usize,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.found += other.found;
        self.crowds += other.crowds;
        self.whole_found += other.whole_found;
        self.whole += other.whole;
        self.false_alerts += other.false_alerts;
    }

    fn cell(&self) -> String {
        let mut parts = Vec::new();
        if self.crowds > 0 {
            parts.push(format!("{}/{}", self.found, self.crowds));
        }
        if self.whole > 0 {
            parts.push(format!("{}/{} of all", self.whole_found, self.whole));
        }
        parts.push(format!("{} false", self.false_alerts));
        parts.join(", ")
    }
}

fn scenario_table(options: &Options) -> anyhow::Result<String> {
    let detectors = rules::defaults(&rules::known());
    let mut names: Vec<String> = Vec::new();
    // By scenario and detector.
    let mut sums: Vec<Vec<Sum>> = Vec::new();
    for seed in options.all_seeds() {
        for (place, traffic) in scenarios::all(options.shape(seed)).iter().enumerate() {
            if sums.len() == place {
                names.push(traffic.name.clone());
                sums.push(vec![Sum::default(); detectors.len()]);
            }
            let found = found(traffic, &detectors, options.window)?;
            for (sum, found) in sums[place].iter_mut().zip(found) {
                sum.add(Sum {
                    found: found.found,
                    crowds: found.crowds,
                    whole_found: found.whole_found,
                    whole: found.whole,
                    false_alerts: found.false_alerts,
                });
            }
        }
    }
    let mut table =
        Table::new(std::iter::once("scenario").chain(detectors.iter().map(|detector| detector.rule)));
    let mut totals = vec![Sum::default(); detectors.len()];
    for (name, cells) in names.into_iter().zip(&sums) {
        for (total, sum) in totals.iter_mut().zip(cells) {
            total.add(*sum);
        }
        table.row(std::iter::once(name).chain(cells.iter().map(Sum::cell)));
    }
    table.row(std::iter::once("all".to_owned()).chain(totals.iter().map(Sum::cell)));
    Ok(format!(
        "## Scenarios\n\nCrowds found and false alerts, with the defaults, over all seeds. *Of all*: newsletters and outages about which one \
         alert of the whole metric was raised.\n\n{table}"
    ))
}

fn injection_table(options: &Options, path: &Path) -> anyhow::Result<String> {
    const ALLOWED: [f64; 3] = [0.5, 1.0, 5.0];
    let rules = rules::known();
    let detectors = rules::sweep(&rules);
    let shop = Shop::of(&injections::read(path)?);
    // By detector: share found and false alerts a day, as sums over the seeds.
    let mut sums = vec![(0.0, 0.0); detectors.len()];
    for seed in options.all_seeds() {
        let traffic = shop.inject(options.shape(seed));
        for (sum, found) in sums.iter_mut().zip(found(&traffic, &detectors, options.window)?) {
            *sum = (sum.0 + found.share(), sum.1 + found.false_rate());
        }
    }
    let seeds = options.seeds.max(1) as f64;
    let mut table = Table::new(["rule", "0.5 false a day", "1 false a day", "5 false a day"]);
    for rule in rules {
        let best = |allowed: f64| {
            let ours = detectors.iter().zip(&sums).filter(|(detector, _)| detector.rule == rule.name);
            let within = ours.map(|(detector, (share, wrong))| (detector, share / seeds, wrong / seeds));
            let within = within.filter(|(_, _, wrong)| *wrong <= allowed);
            match within.max_by(|a, b| a.1.total_cmp(&b.1)) {
                Some((detector, share, wrong)) => format!("{share:.3} ({}, {wrong:.2})", detector.setting),
                None => "–".to_owned(),
            }
        };
        table.row(std::iter::once(rule.name.to_owned()).chain(ALLOWED.map(best)));
    }
    Ok(format!(
        "## Crowds in real purchases\n\nShare of the crowds found at no more than so many false alerts a day; in brackets the setting that \
         finds most, and its false alerts a day.\n\n{table}"
    ))
}

fn quiet_table(options: &Options) -> anyhow::Result<String> {
    let rules = rules::known();
    let mut table = Table::new(["traffic", "rule", "asked", "alerts a day"]);
    for kind in Kind::ALL {
        for (number, budget) in options.budgets.iter().enumerate() {
            // A rule without a budget says the same at each.
            let detectors: Vec<Detector> = rules::budgeted(&rules, *budget)
                .into_iter()
                .filter(|detector| number == 0 || detector.setting != "defaults")
                .collect();
            if detectors.is_empty() {
                continue;
            }
            let plan = rules::plan(&Metric::counts(options.window), &detectors)?;
            let shape = options.shape(options.first_seed);
            let realised = quiet::alerts_per_day(kind, &plan, options.quiet_windows, shape)?;
            for (detector, (_, rate)) in detectors.iter().zip(realised) {
                table.row([
                    kind.name().to_owned(),
                    detector.rule.to_owned(),
                    detector.setting.clone(),
                    format!("{rate:.2}"),
                ]);
            }
        }
    }
    let days = options.quiet_windows as f64 * options.window as f64 / 86_400.0;
    Ok(format!(
        "## Alerts without a crowd\n\n{} windows of each kind, {days:.1} days; alerts a day after the first day.\n\n{table}",
        options.quiet_windows
    ))
}

fn nab_table(folder: &Path) -> anyhow::Result<String> {
    let detectors = rules::values();
    let plan = rules::plan(&Metric::means(), &detectors)?;
    let all = nab::read(folder)?;
    let scores = all.iter().map(|series| nab::scores(series, &plan)).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new(["rule", "score"]);
    for (place, detector) in detectors.iter().enumerate() {
        let each = all.iter().zip(&scores).map(|(series, scores)| (series, scores[place].as_slice()));
        table.row([detector.rule.to_owned(), format!("{:.1}", nab::score(each))]);
    }
    Ok(format!(
        "## Numenta Anomaly Benchmark\n\nDevelopment half, {} series, standard profile at the best threshold; means of five minutes, scored \
         by the detector's range.\n\n{table}",
        all.len()
    ))
}

fn export(options: &Options, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let shape = options.shape(options.first_seed);
    let mut all = scenarios::all(shape);
    if let Some(path) = &options.purchases {
        all.push(Shop::of(&injections::read(path)?).inject(shape));
    }
    for traffic in &all {
        let mut file = BufWriter::new(File::create(folder.join(format!("{}.csv", traffic.name)))?);
        writeln!(file, "ts,event,item,user,country,device")?;
        let total = traffic.each(|event| {
            let (country, device) = (COUNTRIES[event.country as usize], DEVICES[event.device as usize]);
            let item = &traffic.items[event.item as usize];
            writeln!(file, "{},{},{item},u{},{country},{device}", event.time, traffic.event_type, event.user)
        })?;
        file.flush()?;
        let truth = serde_json::to_string(&traffic.truth)?;
        std::fs::write(folder.join(format!("{}.json", traffic.name)), truth)?;
        println!("{:22} {total} events, {} crowds", traffic.name, traffic.truth.truth.len());
    }
    if let Some(nab) = &options.nab {
        let detectors = rules::values();
        let plan = rules::plan(&Metric::means(), &detectors)?;
        for series in nab::read(nab)? {
            for (detector, scores) in detectors.iter().zip(nab::scores(&series, &plan)?) {
                nab::write(&folder.join("nab").join(detector.rule), &series, &scores)?;
            }
        }
    }
    Ok(())
}

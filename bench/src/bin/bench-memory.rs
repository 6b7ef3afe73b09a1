//! What a key costs in memory: 1,000,000 keys with a baseline, 100,000 of them active in every window, over an hour in which
//! keys come and go. Resident memory of the process, less what it was before the first key, over the keys that are held.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::borrow::Cow;

use herd_bench::{plan, resident};
use herd_detector::commit::Position;
use herd_detector::fold::source::Source;
use herd_detector::judge::partition::JudgePartition;
use herd_detector::judge::watch::Watched;
use herd_detector::metric::Metrics;
use herd_spec::plan::Plan;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Aggregate, EventRef, Part, PartRecord, SourceState, Watermark};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 1_000_000;
const ACTIVE: u64 = 100_000;
/// Keys that leave for good with each window, and as many that come.
const TURNOVER: u64 = 1_000;
const WINDOW_MS: u64 = 10_000;
const HOUR: u64 = 3_600_000 / WINDOW_MS;
const START_MS: u64 = 1_700_000_000_000;

fn main() -> anyhow::Result<()> {
    let spec = "  metrics: [{name: views, window: 10s, maxKeys: 1000000}]\n  \
                detectors: [{name: crowd, metric: views, algorithm: {poisson: {}}}]\n";
    let plan = plan("memory", None, spec)?;
    match std::env::args().nth(1).as_deref() {
        Some("fold") => fold(&plan),
        Some("judge") => judge(&plan),
        _ => anyhow::bail!("bench-memory fold|judge"),
    }
}

/// The keys of a window: a tenth of the population, which moves on by `TURNOVER` keys a window.
fn active(window: u64) -> impl Iterator<Item = u64> {
    let oldest = window * TURNOVER;
    (0..ACTIVE).map(move |n| oldest + (n * (KEYS / ACTIVE) + window) % KEYS)
}

fn start(window: u64) -> EventTime {
    EventTime(i64::try_from(START_MS + window * WINDOW_MS).unwrap_or(i64::MAX))
}

fn offset(number: u64) -> Offset {
    Offset(i64::try_from(number).unwrap_or(i64::MAX))
}

fn fold(plan: &Plan) -> anyhow::Result<()> {
    let metrics = Metrics::of(plan);
    let before = resident()?;
    let mut source = Source::resume(Partition(0), &Position::START, &metrics, WallTime(0));
    let (mut number, mut line) = (0, String::new());
    for window in 0..HOUR {
        let time = start(window);
        for key in active(window) {
            line.clear();
            std::fmt::Write::write_fmt(
                &mut line,
                format_args!(
                    r#"{{"v":1,"event_id":"e-{number}","type":"view","item_id":"product-{key}","time":{},"received":0}}"#,
                    time.0
                ),
            )?;
            source.apply(offset(number), &EventRef::parse(line.as_bytes())?, &metrics, WallTime(0));
            number += 1;
        }
        if window % (HOUR / 6) == HOUR / 6 - 1 {
            let (held, keys) = (resident()? - before, source.open_keys());
            println!(
                "fold   after {:>2} min: {:>4.0} MB, {keys} keys in open windows, {:.0} bytes each (ids of events for deduplication included)",
                (window + 1) * WINDOW_MS / 60_000,
                held as f64 / 1e6,
                held as f64 / keys as f64
            );
        }
        source.emit(&metrics, &[true], |_| Ok::<_, anyhow::Error>(()))?;
    }
    Ok(())
}

fn judge(plan: &Plan) -> anyhow::Result<()> {
    let watched = Watched::all(plan);
    let before = resident()?;
    let mut partition = JudgePartition::resume("memory", &Position::START, &watched);
    let mut number = 0;
    let mut key = String::new();
    for window in 0..HOUR {
        let begun = start(window);
        for id in active(window) {
            key.clear();
            std::fmt::Write::write_fmt(&mut key, format_args!("product-{id}"))?;
            let part = PartRecord::Part(Part {
                metric: Cow::Borrowed("views"),
                shape: None,
                since: offset(0),
                key: Cow::Borrowed(&key),
                start: begun,
                source: Partition(0),
                version: offset(number),
                value: Aggregate { count: 1 + id % 7, sum: 0, sketch: None },
            });
            partition.read(offset(number), &part, WallTime(0), &mut |_| Ok::<_, anyhow::Error>(()))?;
            number += 1;
        }
        let word = Watermark {
            source: Partition(0),
            sources: 1,
            watermark: Some(begun.minus(plan.events.max_lateness)),
            state: SourceState::Active,
            at: WallTime(begun.0),
            totals: Vec::new(),
        };
        partition.read(offset(number), &PartRecord::Watermark(word), WallTime(begun.0), &mut |_| {
            Ok::<_, anyhow::Error>(())
        })?;
        number += 1;
        partition.close(&mut |_| Ok::<_, anyhow::Error>(()))?;
        partition.save(|_, _| Ok::<(), anyhow::Error>(()))?;
        if window % (HOUR / 6) == HOUR / 6 - 1 {
            let held = resident()? - before;
            let (open, baselines) = partition.holds();
            println!(
                "judge  after {:>2} min: {:>4.0} MB, {baselines} keys with a baseline, {open} in open windows, {:.0} bytes a baseline",
                (window + 1) * WINDOW_MS / 60_000,
                held as f64 / 1e6,
                held as f64 / baselines as f64
            );
        }
    }
    Ok(())
}

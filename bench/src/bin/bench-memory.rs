//! What a key costs in memory and time: 1,000,000 keys with a baseline, 100,000 of them active in every window, over an hour in which
//! keys come and go. Resident memory of the process, less what it was before the first key, over the keys that are held; and the time
//! of judge for each key and window: to take its part in, to score it early, and to score and save it when the window closes.
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::borrow::Cow;
use std::time::{Duration, Instant};

use herd_bench::{plan, resident};
use herd_detector::commit::Position;
use herd_detector::fold::source::Source;
use herd_detector::judge::output::Output;
use herd_detector::judge::partition::JudgePartition;
use herd_detector::judge::watch::Watched;
use herd_detector::metric::Metrics;
use herd_spec::plan::Plan;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Aggregate, EventRef, Part, PartRecord, SourceState, SourceTotal, Watermark};

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
    let step = std::env::args().nth(1);
    let algorithm = std::env::args().nth(2).unwrap_or_else(|| "crowd".into());
    let spec = format!(
        "  metrics: [{{name: views, window: 10s, maxKeys: 1000000}}]\n  \
         detectors: [{{name: herd, metric: views, algorithm: {{{algorithm}: {{}}}}}}]\n"
    );
    let plan = plan("memory", None, &spec)?;
    match step.as_deref() {
        Some("fold") => fold(&plan),
        Some("judge") => judge(&plan, &algorithm),
        _ => anyhow::bail!("bench-memory fold|judge [ALGORITHM]"),
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

/// Time that judge took, and for how many keys.
#[derive(Default)]
struct Spent {
    take: Duration,
    early: Duration,
    close: Duration,
    save: Duration,
    parts: u32,
    closed: u32,
}

fn timed<T>(spent: &mut Duration, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = act();
    *spent += begun.elapsed();
    result
}

fn judge(plan: &Plan, algorithm: &str) -> anyhow::Result<()> {
    let keys: Vec<String> = (0..KEYS + HOUR * TURNOVER).map(|id| format!("product-{id}")).collect();
    let nobody = &mut |_: Output<'_>| Ok::<_, anyhow::Error>(());
    let watched = Watched::all(plan);
    let before = resident()?;
    let mut partition = JudgePartition::resume("memory", &Position::START, &watched);
    let mut spent = Spent::default();
    for window in 0..HOUR {
        let begun = start(window);
        // Of the record that has the first of the window's parts.
        let first = window * (ACTIVE + 1);
        let count = |id: u64| 1 + id % 7;
        let mut total = 0;
        timed(&mut spent.take, || {
            for (number, id) in (first..).zip(active(window)) {
                total += count(id);
                let key = usize::try_from(id).ok().and_then(|place| keys.get(place));
                let part = PartRecord::Part(Part {
                    metric: Cow::Borrowed("views"),
                    shape: None,
                    since: offset(0),
                    key: Cow::Borrowed(key.map_or("", String::as_str)),
                    start: begun,
                    source: Partition(0),
                    version: offset(number),
                    value: Aggregate { count: count(id), sum: 0, sketch: None },
                });
                partition.read(offset(number), &part, WallTime(0), nobody)?;
                spent.parts += 1;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        let last = offset(first + ACTIVE);
        let word = Watermark {
            source: Partition(0),
            sources: 1,
            watermark: Some(begun.minus(plan.events.max_lateness)),
            state: SourceState::Active,
            at: WallTime(begun.0),
            totals: vec![SourceTotal {
                metric: "views".into(),
                definition: plan.metrics[0].definition(),
                start: begun,
                since: offset(0),
                version: last,
                count: total,
            }],
        };
        let word = PartRecord::Watermark(word);
        timed(&mut spent.early, || partition.read(last, &word, WallTime(begun.0), nobody))?;
        let closed = timed(&mut spent.close, || partition.close(nobody))?;
        spent.closed += u32::try_from(closed)?;
        timed(&mut spent.save, || {
            partition.save_populations(|_, _| Ok::<(), anyhow::Error>(()))?;
            partition.save(|_, _| Ok::<(), anyhow::Error>(()))
        })?;
        if window % (HOUR / 6) == HOUR / 6 - 1 {
            let held = resident()? - before;
            let (open, baselines) = partition.holds();
            println!(
                "{algorithm}: judge  after {:>2} min: {:>4.0} MB, {baselines} keys with a baseline, {open} in open windows, {:.0} bytes a baseline",
                (window + 1) * WINDOW_MS / 60_000,
                held as f64 / 1e6,
                held as f64 / baselines as f64
            );
        }
    }
    let each = |spent: Duration, keys: u32| spent.as_nanos() / u128::from(keys.max(1));
    println!(
        "{algorithm}: judge, a key and window: {} ns to take its part in, {} ns to score it early, {} ns to close its window and score \
         it, {} ns to save its baseline",
        each(spent.take, spent.parts),
        each(spent.early, spent.parts),
        each(spent.close, spent.closed),
        each(spent.save, spent.closed)
    );
    Ok(())
}

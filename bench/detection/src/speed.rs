//! Events per second of the backtest, on one thread.

use std::path::Path;
use std::time::{Duration, Instant};

use herd_backtest::Backtest;
use herd_spec::plan::Plan;
use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{EventRef, VERSION, Window};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::injections::{self, Purchase};
use crate::rules::{self, Metric};
use crate::table::Table;
use crate::traffic::BASE;

/// An event whose texts are made before the clock runs.
struct Prepared {
    id: String,
    user: String,
    item: String,
    event: String,
    time: i64,
}

/// The table of speeds.
pub(crate) fn table(count: u64, purchases: Option<&Path>) -> anyhow::Result<String> {
    let mut table = Table::new(["events", "detector", "number", "closed windows", "events/s", "µs/window"]);
    let known = rules::known();
    let mut inputs = vec![("a shop, 2,000 events/s, 1,000 items".to_owned(), shop(count))];
    if let Some(path) = purchases {
        let purchases = injections::read(path)?;
        inputs.push(("real purchases".to_owned(), purchases.into_iter().enumerate().map(prepared).collect()));
    }
    for (name, events) in &inputs {
        let mut plans = vec![("none".to_owned(), rules::plan(&Metric::counts(10), &[]))];
        for rule in &known {
            plans.push((rule.name.to_owned(), rules::plan(&Metric::counts(10), &rules::defaults(&[*rule]))));
        }
        let mut bare = None;
        for (detector, plan) in plans {
            let (took, windows) = measure(events, &plan?)?;
            let bare = *bare.get_or_insert(took);
            let scoring = took.saturating_sub(bare).as_secs_f64() * 1e6 / windows.max(1) as f64;
            table.row([
                name.clone(),
                detector,
                events.len().to_string(),
                windows.to_string(),
                format!("{:.0}", events.len() as f64 / took.as_secs_f64()),
                format!("{scoring:.2}"),
            ]);
        }
    }
    Ok(format!(
        "## Speed\n\nOne count metric with windows of 10 s, parsed events, one thread by its processor time; the last column is the time that a detector adds for \
         each closed window of a key.\n\n{table}"
    ))
}

fn prepared((number, purchase): (usize, Purchase)) -> Prepared {
    let Purchase { time, user, item, event } = purchase;
    Prepared { id: format!("{number:032x}"), user, item, event, time }
}

/// Views of a shop: popular items have most of them.
fn shop(count: u64) -> Vec<Prepared> {
    let mut random = SmallRng::seed_from_u64(1);
    let event = |number: u64| {
        let popularity: f64 = random.random();
        Prepared {
            id: format!("{number:032x}"),
            user: format!("user-{}", random.random_range(0..50_000)),
            item: format!("product-{}", (popularity * popularity * 1_000.0) as u64),
            event: "view".into(),
            time: BASE + number as i64 / 2,
        }
    };
    (0..count).map(event).collect()
}

/// Time that this thread has been on a processor: other programs on the machine do not count. Where the kernel does not say it, the time
/// since `began`.
fn busy(began: Instant) -> Duration {
    let on_cpu = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanoseconds = on_cpu.ok().and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// The shortest of three times.
fn measure(events: &[Prepared], plan: &Plan) -> anyhow::Result<(Duration, u64)> {
    let began = Instant::now();
    let mut best: Option<(Duration, u64)> = None;
    for _ in 0..3 {
        let start = busy(began);
        let mut backtest = Backtest::new(plan, |_: &Window<'_>| {});
        for event in events {
            let record = EventRef {
                v: VERSION,
                event_id: event.id.as_str().into(),
                event_type: event.event.as_str().into(),
                user_id: Some(event.user.as_str().into()),
                item_id: Some(event.item.as_str().into()),
                time: EventTime(event.time),
                received: WallTime(event.time),
                properties: None,
            };
            backtest.push(&event.user, &record)?;
        }
        let end = backtest.end();
        let (result, _) = backtest.finish(end)?;
        let took = busy(began).saturating_sub(start);
        if best.is_none_or(|(least, _)| took < least) {
            best = Some((took, result.counts.windows));
        }
    }
    best.ok_or_else(|| anyhow::anyhow!("nothing was measured"))
}

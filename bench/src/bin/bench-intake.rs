//! What the collector's pure core costs: a body of 50 events, split, mapped and written as records, one thread.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use herd_bench::{plan, rate};
use herd_collector::intake::{Format, Intake, split};
use herd_spec::units::WallTime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let plan = plan("bench", None, "  metrics: [{name: views, window: 1s}]\n")?;
    let intake = Intake::new(&plan.events).map_err(anyhow::Error::msg)?;
    let item = |n: u32| {
        format!(
            r#"{{"event_id":"00000000-0000-4000-8000-{n:012}","user_id":"user-{}","event_type":"view","product_id":"p-{}","timestamp":"2026-11-21T04:00:00.000Z","price":9.5,"device":"mobile"}}"#,
            n % 50_000,
            n % 1_000
        )
    };
    let body = format!("[{}]", (0..50).map(item).collect::<Vec<_>>().join(","));
    let (mut events, mut bytes) = (0_u64, 0_usize);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        let (items, _) = split(body.as_bytes(), Format::Json)?;
        for item in &items {
            let mut value = Vec::with_capacity(item.raw().len() + 128);
            let accepted = intake.accept(item, WallTime(1_800_000_000_000), || "id".into(), &mut value)?;
            bytes += value.len() + accepted.key.len();
            events += 1;
        }
    }
    let rate = rate(events, began.elapsed());
    println!(
        "intake: {:.0} events/s, {:.2} µs an event, {} bytes a record",
        rate,
        1e6 / rate,
        bytes as u64 / events
    );
    Ok(())
}

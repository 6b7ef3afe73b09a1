//! Fold beside a bare consumer, over the same topic on a real Kafka.
//!
//! `fill N` writes N events of about 200 bytes; `bare` reads them with librdkafka and counts them; `fold` runs Herd's fold over
//! them, up to its parts, watermarks and commits. Each prints its rate from the first record to the last. The events are of
//! today: the broker's retention deletes what is older than its days, while the rounds still run.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use herd_bench::{event, plan, rate};
use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_bus::{Acks, Bus, Outgoing, Producer, SendError};
use herd_detector::fold::Fold;
use herd_detector::metrics::FoldMetrics;
use herd_spec::plan::Plan;
use herd_stage::{Clock, Secrets, Stage, SystemClock};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A minute of event time for a million events.
const PER_MS: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> anyhow::Result<()> {
    let servers = std::env::var("HERD_TEST_KAFKA").context("run this with dev/with-services")?;
    let name = std::env::var("BENCH_NAME").unwrap_or_else(|_| "bench-fold".into());
    let spec = "  metrics: [{name: views, window: 1s, events: {types: [view]}}]\n  \
                detectors: [{name: d, metric: views, algorithm: {poisson: {}}}]\n";
    let plan = plan(&name, Some(&servers), spec)?;
    let bus = KafkaBus::connect(&KafkaSettings::plain(&servers, "bench"))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", count] => fill(&bus, &plan, count.parse()?),
        ["bare", count] => bare(&servers, &plan, count.parse()?),
        ["fold", count] => fold(&bus, plan, count.parse()?),
        _ => bail!("bench-fold fill|bare|fold N"),
    }
}

fn fill(bus: &KafkaBus, plan: &Plan, count: u64) -> anyhow::Result<()> {
    bus.ensure_topics(&plan.topics.all())?;
    let producer = bus.producer("fill")?;
    let acks = Acks::new();
    let mut value = String::new();
    let mut bytes = 0;
    let now = SystemClock.now();
    // The last event is of now: none is ahead of the clock.
    let start = now.minus(Duration::from_millis(count / PER_MS));
    for number in 0..count {
        event(&mut value, number, start.0, PER_MS);
        bytes += value.len();
        let key = number.to_le_bytes();
        let record = Outgoing {
            topic: &plan.topics.events.name,
            partition: None,
            key: Some(&key),
            value: Some(value.as_bytes()),
            timestamp: now,
            headers: &[],
        };
        while let Err(error) = producer.send(&record, acks.expect(0)) {
            if !matches!(error, SendError::Full) {
                bail!("{error}");
            }
            producer.flush(Duration::from_millis(50));
        }
    }
    if !acks.wait(PATIENCE) || !acks.take_failed().is_empty() {
        bail!("not everything was acknowledged");
    }
    println!("filled: {count} events of {} bytes", bytes as u64 / count.max(1));
    Ok(())
}

fn bare(servers: &str, plan: &Plan, count: u64) -> anyhow::Result<()> {
    let topic = &plan.topics.events.name;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "bench-bare")
        .set("enable.auto.commit", "false")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "65536")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..6 {
        all.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let (mut seen, mut bytes, mut began) = (0_u64, 0, None);
    while seen < count {
        let Some(message) = consumer.poll(PATIENCE) else { bail!("nothing came for two minutes") };
        let message = message?;
        began.get_or_insert_with(Instant::now);
        bytes += message.payload().map_or(0, <[u8]>::len);
        seen += 1;
    }
    let took = began.context("no event")?.elapsed();
    println!("bare consumer: {:.0} events/s ({} MB)", rate(seen, took), bytes / 1_000_000);
    Ok(())
}

fn fold(bus: &KafkaBus, mut plan: Plan, count: u64) -> anyhow::Result<()> {
    // A group of its own each time, so that each begins at the beginning.
    plan.groups.fold = format!("{}.{}", plan.groups.fold, std::process::id());
    let stage = Stage::new(CancellationToken::new(), Secrets::default());
    let counters = FoldMetrics::register(&stage);
    let mut fold = Fold::join(&plan, bus, SystemClock, "bench", counters.clone())?;
    let mut began = None;
    let deadline = Instant::now() + PATIENCE;
    while counters.events() < count {
        fold.step(Duration::from_millis(100))?;
        if counters.events() > 0 {
            began.get_or_insert_with(Instant::now);
        }
        if Instant::now() > deadline {
            bail!("{} of {count} events after two minutes", counters.events());
        }
    }
    let took = began.context("no event")?.elapsed();
    fold.finish()?;
    println!("fold: {:.0} events/s", rate(count, took));
    Ok(())
}

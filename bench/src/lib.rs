//! What the measurements share: the events they are made with, and what Linux says of this process.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use herd_spec::plan::Plan;

/// A plan with one metric, `views`, of windows of one second, and one detector; on this Kafka where one is given.
///
/// # Errors
/// If the spec below is not valid any more.
pub fn plan(name: &str, kafka: Option<&str>, rest: &str) -> anyhow::Result<Plan> {
    let kafka = kafka.map_or(String::new(), |servers| {
        format!("  kafka: {{bootstrapServers: ['{servers}'], partitions: 6}}\n")
    });
    let yaml = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: {name}}}\nspec:\n{kafka}{rest}"
    );
    let pipeline = herd_spec::document::parse(&yaml).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Plan::parse(&pipeline).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}

/// The record of the `events` topic with this number: about 200 bytes, one of 1,000 items, one of 50,000 users.
pub fn event(out: &mut String, number: u64, start_ms: i64, per_ms: u64) {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (user, item) = (mixed >> 20, mixed >> 40);
    let time = start_ms + i64::try_from(number / per_ms.max(1)).unwrap_or(0);
    out.clear();
    // A String takes every write.
    let _ = write!(
        out,
        r#"{{"v":1,"event_id":"00000000-0000-4000-8000-{number:012}","type":"view","user_id":"user-{}","item_id":"p-{}","time":{time},"received":{time},"properties":{{"session_id":"s-{}"}}}}"#,
        user % 50_000,
        item % 1_000,
        user % 70_000,
    );
}

/// Resident memory of this process, in bytes.
///
/// # Errors
/// If /proc does not say.
pub fn resident() -> anyhow::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kilobytes: usize = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kilobytes * 1024)
}

/// `count` a second.
#[must_use]
pub fn rate(count: u64, took: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let count = count as f64;
    count / took.as_secs_f64()
}

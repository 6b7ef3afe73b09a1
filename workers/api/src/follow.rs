//! Follows a topic from near its end, on a thread of its own, outside any group.

use std::collections::HashMap;
use std::time::Duration;

use herd_bus::{Bus, BusError, Change, Consumer, Membership, Record};
use herd_spec::units::{Offset, Partition};
use herd_stage::Health;
use tokio_util::sync::CancellationToken;

/// How long a fetch waits; a record ends the wait at once. Bounds how long shutdown takes.
const WAIT: Duration = Duration::from_millis(200);
/// Records of one fetch.
const BATCH: usize = 1_000;
/// How long the broker may take to say where partitions end.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many fetches without a record the end is reached, wherever it is (old records may have expired).
const QUIET_FETCHES: u32 = 10;

/// What to follow.
#[derive(Clone, Debug)]
pub(crate) struct Following<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// Start this many records before the end, over all partitions.
    pub(crate) history: i64,
    /// Readiness condition: holds once the history is read.
    pub(crate) condition: &'static str,
}

/// Hands every record to `each` until `shutdown`.
///
/// # Errors
/// If the bus fails for good.
pub(crate) fn follow<B: Bus>(
    bus: &B,
    following: &Following<'_>,
    health: &Health,
    shutdown: &CancellationToken,
    mut each: impl FnMut(&Record<'_>),
) -> Result<(), BusError> {
    health.fail(following.condition, format!("reading the latest records of {}", following.topic));
    let mut consumer = bus.consumer(following.topic, Membership::All)?;
    // Where to go on, and where each partition ended when it was first seen.
    let mut next: HashMap<Partition, Offset> = HashMap::new();
    let mut ends: HashMap<Partition, Offset> = HashMap::new();
    let mut waiting: Vec<Partition> = Vec::new();
    let mut quiet = 0;
    let mut caught_up = false;
    while !shutdown.is_cancelled() {
        let fetched = consumer.fetch(WAIT, BATCH, |record| {
            next.insert(record.partition, record.offset.next());
            each(record);
        })?;
        for change in fetched.changes {
            match change {
                Change::Assigned(partitions) => waiting.extend(partitions),
                Change::Revoked(partitions) | Change::Lost(partitions) => {
                    waiting.retain(|partition| !partitions.contains(partition));
                    consumer.release(&partitions)?;
                }
            }
        }
        if !waiting.is_empty() {
            match consumer.end_offsets(&waiting, PATIENCE) {
                Ok(found) => {
                    let share = following.history / i64::try_from(found.len().max(1)).unwrap_or(1);
                    let from: Vec<(Partition, Offset)> = found
                        .iter()
                        .map(|(partition, end)| {
                            ends.entry(*partition).or_insert(*end);
                            let start = *next.entry(*partition).or_insert(Offset((end.0 - share).max(0)));
                            (*partition, start)
                        })
                        .collect();
                    consumer.start(&from)?;
                    waiting.clear();
                    quiet = 0;
                }
                Err(error) if error.is_retryable() => {
                    health.fail(following.condition, error.to_string());
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        if !caught_up {
            quiet = if fetched.records == 0 { quiet + 1 } else { 0 };
            let read = ends.iter().all(|(partition, end)| next.get(partition).is_some_and(|at| at >= end));
            if !ends.is_empty() && (read || quiet >= QUIET_FETCHES) {
                caught_up = true;
                health.ok(following.condition);
            }
        }
    }
    consumer.close();
    Ok(())
}

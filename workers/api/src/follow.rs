//! Follows a topic from near its end, on a thread of its own, outside any group.

use std::collections::HashMap;
use std::time::{Duration, Instant};

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
/// How long the bus may take to say whether it answers.
const PING: Duration = Duration::from_secs(2);
/// From one try to the next.
const AGAIN: Duration = Duration::from_secs(1);
/// After so many fetches without a record the end is reached, wherever it is (old records may have expired).
const QUIET_FETCHES: u32 = 10;

/// What to follow.
#[derive(Clone, Debug)]
pub(crate) struct Following<'a> {
    /// The topic.
    pub(crate) topic: &'a str,
    /// Start this many records before the end, over all partitions.
    pub(crate) history: i64,
    /// The step in the report of the stage's health: it has begun once the history is read.
    pub(crate) step: &'static str,
}

/// Where to go on, and where each partition ended when it was first seen.
#[derive(Debug, Default)]
struct Read {
    next: HashMap<Partition, Offset>,
    ends: HashMap<Partition, Offset>,
    caught_up: bool,
}

/// Hands every record to `each` until `shutdown`. While the bus does not answer, or the topic is not there, it says so and tries again.
pub(crate) fn follow<B: Bus>(
    bus: &B,
    following: &Following<'_>,
    health: &Health,
    shutdown: &CancellationToken,
    mut each: impl FnMut(&Record<'_>),
) {
    health.starting(following.step, format!("reading the latest records of {}", following.topic));
    let mut read = Read::default();
    while let Err(error) = read.follow(bus, following, health, shutdown, &mut each) {
        tracing::warn!(topic = following.topic, %error, "cannot be followed; trying again");
        health.fail(following.step, error.trouble(), error.to_string());
        if matches!(error, BusError::Missing { .. }) {
            // One that is created again begins anew.
            read = Read::default();
        }
        let until = Instant::now() + AGAIN;
        while Instant::now() < until && !shutdown.is_cancelled() {
            std::thread::sleep(WAIT);
        }
    }
}

impl Read {
    fn follow<B: Bus>(
        &mut self,
        bus: &B,
        following: &Following<'_>,
        health: &Health,
        shutdown: &CancellationToken,
        each: &mut impl FnMut(&Record<'_>),
    ) -> Result<(), BusError> {
        if shutdown.is_cancelled() {
            return Ok(());
        }
        // What waits for a broker waits for long; whether it answers is known sooner.
        bus.ping(PING)?;
        let mut consumer = bus.consumer(following.topic, Membership::All)?;
        let mut waiting: Vec<Partition> = Vec::new();
        let mut quiet = 0;
        while !shutdown.is_cancelled() {
            let fetched = consumer.fetch(WAIT, BATCH, |record| {
                self.next.insert(record.partition, record.offset.next());
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
                        consumer.start(&self.positions(&found, following.history))?;
                        waiting.clear();
                        quiet = 0;
                    }
                    Err(error) if error.is_retryable() => {
                        health.fail(following.step, error.trouble(), error.to_string());
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            if self.caught_up {
                // After a failure the step is well as soon as it reads again.
                health.ok(following.step);
                continue;
            }
            quiet = if fetched.records == 0 { quiet + 1 } else { 0 };
            let ends = &self.ends;
            let read =
                ends.iter().all(|(partition, end)| self.next.get(partition).is_some_and(|at| at >= end));
            if !ends.is_empty() && (read || quiet >= QUIET_FETCHES) {
                self.caught_up = true;
                health.ok(following.step);
            }
        }
        consumer.close();
        Ok(())
    }

    /// Where to begin in partitions that end there: where it was left, or so many records before the end.
    fn positions(&mut self, found: &[(Partition, Offset)], history: i64) -> Vec<(Partition, Offset)> {
        let share = history / i64::try_from(found.len().max(1)).unwrap_or(1);
        let positions = found.iter().map(|(partition, end)| {
            self.ends.entry(*partition).or_insert(*end);
            (*partition, *self.next.entry(*partition).or_insert(Offset((end.0 - share).max(0))))
        });
        positions.collect()
    }
}

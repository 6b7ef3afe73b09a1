//! How long it takes from an event that is accepted to a window that shows it: of probes, events whose item nobody else has.
//!
//! Measured from the moment the client has the collector's answer to the moment an ordinary consumer of the `windows` topic has
//! the first record with the probe's item.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError, Change, Consumer, Membership};
use parking_lot::Mutex;

use crate::expected::Bits;
use crate::pipeline::Pipeline;

#[derive(Default)]
pub(crate) struct Delays {
    open: Mutex<HashMap<u64, Probe>>,
    done: Mutex<Bits>,
    /// When each was seen, and how long that took.
    found: Mutex<Vec<(Instant, Duration)>>,
    stop: AtomicBool,
}

#[derive(Default, Clone, Copy)]
struct Probe {
    accepted: Option<Instant>,
    seen: Option<Instant>,
}

impl Delays {
    pub(crate) fn accepted(&self, probe: u64) {
        self.note(probe, |known| known.accepted = Some(Instant::now()));
    }

    fn seen(&self, probe: u64) {
        if !self.done.lock().has(probe) {
            self.note(probe, |known| known.seen = known.seen.or(Some(Instant::now())));
        }
    }

    fn note(&self, probe: u64, change: impl FnOnce(&mut Probe)) {
        let mut open = self.open.lock();
        let known = open.entry(probe).or_default();
        change(known);
        if let Probe { accepted: Some(accepted), seen: Some(seen) } = *known {
            open.remove(&probe);
            self.done.lock().set(probe);
            self.found.lock().push((seen, seen.saturating_duration_since(accepted)));
        }
    }

    /// Delays of probes seen since `from`, in milliseconds, in order.
    pub(crate) fn since(&self, from: Instant) -> Vec<u64> {
        let found = self.found.lock();
        let lately = found.iter().rev().take_while(|(at, _)| *at >= from);
        let mut delays: Vec<u64> = lately.map(|(_, took)| u64::try_from(took.as_millis()).unwrap()).collect();
        delays.sort_unstable();
        delays
    }

    /// Reads the `windows` topic from its end, on a thread, until [`Delays::finish`].
    pub(crate) fn watch(self: &Arc<Self>, pipeline: &Pipeline) {
        let (delays, bus, topic) =
            (Arc::clone(self), pipeline.bus.clone(), pipeline.plan.topics.windows.name.clone());
        std::thread::spawn(move || {
            let mut consumer = bus.consumer(&topic, Membership::All).unwrap();
            while !delays.stop.load(Ordering::Relaxed) {
                let fetched = consumer.fetch(Duration::from_millis(100), 8_192, |record| {
                    if let Some(probe) = record.key.and_then(probe_of) {
                        delays.seen(probe);
                    }
                    Ok::<_, BusError>(())
                });
                for change in fetched.unwrap().changes {
                    if let Change::Assigned(partitions) = change {
                        let ends = consumer.end_offsets(&partitions, Duration::from_secs(20)).unwrap();
                        consumer.start(&ends).unwrap();
                    }
                }
            }
        });
    }

    /// Ends watching; how many probes were accepted and never seen.
    pub(crate) fn finish(&self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.open.lock().values().filter(|probe| probe.accepted.is_some()).count()
    }
}

/// The probe that a window's key (metric, unit separator, item) is of; only of the metric that counts all.
fn probe_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix("all\u{1F}probe-")?.parse().ok()
}

/// The value below which this share of the sorted ones lies.
pub(crate) fn percentile(sorted: &[u64], share: usize) -> u64 {
    sorted.get(sorted.len() * share / 100).or(sorted.last()).copied().unwrap_or(0)
}

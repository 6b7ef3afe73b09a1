//! The capacity of one replica, learned from its output and utilisation.

use super::history::History;
use super::memory::{Capacity, Memory};
use super::policy::{MIN_WINDOW, NO_BACKLOG, SHORT, SMOOTHING};
use super::signals::{Signals, rates};
use crate::units::{Replicas, WallTime};

/// Minimum utilisation for an output to prove a capacity: idle replicas look slow.
const MIN_BUSY_TO_PROVE: f64 = 0.5;
/// Minimum utilisation for output / utilisation to be more than noise.
const MIN_BUSY: f64 = 0.1;

/// Learns from the newest poll, once all replicas have been ready and the group stable for two polls.
pub(super) fn learn(
    memory: &mut Memory,
    history: &History,
    signals: &Signals,
    ready: Replicas,
    now: WallTime,
) {
    let Some(stable_for) = memory.stable_since.map(|since| now.since(since)) else { return };
    let Some((from, to)) = history.before(stable_for.min(SHORT)).zip(history.newest()) else { return };
    if ready.0 == 0
        || stable_for < MIN_WINDOW
        || to.at.since(from.at) < MIN_WINDOW
        || memory.blocked(now).is_some()
    {
        return;
    }
    let output = rates(from, to, |point| point.position);
    if output <= 0.0 {
        return;
    }
    let each = output / f64::from(ready.0);
    let live = || signals.partitions.iter().filter(|one| !one.stuck);
    let saturated = signals.delay.is_none_or(|delay| delay > NO_BACKLOG) && live().all(|one| one.behind());
    // Over the same window as the output: a burst that has just begun would be in the utilisation but not yet in the output.
    let (measured, proven) = match history.busy_since(from.at) {
        Some(busy) if busy >= MIN_BUSY => (each / busy.min(1.0), busy >= MIN_BUSY_TO_PROVE),
        None if saturated => (each, true),
        _ => (each, false),
    };
    memory.capacity = Some(match memory.capacity {
        None => Capacity { records_per_second: measured, proven },
        Some(known) if proven && !known.proven => Capacity { records_per_second: measured.max(each), proven },
        Some(known) => {
            let old = known.records_per_second;
            // Batches have a fixed cost: a replica that is busy with few records can process more per second with many. Only one that
            // falls behind has reached its limit.
            let follow = saturated || measured > old;
            let records_per_second = if follow { old + SMOOTHING * (measured - old) } else { old };
            Capacity { records_per_second, proven: known.proven }
        }
    });
}

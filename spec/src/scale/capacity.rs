//! What one replica can do, learnt from what it did.

use super::history::History;
use super::memory::{Capacity, Memory};
use super::policy::{LEAST, NO_BACKLOG, SHORT, SMOOTHING};
use super::signals::{Signals, rates};
use crate::units::{Replicas, WallTime};

/// Share of its time a replica must have worked for its capacity to be lowered by it: idle replicas look slow.
const BUSY_ENOUGH: f64 = 0.5;
/// Below this share the quotient is mostly noise.
const LEAST_BUSY: f64 = 0.1;

/// Learns from the newest poll, once all replicas have worked undisturbed for two polls.
pub(super) fn learn(
    memory: &mut Memory,
    history: &History,
    signals: &Signals,
    ready: Replicas,
    now: WallTime,
) {
    let Some(calm) = memory.calm_since.map(|since| now.since(since)) else { return };
    let Some((from, to)) = history.before(calm.min(SHORT)).zip(history.newest()) else { return };
    if ready.0 == 0 || calm < LEAST || to.at.since(from.at) < LEAST || memory.blocked(now).is_some() {
        return;
    }
    let output = rates(from, to, |point| point.position);
    if output <= 0.0 {
        return;
    }
    let each = output / f64::from(ready.0);
    let live = || signals.partitions.iter().filter(|one| !one.stuck);
    let saturated = signals.delay.is_none_or(|delay| delay > NO_BACKLOG) && live().all(|one| one.behind());
    // Over the same time as the output: a burst that has just begun is not yet in the one and all in the other.
    let (seen, proven) = match history.busy_since(from.at) {
        Some(busy) if busy >= LEAST_BUSY => (each / busy.min(1.0), busy >= BUSY_ENOUGH),
        None if saturated => (each, true),
        _ => (each, false),
    };
    memory.capacity = Some(match memory.capacity {
        None => Capacity { records_per_second: seen, proven },
        Some(known) if proven && !known.proven => Capacity { records_per_second: seen.max(each), proven },
        Some(known) => {
            let old = known.records_per_second;
            // Work in batches costs something however few records there are: a replica that is busy with few can do more with
            // many. Only one that falls behind has shown what it cannot do.
            let follow = saturated || seen > old;
            let records_per_second = if follow { old + SMOOTHING * (seen - old) } else { old };
            Capacity { records_per_second, proven: known.proven }
        }
    });
}

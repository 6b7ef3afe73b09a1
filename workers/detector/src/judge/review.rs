//! Looks for open alerts that no detector owns any more, after the rules of a pipeline were changed.
//!
//! An alert is sent before the baseline that holds it is saved. If its judge dies in between and the rules are changed, nobody
//! replays the verdict, and nobody would ever end the alert. Hence whoever takes a partition over whose commit was made by
//! other rules reads the `alerts` topic: at once, and once more when nothing can come any more from a predecessor that was taken
//! for dead. Only then does the commit say that all open alerts are of today's rules.

use std::collections::BTreeMap;
use std::time::Duration;

use herd_bus::{Bus, BusError};
use herd_spec::units::{Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, Fingerprint};

/// How long a predecessor may go on writing: its session, and what its producer may hold.
const ZOMBIES_ARE_GONE: Duration = Duration::from_secs(60);

/// What is left to do for one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Review {
    /// The rules of the commit; none in commits that did not say.
    committed: Option<Fingerprint>,
    due: WallTime,
    is_last: bool,
}

impl Review {
    /// Of a partition taken over at `now`, if the rules of its commit are not `rules`.
    pub(super) fn needed(committed: Option<Fingerprint>, rules: Fingerprint, now: WallTime) -> Option<Self> {
        (committed != Some(rules)).then_some(Self { committed, due: now, is_last: false })
    }

    /// What the commit says meanwhile.
    pub(super) fn committed(&self) -> Option<Fingerprint> {
        self.committed
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self, now: WallTime) -> bool {
        now >= self.due
    }

    /// What is left after a look at `now`.
    pub(super) fn next(self, now: WallTime) -> Option<Self> {
        (!self.is_last).then_some(Self { due: now.plus(ZOMBIES_ARE_GONE), is_last: true, ..self })
    }
}

/// The open alerts in the `alerts` topic.
///
/// # Errors
/// If the topic cannot be read.
pub(super) fn open_alerts<B: Bus>(bus: &B, topic: &str, patience: Duration) -> Result<Vec<Alert>, BusError> {
    let mut alerts: BTreeMap<AlertId, Alert> = BTreeMap::new();
    for partition in 0..bus.partitions(topic)? {
        bus.scan(topic, Partition(partition), patience, &mut |record| {
            let Some(Ok(alert)) = record.value.map(Alert::parse) else { return };
            match alerts.get_mut(&alert.id) {
                Some(known) if known.state > alert.state => {}
                Some(known) => *known = alert,
                None => drop(alerts.insert(alert.id.clone(), alert)),
            }
        })?;
    }
    Ok(alerts.into_values().filter(|alert| alert.state.is_firing()).collect())
}

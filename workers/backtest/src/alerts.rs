//! The final state of each alert.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use herd_spec::wire::{Alert, AlertId, AlertState};

use crate::BacktestError;

/// Maximum number of alerts, about 1 GB. Whoever has more needs another configuration rather than a list of them.
const MAX_ALERTS: usize = 2_000_000;

/// The newest record of each alert. Early alerts are not kept: their windows close in the same run.
#[derive(Debug, Default)]
pub(crate) struct Alerts(HashMap<AlertId, Alert>);

impl Alerts {
    /// Takes in a record of the `alerts` topic: the highest state wins, of two in the same state the newer one.
    pub(crate) fn take(&mut self, alert: Alert) -> Result<(), BacktestError> {
        if alert.state == AlertState::Early {
            return Ok(());
        }
        let is_full = self.0.len() >= MAX_ALERTS;
        match self.0.entry(alert.id.clone()) {
            Entry::Occupied(mut entry) => {
                let known = entry.get();
                let until = |alert: &Alert| alert.episode.as_ref().map(|episode| episode.until);
                if (alert.state, until(&alert)) >= (known.state, until(known)) {
                    entry.insert(alert);
                }
            }
            Entry::Vacant(_) if is_full => {
                return Err(BacktestError::TooManyAlerts { most: MAX_ALERTS, detector: alert.detector });
            }
            Entry::Vacant(entry) => {
                entry.insert(alert);
            }
        }
        Ok(())
    }

    /// All alerts by time, detector and key.
    pub(crate) fn into_sorted(self) -> Vec<Alert> {
        let mut all: Vec<Alert> = self.0.into_values().collect();
        all.sort_by(|a, b| (a.start, &a.detector, &a.key).cmp(&(b.start, &b.detector, &b.key)));
        all
    }
}

//! What is known of windows that are still open: early alerts, and the ranges that detectors take for usual.

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;
use herd_detection::crowd::{self, OpenWindow};
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::EventTime;
use herd_spec::wire::Band;

use super::crowds::CrowdDetector;
use super::metric::{Metric, expectations_for, known};
use super::open_windows::SourceValues;
use super::output::Output;
use super::verdict::{self, Candidate};
use super::watch::Index;

impl Metric {
    /// Raises the early alerts of detectors of the algorithm `crowd`, for all keys that changed. Asked when a source has said how
    /// much traffic there is: parts alone would make every key look like a crowd when all of them grow.
    pub(super) fn fire_early_crowds<E>(
        &mut self,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(closed) = self.closed.filter(|_| self.raises_early && !self.crowds.is_empty()) else {
            return Ok(());
        };
        CrowdDetector::advance(&mut self.crowds, closed);
        let lag = self.crowds.iter().map(|crowd| crowd.settings.lag).min().unwrap_or(1);
        let watched = Arc::clone(&self.watched);
        while let Some(entry) = self.pending.first_entry() {
            let start = *entry.key();
            let index = watched.index(start);
            if index > closed.saturating_add(lag) {
                break; // what is usual for it is not yet known
            }
            for key in entry.remove() {
                if let Some(values) = self.windows.get_mut(&start).and_then(|open| open.keys.get_mut(&key)) {
                    values.pending = false;
                }
                self.fire_early_crowd(closed, index, &key, out)?;
            }
        }
        Ok(())
    }

    fn fire_early_crowd<E>(
        &mut self,
        closed: Index,
        index: Index,
        key: &CompactString,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = &*self.watched;
        if index <= closed || !self.watches(key) || self.is_past(key, index) || !verdict::fires_early(watched)
        {
            return Ok(());
        }
        let baseline = known(&self.baselines, watched, key, index);
        if baseline.is_some_and(|baseline| baseline.newest >= index) {
            return Ok(()); // a predecessor judged it already
        }
        let open = self.open_windows_of(key, closed, index);
        let Some(newest) = open.last() else { return Ok(()) };
        let candidate = Candidate {
            pipeline: &self.pipeline,
            watched,
            key,
            index,
            value: newest.value,
            count: newest.count,
            users: self.users(index, key),
        };
        for crowd in &self.crowds {
            let at = (crowd.place, key.clone());
            // The alert of an older window that is open as well is the alert of this one.
            if self.early.get(&at).is_some_and(|early| *early <= index) {
                continue;
            }
            let watching = baseline.map(|baseline| &baseline.watches[crowd.place]);
            if let Some(alert) = crowd.early(&watched.watches[crowd.place], watching, &candidate, &open) {
                self.early.insert(at, index);
                out(Output::Alert(alert))?;
            }
        }
        Ok(())
    }

    /// The different users of a key in an open window, where a detector demands them.
    fn users(&self, index: Index, key: &str) -> u64 {
        if !self.watched.demands_users() {
            return 0;
        }
        let values = self.windows.get(&self.watched.start(index)).and_then(|open| open.keys.get(key));
        values.map_or(0, |values| values.total().users())
    }

    /// The open windows of a key up to `index`, oldest first, as far as they are known.
    fn open_windows_of(&self, key: &str, closed: Index, index: Index) -> Vec<OpenWindow> {
        let first = closed.saturating_add(1).max((index + 1).saturating_sub(crowd::LONGEST));
        let open = (first..=index).map(|index| {
            let start = self.watched.start(index);
            let values = self.windows.get(&start).and_then(|open| open.keys.get(key));
            let total = values.map(SourceValues::total).unwrap_or_default();
            OpenWindow {
                index,
                value: total.value(self.watched.metric.aggregate.function()),
                count: total.count,
                total: self.totals.count(start),
            }
        });
        open.collect()
    }

    /// Whether an open window can be judged when everything up to `closed` is closed: its baseline is then complete.
    pub(super) fn is_scorable(&self, closed: Option<EventTime>, index: Index) -> bool {
        let newest = closed.map(|closed| self.watched.newest_closed(closed));
        newest.is_some_and(|newest| newest >= index.saturating_sub(self.watched.lag))
    }

    /// Raises the early alerts of one key in an open window.
    pub(super) fn fire_early<E>(
        &mut self,
        closed: Option<EventTime>,
        start: EventTime,
        key: &str,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = &*self.watched;
        let index = watched.index(start);
        if !self.watches(key) || !self.is_scorable(closed, index) || self.is_past(key, index) {
            return Ok(());
        }
        let Some(values) = self.windows.get_mut(&start).and_then(|open| open.keys.get_mut(key)) else {
            return Ok(());
        };
        let baseline = known(&self.baselines, watched, key, index);
        if baseline.is_some_and(|baseline| baseline.newest >= index) {
            return Ok(()); // a predecessor judged it already
        }
        let total = values.total();
        let make = || expectations_for(baseline, watched, index).into();
        let expectations = match baseline {
            Some(_) => values.expectations.get_or_insert_with(make),
            // Perhaps forgotten since it was last asked for.
            None => values.expectations.insert(make()),
        };
        let candidate = Candidate {
            pipeline: &self.pipeline,
            watched,
            key,
            index,
            value: total.value(watched.metric.aggregate.function()),
            count: total.count,
            users: if watched.demands_users() { total.users() } else { 0 },
        };
        for (detector, (watch, expectation)) in watched.watches.iter().zip(expectations.iter()).enumerate() {
            let Some(expectation) = expectation else { continue };
            if verdict::crossing(&candidate, watch, expectation).is_none() {
                continue;
            }
            let before = self.early.get(&(detector, key.into())).copied();
            let kept = baseline.map(|baseline| &baseline.watches[detector]);
            if let Some(alert) = verdict::early(&candidate, watch, kept, expectation, before) {
                let latest = before.map_or(index, |before| before.max(index));
                self.early.insert((detector, key.into()), latest);
                out(Output::Alert(alert))?;
            }
        }
        Ok(())
    }

    /// What detectors of the algorithm `crowd` take for usual in an open window, for the keys that changed.
    pub(super) fn crowd_bands(&self, index: Index, start: EventTime) -> HashMap<CompactString, Vec<Band>> {
        let (Some(closed), Some(open)) = (self.closed, self.windows.get(&start)) else {
            return HashMap::new();
        };
        if self.crowds.is_empty() {
            return HashMap::new();
        }
        let changed = open.keys.iter().filter(|(key, values)| values.changed && key != &OTHER_KEY);
        let bands = changed.map(|(key, _)| {
            let baseline = known(&self.baselines, &self.watched, key, index);
            let open = self.open_windows_of(key, closed, index);
            let band = |crowd: &CrowdDetector| {
                let watching = baseline.map(|baseline| &baseline.watches[crowd.place]);
                crowd.band(&self.watched.watches[crowd.place], watching, index, &open)
            };
            (key.clone(), self.crowds.iter().filter_map(band).collect())
        });
        bands.collect()
    }
}

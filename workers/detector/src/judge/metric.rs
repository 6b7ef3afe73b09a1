//! One metric of a partition of judge: its open windows, the memories of its keys, and how a window is judged, early and when it
//! closes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use compact_str::CompactString;
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::{EventTime, Offset};
use herd_spec::wire::{Alert, Band, Part, VERSION, Window, metric_key};

use super::baseline::Baseline;
use super::open_windows::{self, OpenWindows, SourceValues};
use super::output::{Output, Saved};
use super::verdict::{self, Candidate};
use super::watch::{Index, Watched};
use crate::aggregate::Running;
use crate::algorithm::Expectation;
use crate::keyed::{self, Keyed};

/// What a partition of judge keeps of one metric.
#[derive(Debug)]
pub(super) struct Metric {
    pipeline: Arc<str>,
    /// The metric, and the detectors that watch it.
    pub(super) watched: Arc<Watched>,
    windows: OpenWindows,
    /// Boxed: most of a table's places are empty or about to be, and a place costs what its value does.
    baselines: Keyed<Box<Baseline>>,
    /// Keys with an alert that is not resolved.
    firing: HashSet<CompactString>,
    /// For which window a detector last fired early, by detector and key, while that window is open.
    early: BTreeMap<(usize, CompactString), Index>,
    /// Keys whose baseline changed since it was last saved.
    unsaved: HashSet<CompactString>,
    /// Keys a predecessor forgot, and the newest window it had closed then: what is replayed up to there it has judged.
    forgotten: Keyed<Index>,
    /// When forgotten keys were last looked for.
    swept: Index,
}

impl Metric {
    /// Of which nothing is known yet.
    pub(super) fn new(pipeline: &Arc<str>, watched: &Arc<Watched>) -> Self {
        Self {
            pipeline: Arc::clone(pipeline),
            watched: Arc::clone(watched),
            windows: OpenWindows::default(),
            baselines: Keyed::default(),
            firing: HashSet::default(),
            early: BTreeMap::default(),
            unsaved: HashSet::default(),
            forgotten: Keyed::default(),
            swept: Index::default(),
        }
    }

    /// Takes a key's memory back in, as it was saved. The newest wins, not the last: a predecessor that was taken for dead may have
    /// written after its successor. Returns the alerts in it that no detector owns; none if it is not the newest.
    pub(super) fn remember(&mut self, key: &str, saved: Saved<'_>) -> Option<Vec<Alert>> {
        let known = self.baselines.get(key).map(|baseline| baseline.newest);
        let known = known.max(self.forgotten.get(key).copied());
        let is_newest = |at: Index| known.is_none_or(|known| known <= at);
        match saved {
            Saved::Forgotten(at) => {
                if !is_newest(at) {
                    return None;
                }
                self.baselines.remove(key);
                self.firing.remove(key);
                // Deleted by hand, without the header that says when: it begins anew, and nothing is past.
                if at < Index::MAX {
                    self.forgotten.insert(key.into(), at);
                }
                Some(Vec::new())
            }
            Saved::Kept(record) => {
                let read = Baseline::of_record(&record, &self.watched);
                let (baseline, disowned) = read.filter(|(new, _)| is_newest(new.newest))?;
                note_firing(&mut self.firing, key, baseline.is_firing());
                self.forgotten.remove(key);
                self.baselines.insert(key.into(), Box::new(baseline));
                Some(disowned)
            }
        }
    }

    /// The memory of this key must be saved.
    pub(super) fn mark_unsaved(&mut self, key: CompactString) {
        self.unsaved.insert(key);
    }

    /// Takes a part in; false if a newer one of its source is there.
    pub(super) fn take(&mut self, offset: Offset, part: &Part<'_>, value: Running) -> bool {
        open_windows::take(&mut self.windows, offset, part, value)
    }

    /// Whether detectors look at a key: not at the overflow, which is no item but all that had no room.
    fn watches(&self, key: &str) -> bool {
        !self.watched.watches.is_empty() && key != OTHER_KEY
    }

    /// Whether a predecessor judged this window of a key that it has forgotten since.
    fn is_past(&self, key: &str, index: Index) -> bool {
        self.forgotten.get(key).is_some_and(|at| index <= *at)
    }

    /// Whether an open window can be judged when everything up to `closed` is closed: its baseline is then complete.
    fn is_scorable(&self, closed: Option<EventTime>, index: Index) -> bool {
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
        };
        for (detector, (watch, expectation)) in watched.watches.iter().zip(expectations.iter()).enumerate() {
            let Some(expectation) = expectation else { continue };
            if watch.rule.crossing(expectation, candidate.value, candidate.count).is_none() {
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

    /// Emits the values of open windows that changed since this was last called.
    pub(super) fn emit_provisional<E>(
        &mut self,
        closed: Option<EventTime>,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = Arc::clone(&self.watched);
        let starts: Vec<EventTime> = self.windows.keys().copied().collect();
        for start in starts {
            let index = watched.index(start);
            let scorable = !watched.watches.is_empty() && self.is_scorable(closed, index);
            let Some(open) = self.windows.get_mut(&start) else { continue };
            let mut newly_scorable = Vec::new();
            for (key, values) in &mut open.keys {
                if scorable && values.expectations.is_none() && key != OTHER_KEY {
                    let baseline = known(&self.baselines, &watched, key, index);
                    values.expectations = Some(expectations_for(baseline, &watched, index).into());
                    newly_scorable.push(key.clone());
                }
                if std::mem::take(&mut values.changed) {
                    let total = values.total();
                    let expectations = values.expectations.as_deref().unwrap_or_default();
                    out(Output::Window(provisional(&watched, key, start, &total, expectations)))?;
                }
            }
            // Parts that came before their window could be judged.
            for key in newly_scorable {
                self.fire_early(closed, start, &key, out)?;
            }
        }
        Ok(())
    }

    /// Closes the windows that end at or before `closed`; how many, counting each key.
    pub(super) fn close<E>(
        &mut self,
        closed: EventTime,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut count = 0;
        while let Some(entry) = self.windows.first_entry() {
            if entry.key().plus(self.watched.metric.window) > closed {
                break;
            }
            let (start, open) = entry.remove_entry();
            for (key, values) in open.keys {
                self.close_key(start, &key, &values, out)?;
                count += 1;
            }
        }
        let newest = self.watched.newest_closed(closed);
        self.close_silence(newest, out)?;
        self.early.retain(|_, index| *index > newest);
        self.forgotten.retain(|_, at| *at > newest);
        Ok(count)
    }

    fn close_key<E>(
        &mut self,
        start: EventTime,
        key: &CompactString,
        values: &SourceValues,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = &*self.watched;
        let total = values.total();
        if !self.watches(key) {
            return out(Output::Window(closed(watched, key, start, &total, &[])));
        }
        let index = watched.index(start);
        if self.is_past(key, index) {
            return Ok(());
        }
        let baseline = keyed::at(&mut self.baselines, key, || Box::new(Baseline::fresh(watched, index)));
        // A predecessor judged it: its window and alerts are out, acknowledged before this memory was.
        if baseline.newest >= index {
            return Ok(());
        }
        let mut candidate = Candidate { pipeline: &self.pipeline, watched, key, index, value: 0.0, count: 0 };
        bring_up_to(baseline, &mut candidate, index, out)?;
        // Asked after the silence before it was judged, which may have ended an alert: many windows may close at once.
        if baseline.is_forgotten(watched, index) {
            **baseline = Baseline::fresh(watched, index);
        }
        candidate.index = index;
        candidate.value = total.value(watched.metric.aggregate.function());
        candidate.count = total.count;
        baseline.advance(watched, index.saturating_sub(watched.lag));
        let expectations = baseline.expectations(watched);
        out(Output::Window(closed(watched, key, start, &total, &expectations)))?;
        judge(baseline, &candidate, &expectations, out)?;
        baseline.note(index, candidate.value);
        note_firing(&mut self.firing, key, baseline.is_firing());
        self.unsaved.insert(key.clone());
        Ok(())
    }

    /// Judges the windows up to `newest` in which keys had no event: alerts are resolved by silence, and drops to nothing
    /// are drops.
    fn close_silence<E>(
        &mut self,
        newest: Index,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = &*self.watched;
        let keys: Vec<CompactString> = if watched.watches_drops() {
            self.baselines.keys().cloned().collect()
        } else {
            self.firing.iter().cloned().collect()
        };
        for key in keys {
            let Some(baseline) = self.baselines.get_mut(&key) else { continue };
            let mut candidate = Candidate {
                pipeline: &self.pipeline,
                watched,
                key: &key,
                index: newest,
                value: 0.0,
                count: 0,
            };
            if bring_up_to(baseline, &mut candidate, newest.saturating_add(1), out)? {
                self.unsaved.insert(key.clone());
            }
            note_firing(&mut self.firing, &key, baseline.is_firing());
        }
        Ok(())
    }

    /// Hands out what changed in the `baselines` topic, by the key there, when everything up to `closed` is closed.
    pub(super) fn save<E>(
        &mut self,
        closed: Option<EventTime>,
        save: &mut impl FnMut(&[u8], Saved<'static>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = &self.watched;
        for key in std::mem::take(&mut self.unsaved) {
            if let Some(baseline) = self.baselines.get(&key) {
                let saved = Saved::Kept(baseline.to_record(watched).into());
                save(&metric_key(&watched.baselines, &key), saved)?;
            }
        }
        let Some(newest) = closed.map(|closed| watched.newest_closed(closed)) else { return Ok(()) };
        // Looking at every key now and then is enough: forgetting is decided by the windows, not by the sweep.
        if newest.saturating_sub(self.swept) <= watched.memory / 4 {
            return Ok(());
        }
        self.swept = newest;
        let forgotten: Vec<CompactString> = self
            .baselines
            .extract_if(|_, baseline| baseline.is_forgotten(watched, newest))
            .map(|(key, _)| key)
            .collect();
        for key in forgotten {
            save(&metric_key(&watched.baselines, &key), Saved::Forgotten(newest))?;
        }
        Ok(())
    }

    /// The offset of the first part of the oldest open window.
    pub(super) fn first(&self) -> Option<Offset> {
        self.windows.values().map(|open| open.first).min()
    }

    /// Keys in open windows.
    pub(super) fn open_keys(&self) -> usize {
        self.windows.values().map(|open| open.keys.len()).sum()
    }

    /// Keys with a memory.
    pub(super) fn baselines(&self) -> usize {
        self.baselines.len()
    }
}

fn note_firing(firing: &mut HashSet<CompactString>, key: &str, is_firing: bool) {
    if is_firing {
        firing.insert(key.into());
    } else {
        firing.remove(key);
    }
}

/// The baseline of a key, unless it is forgotten in this window.
fn known<'b>(
    baselines: &'b Keyed<Box<Baseline>>,
    watched: &Watched,
    key: &str,
    index: Index,
) -> Option<&'b Baseline> {
    let baseline = baselines.get(key).map(Box::as_ref);
    baseline.filter(|baseline| !baseline.is_forgotten(watched, index))
}

/// Judges the silent windows of a key before `until`, where silence means anything to its detectors; whether any verdict
/// came of it.
fn bring_up_to<E>(
    baseline: &mut Baseline,
    candidate: &mut Candidate<'_>,
    until: Index,
    out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let watched = candidate.watched;
    let mut judged = false;
    while baseline.newest.saturating_add(1) < until {
        let index = baseline.newest + 1;
        let forgotten = index.saturating_sub(baseline.last) > watched.memory;
        if !baseline.is_firing() && (forgotten || !watched.watches_drops()) {
            break;
        }
        baseline.advance(watched, index.saturating_sub(watched.lag));
        // Where silence has no value it is not judged: it only ends an alert.
        let expectations = match watched.silence() {
            Some(_) => baseline.expectations(watched),
            None => vec![None; watched.watches.len()],
        };
        candidate.index = index;
        judged |= judge(baseline, candidate, &expectations, out)?;
        // However long the silence: where it changes nothing any more, it costs nothing any more.
        let next = baseline.next_change_in_silence(watched, index, &expectations).unwrap_or(until).min(until);
        let known = if baseline.is_firing() { until } else { baseline.last + watched.memory + 1 };
        baseline.newest = next.min(known).max(index + 1) - 1;
    }
    Ok(judged)
}

/// Hands out the detectors' verdicts on a closed window; whether there was one.
fn judge<E>(
    baseline: &mut Baseline,
    candidate: &Candidate<'_>,
    expectations: &[Option<Expectation>],
    out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let mut judged = false;
    let watches = candidate.watched.watches.iter().zip(&mut baseline.watches);
    for ((watch, kept), expectation) in watches.zip(expectations) {
        if let Some(alert) = verdict::close(candidate, watch, kept, expectation.as_ref()) {
            out(Output::Alert(alert))?;
            judged = true;
        }
    }
    Ok(judged)
}

fn expectations_for(
    baseline: Option<&Baseline>,
    watched: &Watched,
    index: Index,
) -> Vec<Option<Expectation>> {
    match baseline {
        Some(baseline) => baseline.expectations_for(watched, index),
        None => Baseline::fresh(watched, index).expectations(watched),
    }
}

/// A window that is still open, as it stands.
fn provisional<'a>(
    watched: &'a Watched,
    key: &'a str,
    start: EventTime,
    total: &Running,
    expectations: &[Option<Expectation>],
) -> Window<'a> {
    Window { is_final: false, ..closed(watched, key, start, total, expectations) }
}

/// A closed window.
fn closed<'a>(
    watched: &'a Watched,
    key: &'a str,
    start: EventTime,
    total: &Running,
    expectations: &[Option<Expectation>],
) -> Window<'a> {
    let value = total.value(watched.metric.aggregate.function());
    let band = |(watch, expectation): (&super::watch::Watch, &Option<Expectation>)| {
        let range = expectation.as_ref().filter(|range| range.upper.is_finite())?;
        Some(Band {
            detector: watch.name.clone(),
            expected: range.expected,
            lower: if range.lower.is_finite() { range.lower } else { 0.0 },
            upper: range.upper,
            score: watch.rule.score(range, value),
        })
    };
    Window {
        v: VERSION,
        metric: watched.metric.name.as_str().into(),
        definition: watched.definition,
        key: key.into(),
        start,
        size_ms: u64::try_from(watched.metric.window.as_millis()).unwrap_or(u64::MAX),
        count: total.count,
        value,
        is_final: true,
        bands: watched.watches.iter().zip(expectations).filter_map(band).collect(),
    }
}

//! How a metric's windows close: in order, each with all its keys.

use std::sync::Arc;

use compact_str::CompactString;
use herd_detection::{crowd, total};
use herd_spec::plan::OTHER_KEY;
use herd_spec::units::EventTime;
use smallvec::SmallVec;

use super::baseline::Baseline;
use super::crowds::{ClosingWindow, CrowdDetector, Judgement};
use super::levels::LevelDetector;
use super::metric::{Metric, closed, note_firing};
use super::open_windows::{Open, SourceValues};
use super::output::Output;
use super::verdict::{self, Candidate};
use super::watch::{Index, Watched};
use crate::algorithm::Expectation;
use crate::keyed::{self, Keyed};

impl Metric {
    /// Closes the windows that end at or before `closed`; how many, counting each key.
    pub(super) fn close<E>(
        &mut self,
        closed: EventTime,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut count = 0;
        let newest = self.watched.newest_closed(closed);
        while let Some(index) = self.next_to_close().filter(|index| *index <= newest) {
            count += self.close_window(index, out)?;
            self.closed = Some(index);
        }
        self.closed = self.closed.max(Some(newest));
        for total in &mut self.total_watches {
            total.close_silence(&self.pipeline, &self.watched, newest, out)?;
        }
        self.close_silence(newest, out)?;
        self.early.retain(|_, index| *index > newest);
        self.forgotten.retain(|_, at| *at > newest);
        Ok(count)
    }

    /// The next window that must be closed: one with events, or one without in which a detector may have something to say.
    pub(super) fn next_to_close(&self) -> Option<Index> {
        let starts = [self.windows.keys().next().copied(), self.totals.oldest()];
        let next = starts.into_iter().flatten().min().map(|start| self.watched.index(start));
        let silent = self.closed.filter(|_| self.must_judge_silence()).map(|closed| closed + 1);
        [next, silent].into_iter().flatten().min()
    }

    /// Until when windows may be closed at once; none: without limit.
    pub(super) fn close_limit(&self) -> Option<EventTime> {
        let lags = self.crowds.iter().map(|crowd| crowd.settings.lag);
        let lag = lags.chain(self.levels.iter().map(|_| 1)).max()?;
        let kept = u32::try_from(crowd::HISTORY).unwrap_or(u32::MAX);
        let batch = kept.saturating_sub(lag + crowd::LONGEST).max(1);
        let next = self.next_to_close()?;
        Some(self.watched.start(next.saturating_add(batch)))
    }

    /// Whether detectors of the algorithms `crowd` and `level` judge windows without any event: while alerts of theirs go on, or drops
    /// count and keys are known.
    fn must_judge_silence(&self) -> bool {
        !(self.crowds.is_empty() && self.levels.is_empty())
            && (!self.following.is_empty() || (!self.baselines.is_empty() && self.follows_drops()))
    }

    fn follows_drops(&self) -> bool {
        self.crowds.iter().any(CrowdDetector::watches_drops)
            || self.levels.iter().any(LevelDetector::watches_drops)
    }

    fn close_window<E>(
        &mut self,
        index: Index,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let start = self.watched.start(index);
        let announced = self.totals.take_closed(start);
        let open = self.windows.remove(&start);
        let keys = open.map(|open: Open| open.keys).unwrap_or_default();
        let own: u64 = keys.values().map(|values| values.total().count).sum();
        let total = announced.max(own);
        if !self.total_watches.is_empty() {
            let counts = keys.iter().filter(|(key, _)| *key != OTHER_KEY).map(|(_, of)| of.total().count);
            let totals = (total, total::winsorized(counts));
            for watch in &mut self.total_watches {
                watch.close(&self.pipeline, &self.watched, index, totals, out)?;
            }
        }
        self.activity.begin_window();
        let mut closing = CrowdDetector::begin(&mut self.crowds, index, total);
        if !self.crowds.is_empty() {
            for (key, values) in &keys {
                self.take_into(&mut closing, index, key, values, out)?;
            }
        }
        CrowdDetector::close(&mut self.crowds, &closing);
        self.levels.iter_mut().for_each(|level| level.close(index, keys.len()));
        for (key, values) in &keys {
            self.close_key(index, key, values, out)?;
        }
        self.close_silent_keys(index, &keys, out)?;
        Ok(keys.len() as u64)
    }

    /// Adds a key of the window that closes to what its keys have in common.
    fn take_into<E>(
        &mut self,
        closing: &mut ClosingWindow,
        index: Index,
        key: &CompactString,
        values: &SourceValues,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = Arc::clone(&self.watched);
        let Some(Judged { baseline, candidate, is_new }) =
            memory(&self.pipeline, &watched, &mut self.baselines, &self.forgotten)
                .judged(index, key, values, out)?
        else {
            return Ok(());
        };
        self.activity.saw(is_new, candidate.count);
        CrowdDetector::take(&self.crowds, closing, &mut baseline.watches, &candidate);
        Ok(())
    }

    fn close_key<E>(
        &mut self,
        index: Index,
        key: &CompactString,
        values: &SourceValues,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let watched = Arc::clone(&self.watched);
        let (start, total) = (watched.start(index), values.total());
        if !self.watches(key) {
            return out(Output::Window(closed(&watched, key, start, &total, Vec::new())));
        }
        let Some(Judged { baseline, candidate, is_new }) =
            memory(&self.pipeline, &watched, &mut self.baselines, &self.forgotten)
                .judged(index, key, values, out)?
        else {
            return Ok(());
        };
        if self.crowds.is_empty() {
            self.activity.saw(is_new, candidate.count); // or it was seen before, with all keys of the window
        }
        baseline.advance(&watched, index.saturating_sub(watched.lag));
        let expectations = baseline.expectations(&watched);
        let mut judgements: SmallVec<[Judgement; 2]> = SmallVec::new();
        for crowd in &mut self.crowds {
            let place = crowd.place;
            judgements.push(crowd.judge(&watched.watches[place], &mut baseline.watches[place], &candidate));
        }
        for level in &mut self.levels {
            let place = level.place;
            judgements.push(level.judge(&watched.watches[place], &mut baseline.watches[place], &candidate));
        }
        let mut bands = watched.bands(&expectations, candidate.value);
        let mut alerts = Vec::new();
        let places =
            self.crowds.iter().map(|crowd| crowd.place).chain(self.levels.iter().map(|level| level.place));
        for (place, judgement) in places.zip(judgements) {
            if judgement.band.is_none() {
                self.activity.not_judged(place);
            }
            bands.extend(judgement.band);
            alerts.extend(judgement.alerts);
        }
        out(Output::Window(closed(&watched, key, start, &total, bands)))?;
        alerts.into_iter().try_for_each(|alert| out(Output::Alert(alert)))?;
        for (place, expectation) in expectations.iter().enumerate() {
            if expectation.is_none() && !watched.watches[place].follows_episodes() {
                self.activity.not_judged(place);
            }
        }
        judge(baseline, &candidate, &expectations, out)?;
        baseline.note(index, candidate.value);
        note_firing(&mut self.firing, &mut self.following, key, baseline, &watched);
        self.unsaved.insert(key.clone());
        Ok(())
    }

    /// Judges the keys without an event in a window that closed, where that matters to detectors that follow episodes.
    fn close_silent_keys<E>(
        &mut self,
        index: Index,
        keys: &Keyed<SourceValues>,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.must_judge_silence() {
            return Ok(());
        }
        let watched = Arc::clone(&self.watched);
        let drops = self.follows_drops();
        let known: Vec<CompactString> = if drops {
            self.baselines.keys().cloned().collect()
        } else {
            self.following.iter().cloned().collect()
        };
        for key in known.iter().filter(|key| !keys.contains_key(*key)) {
            let Some(baseline) = self.baselines.get_mut(key) else { continue };
            if baseline.newest >= index {
                continue; // a predecessor judged it, and events after it
            }
            let candidate = Candidate {
                pipeline: &self.pipeline,
                watched: &watched,
                key,
                index,
                value: 0.0,
                count: 0,
                users: 0,
            };
            for crowd in &mut self.crowds {
                let (watch, kept) = (&watched.watches[crowd.place], &mut baseline.watches[crowd.place]);
                if kept.firing.is_none() && !crowd.watches_drops() {
                    continue;
                }
                let was_firing = kept.firing.is_some();
                let judgement = crowd.judge(watch, kept, &candidate);
                // Silence in which nothing begins changes nothing that must be saved.
                if was_firing || kept.firing.is_some() {
                    self.unsaved.insert(key.clone());
                }
                judgement.alerts.into_iter().try_for_each(|alert| out(Output::Alert(alert)))?;
            }
            for level in &mut self.levels {
                let (watch, kept) = (&watched.watches[level.place], &mut baseline.watches[level.place]);
                if kept.firing.is_none() && !level.watches_drops() {
                    continue;
                }
                let was_firing = kept.firing.is_some();
                let alerts = level.judge_silence(watch, kept, &candidate);
                if was_firing || kept.firing.is_some() {
                    self.unsaved.insert(key.clone());
                }
                alerts.into_iter().try_for_each(|alert| out(Output::Alert(alert)))?;
            }
            note_firing(&mut self.firing, &mut self.following, key, baseline, &watched);
        }
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
                users: 0,
            };
            if bring_up_to(baseline, &mut candidate, newest.saturating_add(1), out)? {
                self.unsaved.insert(key.clone());
            }
            note_firing(&mut self.firing, &mut self.following, &key, baseline, watched);
        }
        Ok(())
    }
}

/// The baselines of a metric, and what they are judged with.
struct Memory<'a> {
    pipeline: &'a str,
    watched: &'a Watched,
    baselines: &'a mut Keyed<Box<Baseline>>,
    forgotten: &'a Keyed<Index>,
}

/// A window of a key that closes with events and is to be judged.
struct Judged<'a> {
    /// By this baseline, brought up to the window.
    baseline: &'a mut Baseline,
    candidate: Candidate<'a>,
    /// Whether nothing was known of the key before.
    is_new: bool,
}

fn memory<'a>(
    pipeline: &'a str,
    watched: &'a Watched,
    baselines: &'a mut Keyed<Box<Baseline>>,
    forgotten: &'a Keyed<Index>,
) -> Memory<'a> {
    Memory { pipeline, watched, baselines, forgotten }
}

impl<'a> Memory<'a> {
    /// The window as it is to be judged; none if no detector looks at the key, or a predecessor judged the window: its alerts are out,
    /// acknowledged before the baseline was.
    fn judged<E>(
        self,
        index: Index,
        key: &'a CompactString,
        values: &SourceValues,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<Option<Judged<'a>>, E> {
        let Self { pipeline, watched, baselines, forgotten } = self;
        let is_past = forgotten.get(key).is_some_and(|at| index <= *at);
        if is_past || watched.watches.is_empty() || key == OTHER_KEY {
            return Ok(None);
        }
        let mut is_new = false;
        let baseline = keyed::at(baselines, key, || {
            is_new = true;
            Box::new(Baseline::fresh(watched, index))
        });
        if baseline.newest >= index {
            return Ok(None);
        }
        let mut candidate = Candidate { pipeline, watched, key, index, value: 0.0, count: 0, users: 0 };
        bring_up_to(baseline, &mut candidate, index, out)?;
        // Asked after the silence before it was judged, which may have ended an alert: many windows may close at once.
        if baseline.is_forgotten(watched, index) {
            is_new = true;
            **baseline = Baseline::fresh(watched, index);
        }
        let total = values.total();
        candidate.index = index;
        candidate.value = total.value(watched.metric.aggregate.function());
        candidate.count = total.count;
        candidate.users = if watched.demands_users() { total.users() } else { 0 };
        Ok(Some(Judged { baseline, candidate, is_new }))
    }
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
        if watch.follows_episodes() {
            continue;
        }
        for alert in verdict::close(candidate, watch, kept, expectation.as_ref()) {
            out(Output::Alert(alert))?;
            judged = true;
        }
    }
    Ok(judged)
}

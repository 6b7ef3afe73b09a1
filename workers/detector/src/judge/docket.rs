//! One partition of `parts`: the open windows of its keys, what the sources have said, and the keys' memories.
//!
//! A grow-only counter for each source: per window and key the part of the highest version of every source is kept, so parts
//! that come twice or out of order are harmless. Everything is a function of the records' order and the times passed in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use compact_str::CompactString;
use herd_spec::units::{EventTime, Offset, WallTime};
use herd_spec::wire::{Alert, Part, PartRecord, Window, metric_key};

use super::baseline::Baseline;
use super::disowned::Disowned;
use super::metric::{Metric, is_watched, usual_for, window};
use super::open;
use super::retired::Retired;
use super::verdict::{self, Case};
use super::watch::{Index, Watched};
use crate::aggregate::Running;
use crate::commit::Position;

/// What a docket has to say.
#[derive(Debug)]
pub enum Output<'a> {
    /// A window's value.
    Window(Window<'a>),
    /// A verdict.
    Alert(Alert),
}

/// A key's memory, on its way to or from the `baselines` topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved<'a> {
    /// As it is.
    Kept(Cow<'a, [u8]>),
    /// Forgotten, when the newest closed window was this one.
    Forgotten(Index),
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It was taken in.
    Taken,
    /// Its window was closed already.
    Late,
    /// It belongs to no metric of this pipeline, or is damaged.
    Unknown,
}

/// The state of one partition of `parts`.
#[derive(Debug)]
pub struct Docket {
    pipeline: String,
    next: Offset,
    replay_until: Offset,
    closed: Option<EventTime>,
    words: super::words::Words,
    metrics: Vec<Metric>,
    retired: Retired,
    disowned: Disowned,
}

impl Docket {
    /// A partition taken over at `position`; reading is to begin at [`Position::replay_from`], after the baselines.
    #[must_use]
    pub fn resume(pipeline: &str, position: &Position, watched: &[Watched]) -> Self {
        Self {
            pipeline: pipeline.to_owned(),
            next: position.replay_from.min(position.next),
            replay_until: position.next,
            closed: position.closed,
            words: super::words::Words::default(),
            metrics: watched.iter().map(|_| Metric::default()).collect(),
            retired: Retired::default(),
            disowned: Disowned::default(),
        }
    }

    /// Takes a record of the `baselines` topic back in, by its key there; without a value it is a tombstone.
    pub fn recall(&mut self, key: &[u8], value: Option<&[u8]>, forgotten_at: Index, watched: &[Watched]) {
        let Some((of, of_key)) = std::str::from_utf8(key).ok().and_then(|key| key.split_once('\u{1F}'))
        else {
            return self.disowned.record(key, value, watched);
        };
        let place = watched.iter().position(|watched| watched.baselines == of && !watched.watches.is_empty());
        let Some(place) = place else { return self.disowned.record(key, value, watched) };
        let saved = match value {
            Some(value) => Saved::Kept(value.into()),
            None => Saved::Forgotten(forgotten_at),
        };
        self.remember(place, &watched[place], of_key, saved);
    }

    /// Takes in an open alert of a key of this partition, as the `alerts` topic has it: it is resolved if no detector owns it.
    pub fn review(&mut self, alert: Alert, watched: &[Watched]) {
        self.disowned.alert(alert, watched);
    }

    /// Baselines that will be deleted because they were not learnt from what this pipeline's metrics are: how many, by metric.
    #[must_use]
    pub fn disowned(&self) -> BTreeMap<String, usize> {
        self.disowned.counts()
    }

    /// Takes a key's memory back in, as it was saved. The newest wins, not the last: a predecessor that was taken for dead
    /// may have written after its successor.
    pub fn remember(&mut self, place: usize, watched: &Watched, key: &str, saved: Saved<'_>) {
        let metric = &mut self.metrics[place];
        let known = metric.baselines.get(key).map(|baseline| baseline.newest);
        let known = known.max(metric.forgotten.get(key).copied());
        match saved {
            Saved::Forgotten(at) if known.is_none_or(|known| known <= at) => {
                metric.baselines.remove(key);
                metric.firing.remove(key);
                self.disowned.of_key(place, watched, key, Vec::new());
                // By hand, without a word of when: it begins anew, and nothing is past.
                if at < Index::MAX {
                    metric.forgotten.insert(key.into(), at);
                }
            }
            Saved::Forgotten(_) => {}
            Saved::Kept(record) => {
                let read = Baseline::of_record(&record, watched);
                let Some((baseline, disowned)) =
                    read.filter(|(new, _)| known.is_none_or(|known| known <= new.newest))
                else {
                    return;
                };
                if baseline.is_firing() {
                    metric.firing.insert(key.into());
                } else {
                    metric.firing.remove(key);
                }
                metric.forgotten.remove(key);
                metric.baselines.insert(key.into(), Box::new(baseline));
                self.disowned.of_key(place, watched, key, disowned);
            }
        }
    }

    /// Skips a record that cannot be read.
    pub fn skip(&mut self, offset: Offset) {
        self.next = self.next.max(offset.next());
    }

    /// Takes a record in; a part may make its window fire early.
    pub fn read(
        &mut self,
        offset: Offset,
        record: &PartRecord<'_>,
        watched: &[Watched],
        now: WallTime,
        out: &mut impl FnMut(Output<'_>),
    ) -> Heard {
        if offset < self.next {
            return Heard::Taken;
        }
        self.skip(offset);
        match record {
            PartRecord::Watermark(word) => {
                self.words.hear(word, now);
                Heard::Taken
            }
            PartRecord::Part(part) => self.part(offset, part, watched, out),
        }
    }

    fn part(
        &mut self,
        offset: Offset,
        part: &Part<'_>,
        watched: &[Watched],
        out: &mut impl FnMut(Output<'_>),
    ) -> Heard {
        let ours = |watched: &Watched| {
            *watched.metric.name == *part.metric
                && part.shape.is_none_or(|shape| shape.definition == watched.definition)
        };
        let place = watched.iter().position(ours);
        let size = match (place, part.shape) {
            (Some(place), _) => watched[place].metric.window,
            (None, Some(shape)) => Duration::from_millis(shape.size_ms),
            (None, None) => return Heard::Unknown,
        };
        if part.start.window_start(size) != part.start {
            return Heard::Unknown; // from before parts said their size, which was another then
        }
        if self.closed.is_some_and(|closed| part.start.plus(size) <= closed) {
            return Heard::Late;
        }
        let Some(value) = Running::from_wire(&part.value) else { return Heard::Unknown };
        match (place, part.shape) {
            (Some(place), _) => {
                if open::take(&mut self.metrics[place].windows, offset, part, value) {
                    self.fire_early(place, &watched[place], part.start, &part.key, out);
                }
                Heard::Taken
            }
            (None, Some(shape)) => self.retired.take(offset, part, shape, value),
            (None, None) => Heard::Unknown,
        }
    }

    /// Whether an open window can be judged: everything its baseline holds is closed.
    fn is_scorable(&self, watched: &Watched, index: Index) -> bool {
        let newest = self.closed.map(|closed| watched.newest_closed(closed));
        newest.is_some_and(|newest| newest >= index.saturating_sub(watched.lag))
    }

    fn fire_early(
        &mut self,
        place: usize,
        watched: &Watched,
        start: EventTime,
        key: &str,
        out: &mut impl FnMut(Output<'_>),
    ) {
        let index = watched.index(start);
        if !is_watched(watched, key) || !self.is_scorable(watched, index) {
            return;
        }
        let metric = &mut self.metrics[place];
        if metric.is_past(key, index) {
            return;
        }
        let Some(tally) = metric.windows.get_mut(&start).and_then(|open| open.keys.get_mut(key)) else {
            return;
        };
        let baseline = metric
            .baselines
            .get(key)
            .map(Box::as_ref)
            .filter(|baseline| !baseline.is_forgotten(watched, index));
        if baseline.is_some_and(|baseline| baseline.newest >= index) {
            return; // a predecessor judged it already
        }
        let total = tally.total();
        let usual = match baseline {
            Some(_) => tally.usual.get_or_insert_with(|| usual_for(baseline, watched, index).into()),
            // Perhaps forgotten since it was last asked for.
            None => tally.usual.insert(usual_for(None, watched, index).into()),
        };
        let case = Case {
            pipeline: &self.pipeline,
            watched,
            key,
            index,
            value: total.value(watched.metric.aggregate.function()),
            count: total.count,
        };
        for (detector, (watch, usual)) in watched.watches.iter().zip(usual.iter()).enumerate() {
            let Some(usual) = usual else { continue };
            if watch.rule.crossing(usual, case.value, case.count).is_none() {
                continue;
            }
            let before = metric.early.get(&(detector, key.into())).copied();
            let kept = baseline.map(|baseline| &baseline.watches[detector]);
            if let Some(alert) = verdict::early(&case, watch, kept, usual, before) {
                let latest = before.map_or(index, |before| before.max(index));
                metric.early.insert((detector, key.into()), latest);
                out(Output::Alert(alert));
            }
        }
    }

    /// Says the values of open windows that changed since it last did.
    pub fn say_running(&mut self, watched: &[Watched], out: &mut impl FnMut(Output<'_>)) {
        for place in 0..watched.len() {
            let watched = &watched[place];
            let starts: Vec<EventTime> = self.metrics[place].windows.keys().copied().collect();
            for start in starts {
                let index = watched.index(start);
                let scorable = !watched.watches.is_empty() && self.is_scorable(watched, index);
                let Metric { windows, baselines, .. } = &mut self.metrics[place];
                let Some(open) = windows.get_mut(&start) else { continue };
                let mut newly_scorable = Vec::new();
                for (key, tally) in &mut open.keys {
                    if scorable && tally.usual.is_none() && is_watched(watched, key) {
                        let baseline = baselines
                            .get(key)
                            .map(Box::as_ref)
                            .filter(|baseline| !baseline.is_forgotten(watched, index));
                        tally.usual = Some(usual_for(baseline, watched, index).into());
                        newly_scorable.push(key.clone());
                    }
                    if std::mem::take(&mut tally.changed) {
                        let total = tally.total();
                        let usual = tally.usual.as_deref().unwrap_or_default();
                        out(Output::Window(window(watched, key, start, &total, usual, false)));
                    }
                }
                // Parts that came before their window could be judged.
                for key in newly_scorable {
                    self.fire_early(place, watched, start, &key, out);
                }
            }
        }
    }

    /// Resolves the alerts that no detector owns any more.
    pub fn resolve_disowned(&mut self, out: &mut impl FnMut(Output<'_>)) {
        for (place, key) in self.disowned.resolve(self.closed, |alert| out(Output::Alert(alert))) {
            self.metrics[place].unsaved.insert(key);
        }
    }

    /// Closes the windows that every source has passed; how many, counting each key.
    pub fn close(&mut self, watched: &[Watched], out: &mut impl FnMut(Output<'_>)) -> u64 {
        let Some(closed) = self.words.closed().max(self.closed) else { return 0 };
        if self.next < self.replay_until || self.closed == Some(closed) {
            return 0;
        }
        self.closed = Some(closed);
        let mut count = self.retired.close(closed, out);
        for (metric, watched) in self.metrics.iter_mut().zip(watched) {
            while let Some(entry) = metric.windows.first_entry() {
                if entry.key().plus(watched.metric.window) > closed {
                    break;
                }
                let (start, open) = entry.remove_entry();
                for (key, tally) in open.keys {
                    metric.close_key(&self.pipeline, watched, start, &key, &tally, out);
                    count += 1;
                }
            }
            let newest = watched.newest_closed(closed);
            metric.close_silence(&self.pipeline, watched, newest, out);
            metric.early.retain(|_, index| *index > newest);
            metric.forgotten.retain(|_, at| *at > newest);
        }
        count
    }

    /// Hands out what changed in the `baselines` topic, by the key there.
    ///
    /// # Errors
    /// The first that `save` returns; the rest is then lost, and the caller must stop.
    pub fn save<E>(
        &mut self,
        watched: &[Watched],
        mut save: impl FnMut(&[u8], Saved<'static>) -> Result<(), E>,
    ) -> Result<(), E> {
        let closed = self.closed;
        for key in self.disowned.delete() {
            save(&key, Saved::Forgotten(Index::MAX))?;
        }
        for (metric, watched) in self.metrics.iter_mut().zip(watched) {
            let newest = closed.map(|closed| watched.newest_closed(closed));
            for key in std::mem::take(&mut metric.unsaved) {
                if let Some(baseline) = metric.baselines.get(&key) {
                    let saved = Saved::Kept(baseline.to_record(watched).into());
                    save(&metric_key(&watched.baselines, &key), saved)?;
                }
            }
            let Some(newest) = newest else { continue };
            // Looking at every key now and then is enough: forgetting is decided by the windows, not by the sweep.
            if newest.saturating_sub(metric.swept) <= watched.memory / 4 {
                continue;
            }
            metric.swept = newest;
            let forgotten: Vec<CompactString> = metric
                .baselines
                .extract_if(|_, baseline| baseline.is_forgotten(watched, newest))
                .map(|(key, _)| key)
                .collect();
            for key in forgotten {
                save(&metric_key(&watched.baselines, &key), Saved::Forgotten(newest))?;
            }
        }
        Ok(())
    }

    /// What to commit. While a predecessor's parts are still being replayed, what it had committed.
    #[must_use]
    pub fn position(&self) -> Position {
        let first = self.metrics.iter().flat_map(|metric| metric.windows.values()).map(|open| open.first);
        let first = first.chain(self.retired.first()).min();
        let next = self.next.max(self.replay_until);
        let replay_from = first.unwrap_or(next).min(self.next);
        Position { next, replay_from, closed: self.closed, counting: None, rules: None }
    }

    /// Keys in open windows, and keys with a memory.
    #[must_use]
    pub fn holds(&self) -> (usize, usize) {
        let open = self.metrics.iter().flat_map(|metric| metric.windows.values()).map(|open| open.keys.len());
        (
            open.sum::<usize>() + self.retired.open_keys(),
            self.metrics.iter().map(|metric| metric.baselines.len()).sum(),
        )
    }
}

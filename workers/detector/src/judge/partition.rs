//! One partition of `parts`: the open windows of its keys, the watermarks of the sources, and the keys' memories.
//!
//! A grow-only counter for each source: per window and key the part of the highest version of every source is kept, so parts
//! that come twice or out of order are harmless. Everything is a function of the records' order and the times passed in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herd_spec::plan::ALL_KEY;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Alert, Part, PartRecord, Watermark, metric_key};

use super::activity::Activity;
use super::disowned::Disowned;
use super::metric::Metric;
use super::output::{Output, ReadOutcome, Saved};
use super::retired::Retired;
use super::watch::{Index, POPULATION, Watched};
use super::watermarks::WatermarkTracker;
use crate::aggregate::Running;
use crate::commit::Position;
use crate::partitioner::judge_of;

/// The state of one partition of `parts`.
#[derive(Debug)]
pub struct JudgePartition {
    next: Offset,
    replay_until: Offset,
    closed: Option<EventTime>,
    watermarks: WatermarkTracker,
    metrics: Vec<Metric>,
    retired: Retired,
    disowned: Disowned,
}

impl JudgePartition {
    /// A partition taken over at `position`; reading is to begin at [`Position::replay_from`], after the baselines. `watched` are
    /// the metrics of the plan.
    #[must_use]
    pub fn resume(pipeline: &str, position: &Position, watched: &[Arc<Watched>]) -> Self {
        let pipeline = Arc::from(pipeline);
        Self {
            next: position.replay_from.min(position.next),
            replay_until: position.next,
            closed: position.closed,
            watermarks: WatermarkTracker::default(),
            metrics: watched.iter().map(|watched| Metric::new(&pipeline, watched, position.closed)).collect(),
            retired: Retired::default(),
            disowned: Disowned::of(watched),
        }
    }

    /// Watches the totals of the metrics whose key [`ALL_KEY`] belongs to this partition, of `judges`.
    #[must_use]
    pub fn watching_totals(mut self, partition: Partition, judges: u32) -> Self {
        for metric in &mut self.metrics {
            if judge_of(&metric_key(&metric.watched.metric.name, ALL_KEY), judges) == partition {
                metric.watch_total();
            }
        }
        self
    }

    /// The same partition without early alerts, for callers that only want the final ones: those do not depend on it.
    #[must_use]
    pub fn without_early_alerts(mut self) -> Self {
        self.metrics.iter_mut().for_each(|metric| metric.raises_early = false);
        self
    }

    /// Takes a record of the `baselines` topic back in, by its key there; without a value it is a tombstone.
    pub fn recall(&mut self, key: &[u8], value: Option<&[u8]>, forgotten_at: Index) {
        let text = std::str::from_utf8(key).ok();
        let Some((of, of_key)) = text.and_then(|key| key.split_once('\u{1F}')) else {
            return self.disowned.record(key, value);
        };
        if let (Some((of, detector)), Some(value)) = (of.split_once(POPULATION), value)
            && let Some(metric) = self.metrics.iter_mut().find(|metric| metric.watched.baselines == of)
            && (if of_key == ALL_KEY {
                metric.remember_total(detector, value)
            } else {
                metric.remember_population(detector, value)
            })
        {
            return;
        }
        let is_owner = |metric: &Metric| metric.watched.baselines == of && !metric.watched.watches.is_empty();
        let Some(place) = self.metrics.iter().position(is_owner) else {
            return self.disowned.record(key, value);
        };
        let saved = match value {
            Some(value) => Saved::Kept(value.into()),
            None => Saved::Forgotten(forgotten_at),
        };
        if let Some(disowned) = self.metrics[place].remember(of_key, saved) {
            self.disowned.of_key(place, of_key, disowned);
        }
    }

    /// Takes in an open alert of a key of this partition, as the `alerts` topic has it: it is resolved if no detector owns it.
    pub fn review(&mut self, alert: Alert) {
        self.disowned.alert(alert);
    }

    /// Baselines that will be deleted because they were not learnt from what this pipeline's metrics are: how many, by metric.
    #[must_use]
    pub fn disowned(&self) -> BTreeMap<String, usize> {
        self.disowned.counts()
    }

    /// Skips a record that cannot be read.
    pub fn skip(&mut self, offset: Offset) {
        self.next = self.next.max(offset.next());
    }

    /// Takes a record in; a part may make its window fire early.
    ///
    /// # Errors
    /// Here and below: the first that `out` returns. What was to be handed out is then lost, and the caller must stop.
    pub fn read<E>(
        &mut self,
        offset: Offset,
        record: &PartRecord<'_>,
        now: WallTime,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<ReadOutcome, E> {
        if offset < self.next {
            return Ok(ReadOutcome::Taken);
        }
        self.skip(offset);
        match record {
            PartRecord::Watermark(watermark) => {
                self.take_totals(offset, watermark);
                self.watermarks.observe(watermark, now);
                for metric in &mut self.metrics {
                    metric.fire_early_crowds(out)?;
                }
                Ok(ReadOutcome::Taken)
            }
            PartRecord::Part(part) => self.part(offset, part, out),
        }
    }

    /// Takes in the totals that a source announced, of windows that are open.
    fn take_totals(&mut self, offset: Offset, watermark: &Watermark) {
        for total in &watermark.totals {
            let of = |metric: &&mut Metric| {
                *metric.watched.metric.name == *total.metric && metric.watched.definition == total.definition
            };
            let Some(metric) = self.metrics.iter_mut().find(of) else { continue };
            let size = metric.watched.metric.window;
            let is_open = self.closed.is_none_or(|closed| total.start.plus(size) > closed);
            if is_open && metric.watched.is_start(total.start) {
                metric.take_total(offset, watermark.source, total);
            }
        }
    }

    fn part<E>(
        &mut self,
        offset: Offset,
        part: &Part<'_>,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<ReadOutcome, E> {
        let ours = |metric: &&mut Metric| {
            let watched = &metric.watched;
            *watched.metric.name == *part.metric
                && part.shape.is_none_or(|shape| shape.definition == watched.definition)
        };
        let metric = self.metrics.iter_mut().find(ours);
        let size = match (&metric, part.shape) {
            (Some(metric), _) => metric.watched.metric.window,
            (None, Some(shape)) => Duration::from_millis(shape.size_ms),
            (None, None) => return Ok(ReadOutcome::Unknown),
        };
        if part.start.window_start(size) != part.start {
            return Ok(ReadOutcome::Unknown); // from before parts said their size, which was another then
        }
        if self.closed.is_some_and(|closed| part.start.plus(size) <= closed) {
            return Ok(ReadOutcome::Late);
        }
        if metric.as_ref().is_some_and(|metric| !metric.watched.is_start(part.start)) {
            return Ok(ReadOutcome::Unknown); // no time that windows are numbered by
        }
        let Some(value) = Running::from_wire(&part.value) else { return Ok(ReadOutcome::Unknown) };
        match (metric, part.shape) {
            (Some(metric), _) => {
                if metric.take(offset, part, value) && metric.raises_early {
                    metric.fire_early(self.closed, part.start, &part.key, out)?;
                }
                Ok(ReadOutcome::Taken)
            }
            (None, Some(shape)) => Ok(self.retired.take(offset, part, shape, value)),
            (None, None) => Ok(ReadOutcome::Unknown),
        }
    }

    /// Emits the values of open windows that changed since it last did.
    ///
    /// # Errors
    /// See [`JudgePartition::read`].
    pub fn emit_provisional<E>(
        &mut self,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.metrics.iter_mut().try_for_each(|metric| metric.emit_provisional(self.closed, out))
    }

    /// Resolves the alerts that no detector owns any more.
    ///
    /// # Errors
    /// See [`JudgePartition::read`].
    pub fn resolve_disowned<E>(
        &mut self,
        out: &mut impl FnMut(Output<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for (place, key) in self.disowned.resolve(self.closed, |alert| out(Output::Alert(alert)))? {
            self.metrics[place].mark_unsaved(key);
        }
        Ok(())
    }

    /// Closes the windows that every source has passed, or the oldest of them if they are many: see [`JudgePartition::is_behind`].
    /// Returns how many, counting each key.
    ///
    /// # Errors
    /// See [`JudgePartition::read`].
    pub fn close<E>(&mut self, out: &mut impl FnMut(Output<'_>) -> Result<(), E>) -> Result<u64, E> {
        let Some(closed) = self.until(self.watermarks.closed().max(self.closed)) else { return Ok(0) };
        if self.next < self.replay_until || self.closed == Some(closed) {
            return Ok(0);
        }
        self.closed = Some(closed);
        let mut count = self.retired.close(closed, out)?;
        for metric in &mut self.metrics {
            count += metric.close(closed, out)?;
        }
        Ok(count)
    }

    /// Whether more windows could be closed once the baselines are saved.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let closed = self.until(self.watermarks.closed().max(self.closed));
        self.next >= self.replay_until && closed > self.closed
    }

    /// Until when windows may be closed before the baselines are saved: a successor may have to judge them again by what was known at
    /// the time, which is kept for a limited number of windows.
    fn until(&self, closed: Option<EventTime>) -> Option<EventTime> {
        let limits = self.metrics.iter().filter_map(Metric::close_limit);
        closed.map(|closed| limits.fold(closed, EventTime::min))
    }

    /// Hands out what the detectors' keys have in common, by its key in the `baselines` topic. It must be acknowledged before
    /// [`JudgePartition::save`] is called.
    ///
    /// # Errors
    /// See [`JudgePartition::save`].
    pub fn save_populations<E>(
        &mut self,
        mut save: impl FnMut(&[u8], Saved<'static>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.metrics.iter_mut().try_for_each(|metric| metric.save_populations(&mut save))
    }

    /// Hands out what changed in the `baselines` topic, by the key there.
    ///
    /// # Errors
    /// The first that `save` returns; the rest is then lost, and the caller must stop.
    pub fn save<E>(&mut self, mut save: impl FnMut(&[u8], Saved<'static>) -> Result<(), E>) -> Result<(), E> {
        for key in self.disowned.delete() {
            save(&key, Saved::Forgotten(Index::MAX))?;
        }
        self.metrics.iter_mut().try_for_each(|metric| metric.save(self.closed, &mut save))
    }

    /// What to commit. While a predecessor's parts are still being replayed, what it had committed.
    #[must_use]
    pub fn position(&self) -> Position {
        let first = self.metrics.iter().filter_map(Metric::first).chain(self.retired.first()).min();
        let next = self.next.max(self.replay_until);
        let replay_from = first.unwrap_or(next).min(self.next);
        Position { next, replay_from, closed: self.closed, counting: None, rules: None }
    }

    /// What was noted since this was last called, of each metric of the plan in order.
    pub fn take_activity(&mut self) -> impl Iterator<Item = Activity> {
        self.metrics.iter_mut().map(Metric::take_activity)
    }

    /// Keys in open windows, and keys with a memory.
    #[must_use]
    pub fn holds(&self) -> (usize, usize) {
        let open: usize = self.metrics.iter().map(Metric::open_keys).sum();
        (open + self.retired.open_keys(), self.metrics.iter().map(Metric::baselines).sum())
    }
}

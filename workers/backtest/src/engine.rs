//! The fold and the judge over events in the order in which they were received.
//!
//! Parts and watermarks are passed on when event time has advanced far enough to close windows, not by a clock. The final alerts do
//! not depend on when that is, because they are a function of the closed windows.

use std::time::Duration;

use herd_bus::partitioner::partition_of;
use herd_detector::commit::Position;
use herd_detector::fold::Source;
use herd_detector::judge::output::{Output, ReadOutcome};
use herd_detector::judge::partition::JudgePartition;
use herd_detector::judge::watch::Watched;
use herd_detector::judge_of;
use herd_detector::metric::Metrics;
use herd_spec::pipeline::Direction;
use herd_spec::plan::{Algorithm, Plan};
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Alert, EventRef, PartRecord, SourceState, Window, metric_key};

use crate::alerts::Alerts;

/// Event time by which a source may be behind the newest one before windows are closed without waiting for it. In the running
/// pipeline such a source is idle. Events of a file are not lost by it unless they are further out of order than this.
const SOURCE_PATIENCE: Duration = Duration::from_secs(3600);
/// Virtual time between two cycles: more than the clock skew that judge allows for between members.
const CYCLE: Duration = Duration::from_secs(2);
/// Events of a cycle at least, so that a cycle costs little where events are sparse.
const CYCLE_EVENTS: u32 = 2_048;
/// Baselines are swept of forgotten keys after this many closed windows, counting each key.
const SWEEP_WINDOWS: u64 = 1_000_000;

/// Why a backtest cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// More alerts than anybody reads.
    #[error(
        "more than {most} alerts were raised, the last one by the detector `{detector}`: raise its threshold or its `minCount`, or limit the time"
    )]
    TooManyAlerts {
        /// The maximum.
        most: usize,
        /// The detector that exceeded it.
        detector: String,
    },
    /// The event is of a partition that does not exist.
    #[error("an event is of partition {partition}, but there are only {partitions} partitions")]
    NoPartition {
        /// The partition.
        partition: Partition,
        /// The number of partitions.
        partitions: usize,
    },
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Events that were read.
    pub events: u64,
    /// Events that were counted in no window of a metric because the window was closed.
    pub late: u64,
    /// Events whose id was known.
    pub duplicates: u64,
    /// Events with a number too large to be added.
    pub too_large: u64,
    /// Parts whose window was closed, because their source was an hour behind the others.
    pub late_parts: u64,
    /// Closed windows, counting each key.
    pub windows: u64,
}

/// What a backtest found.
#[derive(Clone, Debug, PartialEq)]
pub struct BacktestResult {
    /// What was counted.
    pub counts: Counts,
    /// Times of the earliest and the latest event; none without events.
    pub span: Option<(EventTime, EventTime)>,
    /// The final state of each alert, by time, detector and key.
    pub alerts: Vec<Alert>,
}

/// A pipeline over events of the past. `W` is called with each closed window and the ranges that the detectors expected.
#[derive(Debug)]
pub struct Backtest<W> {
    metrics: Metrics,
    sources: Vec<Source>,
    judges: Vec<Judge>,
    /// No metric is emitted before its windows close.
    none_due: Vec<bool>,
    all_due: Vec<bool>,
    /// Whether silence can raise an alert.
    watches_drops: bool,
    /// All events were read.
    over: bool,
    outputs: Outputs<W>,
    now: WallTime,
    span: Option<(EventTime, EventTime)>,
    /// The next cycle is due when the latest event is at this time.
    next_cycle: EventTime,
    /// Event time between two cycles: so many windows of the shortest metric that most of them are closed when their parts are
    /// read, and are judged once only.
    stride: Duration,
    /// Events since the last cycle.
    waiting: u32,
    swept: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Judge {
    state: JudgePartition,
    next: Offset,
}

#[derive(Debug)]
struct Outputs<W> {
    alerts: Alerts,
    windows: W,
}

impl<W: FnMut(&Window<'_>)> Outputs<W> {
    fn take(&mut self, output: Output<'_>) -> Result<(), BacktestError> {
        match output {
            Output::Alert(alert) => self.alerts.take(alert),
            Output::Window(window) => {
                if window.is_final {
                    (self.windows)(&window);
                }
                Ok(())
            }
        }
    }
}

impl Judge {
    fn read<W: FnMut(&Window<'_>)>(
        &mut self,
        record: &PartRecord<'_>,
        now: WallTime,
        outputs: &mut Outputs<W>,
    ) -> Result<ReadOutcome, BacktestError> {
        let offset = self.next;
        self.next = offset.next();
        self.state.read(offset, record, now, &mut |output| outputs.take(output))
    }
}

impl<W: FnMut(&Window<'_>)> Backtest<W> {
    /// The pipeline of `plan` before its first event.
    pub fn new(plan: &Plan, windows: W) -> Self {
        Self::with_partitions(plan, plan.topics.events.partitions, windows)
    }

    /// The pipeline of `plan`, whose `events` topic has this number of partitions: they are never removed, so a topic may have more
    /// than the plan says.
    pub fn with_partitions(plan: &Plan, partitions: u32, windows: W) -> Self {
        let metrics = Metrics::of(plan);
        let watched = Watched::all(plan);
        let now = WallTime(0);
        let source = |partition| Source::resume(Partition(partition), &Position::START, &metrics, now);
        let judges = plan.topics.parts.partitions;
        let judge = |partition| Judge {
            state: JudgePartition::resume(plan.pipeline.as_str(), &Position::START, &watched)
                .watching_totals(Partition(partition), judges)
                .without_early_alerts(),
            next: Offset(0),
        };
        let stride = |watched: &Watched| watched.metric.window.saturating_mul(watched.lag.saturating_add(2));
        Self {
            sources: (0..partitions).map(source).collect(),
            judges: (0..judges).map(judge).collect(),
            none_due: vec![false; metrics.all.len()],
            all_due: vec![true; metrics.all.len()],
            watches_drops: plan.detectors.iter().any(|detector| match &detector.algorithm {
                Algorithm::Threshold(bounds) => bounds.below().is_some(),
                _ => detector.direction != Direction::Up,
            }),
            over: false,
            outputs: Outputs { alerts: Alerts::default(), windows },
            now,
            span: None,
            next_cycle: EventTime(i64::MIN),
            stride: watched.iter().map(|watched| stride(watched)).min().unwrap_or(Duration::from_secs(60)),
            waiting: 0,
            swept: 0,
            counts: Counts::default(),
            metrics,
        }
    }

    /// Counts an event; `key` is the key of its record in the `events` topic.
    ///
    /// # Errors
    /// If the detectors raise too many alerts.
    pub fn push(&mut self, key: &str, event: &EventRef<'_>) -> Result<(), BacktestError> {
        let partitions = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        self.push_to(partition_of(key.as_bytes(), partitions), event)
    }

    /// Counts an event that was read from this partition of the `events` topic.
    ///
    /// # Errors
    /// If there is no such partition, or the detectors raise too many alerts.
    pub fn push_to(&mut self, partition: Partition, event: &EventRef<'_>) -> Result<(), BacktestError> {
        let partitions = self.sources.len();
        let Some(source) = self.sources.get_mut(partition.0 as usize) else {
            return Err(BacktestError::NoPartition { partition, partitions });
        };
        let outcome = source.apply(source.next(), event, &self.metrics, self.now);
        self.counts.events += 1;
        self.counts.late += u64::from(outcome.late);
        self.counts.duplicates += u64::from(outcome.duplicate && !outcome.late);
        self.counts.too_large += u64::from(outcome.too_large);
        let time = event.time;
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
        self.waiting += 1;
        if self.waiting >= CYCLE_EVENTS && last >= self.next_cycle {
            self.next_cycle = last.max(time).plus(self.stride);
            self.waiting = 0;
            self.cycle()?;
        }
        Ok(())
    }

    /// The time up to which windows are closed at the end of the input: the end of the last window of every metric. If silence can
    /// raise an alert, it is the last event instead: its windows are incomplete, and what is missing from them would be taken for
    /// a drop.
    #[must_use]
    pub fn end(&self) -> Option<EventTime> {
        let (_, last) = self.span?;
        if self.watches_drops {
            return Some(last);
        }
        let ends = self.metrics.all.iter().map(|metric| last.window_start(metric.window).plus(metric.window));
        Some(ends.max().unwrap_or(last))
    }

    /// Closes all windows that end at or before `end`, usually [`Backtest::end`], and returns what was found. Without `end`, only what
    /// the events themselves have closed is closed.
    ///
    /// # Errors
    /// If the detectors raise too many alerts.
    pub fn finish(mut self, end: Option<EventTime>) -> Result<(BacktestResult, W), BacktestError> {
        // An idle source advances with the clock: the first call says since when it is idle.
        let since = self.now;
        for source in &mut self.sources {
            let own = source.watermark(Some(SourceState::Idle), 1, since, Vec::new()).watermark;
            if let Some((end, own)) = end.zip(own) {
                source.state(since, true, Duration::ZERO);
                source.state(since.plus(end.since(own)), true, Duration::ZERO);
            }
        }
        // Sources without an event adopt the watermark that the others have announced in the cycle before.
        self.over = true;
        self.cycle()?;
        self.cycle()?;
        let result = BacktestResult {
            counts: self.counts,
            span: self.span,
            alerts: self.outputs.alerts.into_sorted(),
        };
        Ok((result, self.outputs.windows))
    }

    /// Passes on the parts of closed windows, then all watermarks, and closes what every source has passed.
    fn cycle(&mut self) -> Result<(), BacktestError> {
        self.now = self.now.plus(CYCLE);
        let states: Vec<Option<SourceState>> = self.states();
        let (judges, outputs, counts, now) =
            (&mut self.judges, &mut self.outputs, &mut self.counts, self.now);
        let judge_count = u32::try_from(judges.len()).unwrap_or(u32::MAX);
        let mut totals = Vec::with_capacity(self.sources.len());
        for (source, state) in self.sources.iter_mut().zip(&states) {
            totals.push(if state.is_some() { source.take_totals(&self.metrics) } else { Vec::new() });
            // The watermarks of other sources may close any window of a source that is not waited for.
            let due = if *state == Some(SourceState::Idle) { &self.all_due } else { &self.none_due };
            source.emit(&self.metrics, due, |part| {
                let judge = judge_of(&metric_key(&part.metric, &part.key), judge_count);
                let Some(judge) = judges.get_mut(judge.0 as usize) else { return Ok(()) };
                let outcome = judge.read(&PartRecord::Part(part), now, outputs)?;
                counts.late_parts += u64::from(outcome == ReadOutcome::Late);
                Ok(())
            })?;
        }
        let source_count = u32::try_from(self.sources.len()).unwrap_or(u32::MAX);
        for ((source, state), totals) in self.sources.iter().zip(&states).zip(totals) {
            let Some(state) = state else { continue };
            let record = PartRecord::Watermark(source.watermark(Some(*state), source_count, now, totals));
            for judge in judges.iter_mut() {
                judge.read(&record, now, outputs)?;
            }
        }
        for judge in judges.iter_mut() {
            counts.windows += judge.state.close(&mut |output| outputs.take(output))?;
            while judge.state.is_behind() {
                counts.windows += judge.state.close(&mut |output| outputs.take(output))?;
            }
        }
        if counts.windows - self.swept >= SWEEP_WINDOWS {
            self.swept = counts.windows;
            for judge in judges.iter_mut() {
                judge.state.save(|_, _| Ok::<_, BacktestError>(()))?;
            }
        }
        Ok(())
    }

    /// How each source is doing: idle or empty if the others have to go on without it; none if it has nothing to announce yet.
    fn states(&self) -> Vec<Option<SourceState>> {
        let own =
            |source: &Source| source.watermark(Some(SourceState::Active), 1, self.now, Vec::new()).watermark;
        let newest = self.sources.iter().filter_map(own).max();
        let Some((newest, (first, _))) = newest.zip(self.span) else { return vec![None; self.sources.len()] };
        let is_behind = |time: EventTime| time.plus(SOURCE_PATIENCE) < newest;
        let state = |source: &Source| match own(source) {
            Some(own) if is_behind(own) => Some(SourceState::Idle),
            Some(_) => Some(SourceState::Active),
            None if is_behind(first) || self.over => Some(SourceState::Empty),
            None => None,
        };
        self.sources.iter().map(state).collect()
    }
}

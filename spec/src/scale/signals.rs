//! Rates and delays, from the history.

use std::time::Duration;

use super::history::{History, PartitionName, Point, Sample};
use super::policy::{LONG, MIN_WINDOW, NO_BACKLOG, RESIDUE, SHORT, STUCK};

/// The numbers that a decision is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Input in records per second: the highest of the rates over 10 s, 30 s and 120 s.
    pub input: f64,
    /// Input in records per second over 30 s.
    pub recent: f64,
    /// Output in records per second over 30 s.
    pub output: f64,
    /// Lag in records, without that of stuck partitions.
    pub lag: u64,
    /// How long a new record will wait, approximately: lag over the larger of input and output; none if there is lag and neither moves.
    pub delay: Option<Duration>,
    /// Each partition, by name. A stage that serves requests has one without a name.
    pub partitions: Vec<PartitionSignals>,
    /// Mean utilisation of the replicas, 0 to 1, where it is known.
    pub busy: Option<f64>,
}

/// The numbers of one partition; see [`Signals`].
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSignals {
    /// Which partition; none for requests.
    pub name: Option<PartitionName>,
    /// Lag in records.
    pub lag: u64,
    /// Input in records per second, the highest rate.
    pub input: f64,
    /// Input in records per second over 30 s.
    pub recent: f64,
    /// Output in records per second over 30 s.
    pub output: f64,
    /// It has lag and has not advanced for a minute, while others have.
    pub stuck: bool,
}

impl PartitionSignals {
    /// Seconds until the lag is gone at the current rates; infinite if it grows.
    pub(super) fn drain(&self) -> f64 {
        if self.lag == 0 { 0.0 } else { self.lag as f64 / (self.output - self.recent).max(0.0) }
    }

    /// Whether its lag is more than ten seconds of input.
    pub(super) fn behind(&self) -> bool {
        self.lag > 2 * RESIDUE && self.lag as f64 > self.recent * NO_BACKLOG.as_secs_f64()
    }
}

impl Signals {
    /// The signals of a history of at least two polls.
    pub(super) fn of(history: &History) -> Option<Self> {
        let newest = history.newest()?;
        let (now, short, long) = (history.before(MIN_WINDOW)?, history.before(SHORT)?, history.before(LONG)?);
        if newest.at.since(short.at) < MIN_WINDOW {
            return None;
        }
        let still = history.before(STUCK).filter(|sample| newest.at.since(sample.at) >= STUCK);
        let moved = still.is_some_and(|then| moved(then, newest));
        let ends = |point: &Point| point.end;
        let partitions = newest.points.iter().enumerate().map(|(index, point)| {
            let recent = rate(short, newest, index, ends);
            PartitionSignals {
                name: history.names().get(index).cloned(),
                lag: point.lag(),
                // The shortest window shows a step at once, the longest averages a wave.
                input: recent.max(rate(now, newest, index, ends)).max(rate(long, newest, index, ends)),
                recent,
                output: rate(short, newest, index, |point| point.position),
                stuck: moved
                    && still.and_then(|then| then.points.get(index)).is_some_and(|then| {
                        point.lag() > RESIDUE && then.lag() > RESIDUE && then.position == point.position
                    }),
            }
        });
        let partitions: Vec<_> = partitions.collect();
        let live = || partitions.iter().filter(|one| !one.stuck);
        let lag = live().map(|one| one.lag).sum();
        let recent = live().map(|one| one.recent).sum();
        let output: f64 = live().map(|one| one.output).sum();
        let input = live().map(|one| one.input).sum();
        let delay = delay(lag, f64::max(recent, output));
        Some(Self { input, recent, output, lag, delay, busy: newest.busy, partitions })
    }

    /// No backlog: the lag is done within ten seconds, or consists of offsets that are never committed.
    pub(super) fn no_backlog(&self) -> bool {
        let residue = self.partitions.iter().all(|one| one.stuck || one.lag <= RESIDUE);
        residue || self.delay.is_some_and(|delay| delay <= NO_BACKLOG)
    }

    /// No input, and no lag but offsets that are never committed.
    pub(super) fn idle(&self) -> bool {
        self.recent == 0.0 && self.partitions.iter().all(|one| one.lag <= RESIDUE)
    }
}

fn moved(then: &Sample, now: &Sample) -> bool {
    then.points.iter().zip(&now.points).any(|(then, now)| now.position > then.position)
}

fn delay(lag: u64, rate: f64) -> Option<Duration> {
    match lag {
        0 => Some(Duration::ZERO),
        _ => Duration::try_from_secs_f64(lag as f64 / rate).ok(),
    }
}

/// Records per second between two samples on one partition; never negative.
pub(super) fn rate(from: &Sample, to: &Sample, index: usize, of: impl Fn(&Point) -> i64) -> f64 {
    let seconds = to.at.since(from.at).as_secs_f64();
    match (from.points.get(index), to.points.get(index)) {
        (Some(from), Some(to)) if seconds > 0.0 => (of(to) - of(from)).max(0) as f64 / seconds,
        _ => 0.0,
    }
}

/// Records per second between two samples on all partitions.
pub(super) fn rates(from: &Sample, to: &Sample, of: impl Fn(&Point) -> i64 + Copy) -> f64 {
    (0..to.points.len()).map(|index| rate(from, to, index, of)).sum()
}

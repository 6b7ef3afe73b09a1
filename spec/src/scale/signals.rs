//! From what was seen to rates and delays.

use std::time::Duration;

use super::history::{History, PartitionName, Point, Sample};
use super::policy::{LEAST, LONG, NO_BACKLOG, RESIDUE, SHORT, STUCK};

/// The numbers behind a decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signals {
    /// Records that come in, a second: the largest of the rates over 10 s, 30 s and 120 s.
    pub input: f64,
    /// Records that come in, a second, over 30 s.
    pub recent: f64,
    /// Records worked off, a second, over 30 s.
    pub output: f64,
    /// Records waiting, without those of stuck partitions.
    pub lag: u64,
    /// How long a record that comes in now will wait, about: lag over the larger of input and output; none: there is lag
    /// and nothing moves.
    pub delay: Option<Duration>,
    /// Each partition, by name. A stage that serves requests has one without a name.
    pub partitions: Vec<PartitionSignals>,
    /// Share of their time the replicas were at work, 0 to 1, where they tell.
    pub busy: Option<f64>,
}

/// The numbers of one partition; see [`Signals`].
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionSignals {
    /// Which; none for requests.
    pub name: Option<PartitionName>,
    /// Records waiting.
    pub lag: u64,
    /// Records that come in, a second, the largest rate.
    pub input: f64,
    /// Records that come in, a second, over 30 s.
    pub recent: f64,
    /// Records worked off, a second, over 30 s.
    pub output: f64,
    /// It has lag and has not moved for a minute, while others did.
    pub stuck: bool,
}

impl PartitionSignals {
    /// Seconds until it has caught up, as it goes now; infinite where it falls behind.
    pub(super) fn drain(&self) -> f64 {
        if self.lag == 0 { 0.0 } else { self.lag as f64 / (self.output - self.recent).max(0.0) }
    }

    /// Whether it has more waiting than what comes in in ten seconds.
    pub(super) fn behind(&self) -> bool {
        self.lag > 2 * RESIDUE && self.lag as f64 > self.recent * NO_BACKLOG.as_secs_f64()
    }
}

impl Signals {
    /// The signals of a history of at least two polls.
    pub(super) fn of(history: &History) -> Option<Self> {
        let newest = history.newest()?;
        let (now, short, long) = (history.before(LEAST)?, history.before(SHORT)?, history.before(LONG)?);
        if newest.at.since(short.at) < LEAST {
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
                // The first shows a step at once, the last outlasts a wave.
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

    /// No backlog: what waits is done within ten seconds, or is a few records that stay for good.
    pub(super) fn no_backlog(&self) -> bool {
        let residue = self.partitions.iter().all(|one| one.stuck || one.lag <= RESIDUE);
        residue || self.delay.is_some_and(|delay| delay <= NO_BACKLOG)
    }

    /// Nothing comes in, and nothing waits but what stays for good.
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

/// Records a second between two samples, on one partition; never negative.
pub(super) fn rate(from: &Sample, to: &Sample, index: usize, of: impl Fn(&Point) -> i64) -> f64 {
    let seconds = to.at.since(from.at).as_secs_f64();
    match (from.points.get(index), to.points.get(index)) {
        (Some(from), Some(to)) if seconds > 0.0 => (of(to) - of(from)).max(0) as f64 / seconds,
        _ => 0.0,
    }
}

/// Records a second between two samples, on all partitions.
pub(super) fn rates(from: &Sample, to: &Sample, of: impl Fn(&Point) -> i64 + Copy) -> f64 {
    (0..to.points.len()).map(|index| rate(from, to, index, of)).sum()
}

//! Throughput and lag, from the end offsets of topics and the committed offsets of groups, sampled once a second.

use std::collections::VecDeque;

use herd_bus::{Bus, BusError, Progress};
use herd_spec::plan::Plan;
use herd_spec::units::WallTime;

use crate::shapes::{StageShape, StatsShape};

/// Number of samples over which rates are computed.
const SAMPLES: usize = 6;

/// A sample of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Time of the sample.
    pub(crate) at: WallTime,
    /// Total of accepted events.
    pub(crate) events: u64,
    /// Total of refused events.
    pub(crate) refused: u64,
    /// Name, lag and total of processed records of each stage.
    pub(crate) stages: Vec<(String, u64, u64)>,
}

/// Takes a sample. Blocking.
///
/// # Errors
/// If the broker does not respond.
pub(crate) fn measure<B: Bus>(plan: &Plan, bus: &B, now: WallTime) -> Result<Sample, BusError> {
    let topics = &plan.topics;
    let ends = |progress: &[Progress]| progress.iter().map(|p| p.end.0.unsigned_abs()).sum::<u64>();
    let fold = bus.progress(&topics.events.name, &plan.groups.fold)?;
    let judge = bus.progress(&topics.parts.name, &plan.groups.judge)?;
    let refused = bus.progress(&topics.dead_letter.name, &plan.groups.fold)?;
    let mut stages = vec![stage("fold", &[&fold]), stage("judge", &[&judge])];
    for sink in &plan.sinks {
        let subscription = sink.subscription(topics);
        let progress = (subscription.topics.iter())
            .map(|topic| bus.progress(&topic.name, subscription.group))
            .collect::<Result<Vec<_>, _>>()?;
        let progress: Vec<&[Progress]> = progress.iter().map(Vec::as_slice).collect();
        stages.push(stage(&format!("sink.{}", sink.name), &progress));
    }
    Ok(Sample { at: now, events: ends(&fold), refused: ends(&refused), stages })
}

fn stage(name: &str, topics: &[&[Progress]]) -> (String, u64, u64) {
    let all = || topics.iter().flat_map(|progress| progress.iter());
    let lag = all().map(Progress::lag).sum();
    let done = all().map(|p| p.committed.unwrap_or(p.start).max(p.start).0.unsigned_abs()).sum();
    (name.to_owned(), lag, done)
}

/// The last samples.
#[derive(Clone, Debug, Default)]
pub(crate) struct Throughput {
    samples: VecDeque<Sample>,
}

impl Throughput {
    /// Adds a sample and computes the statistics of the last samples. Totals that are not derived from offsets stay 0.
    pub(crate) fn take(&mut self, sample: Sample) -> StatsShape {
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return StatsShape::default();
        };
        let seconds = last.at.since(first.at).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // rates of a few seconds
        let rate = |before: u64, now: u64| {
            if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
        };
        let stages = last
            .stages
            .iter()
            .map(|(name, lag, done)| {
                let before = first.stages.iter().find(|(known, ..)| known == name).map_or(*done, |s| s.2);
                let rate_per_second = rate(before, *done);
                #[allow(clippy::cast_precision_loss)] // an estimate
                let lag_seconds = match *lag {
                    0 => Some(0.0),
                    _ if rate_per_second > 0.0 => Some(*lag as f64 / rate_per_second),
                    _ => None,
                };
                StageShape { stage: name.clone(), lag: *lag, lag_seconds, rate_per_second }
            })
            .collect();
        StatsShape {
            now: last.at.0,
            events_per_second: rate(first.events, last.events),
            events_total: last.events,
            refused_total: last.refused,
            windows_total: 0,
            alerts_firing: 0,
            stages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: i64, events: u64, lag: u64, done: u64) -> Sample {
        Sample { at: WallTime(second * 1_000), events, refused: 3, stages: vec![("fold".into(), lag, done)] }
    }

    #[test]
    fn rates_cover_the_last_samples() {
        let mut throughput = Throughput::default();
        for second in 0..20_u64 {
            throughput.take(sample(second.cast_signed(), second * 100, 0, second * 50));
        }
        let stats = throughput.take(sample(20, 2_000 + 500, 100, 1_000));
        assert!((stats.events_per_second - 200.0).abs() < 1e-9);
        assert_eq!((stats.events_total, stats.refused_total), (2_500, 3));
        assert_eq!(
            stats.stages,
            [StageShape { stage: "fold".into(), lag: 100, lag_seconds: Some(2.0), rate_per_second: 50.0 }]
        );
    }

    #[test]
    fn a_stalled_stage_with_lag_has_no_estimate() {
        let mut throughput = Throughput::default();
        throughput.take(sample(0, 10, 10, 0));
        let stats = throughput.take(sample(1, 10, 10, 0));
        assert_eq!(stats.stages[0].lag_seconds, None);
    }
}

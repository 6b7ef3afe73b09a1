//! From demand to a number of replicas.

use std::time::Duration;

use super::policy::Source;
use super::signals::{PartitionSignals, Signals};
use crate::pipeline::ScalingSpec;
use crate::units::Replicas;

/// The capacity that the work needs, in records per second.
///
/// Of one partition: `rate / utilisation + (lag + rate · rescale) / catchUp`: the input with headroom, and the lag (with that which
/// accumulates until a change has taken effect) within the time to catch up. It is at most the capacity of one replica, because a
/// partition has one reader.
pub(super) struct Demand<'a> {
    pub(super) scaling: &'a ScalingSpec,
    pub(super) source: Source,
    /// Capacity of one replica in records per second.
    pub(super) capacity: f64,
}

impl Demand<'_> {
    /// Demand for adding replicas, which takes `rescale`: from the higher rates.
    pub(super) fn to_add(&self, signals: &Signals, rescale: Duration) -> f64 {
        let rescale = rescale.as_secs_f64();
        self.sum(signals, |one| self.of(one.input, one.lag as f64 + one.input * rescale))
    }

    /// Current demand, to compare over time: from the 30 s rates.
    pub(super) fn as_is(&self, signals: &Signals) -> f64 {
        self.sum(signals, |one| self.of(one.recent, one.lag as f64))
    }

    fn of(&self, rate: f64, waiting: f64) -> f64 {
        rate / self.scaling.utilisation + waiting / self.scaling.catch_up.0.as_secs_f64()
    }

    fn sum(&self, signals: &Signals, of: impl Fn(&PartitionSignals) -> f64) -> f64 {
        let most = match self.source {
            Source::Topic { .. } => self.capacity,
            Source::Requests => f64::INFINITY,
        };
        signals.partitions.iter().filter(|one| !one.stuck).map(|one| of(one).min(most)).sum()
    }

    /// The number of replicas for a demand, at least one.
    pub(super) fn replicas(&self, demand: f64) -> Replicas {
        // Slightly less, so that 3.0000000001 is 3.
        let count = (demand / self.capacity - 1e-6).ceil().clamp(1.0, f64::from(u32::MAX));
        // Within u32 by the clamp.
        Replicas(count as u32)
    }
}

/// The lowest number from `replicas` on that lowers the partitions of the busiest replica: `⌈P / k⌉` for some `k`.
pub(super) fn align(replicas: Replicas, source: Source, scaling: &ScalingSpec) -> Replicas {
    match source {
        Source::Topic { partitions } if scaling.align && replicas.0 > 0 && replicas.0 < partitions => {
            // With n replicas the busiest has ⌈P/n⌉ partitions. The result is the lowest number with the same ⌈P/n⌉, so n rises until
            // it is one.
            let aligned = |n: &u32| partitions.div_ceil(partitions.div_ceil(*n)) == *n;
            Replicas((replicas.0..=partitions).find(aligned).unwrap_or(partitions))
        }
        _ => replicas,
    }
}

/// The same, within bounds: where the next one is above the maximum, the highest one that is not.
pub(super) fn fit(
    replicas: Replicas,
    source: Source,
    scaling: &ScalingSpec,
    (least, most): (Replicas, Replicas),
) -> Replicas {
    let up = align(replicas, source, scaling);
    let within = if up > most {
        let down = (1..=most.0).rev().map(Replicas).find(|n| align(*n, source, scaling) == *n);
        down.unwrap_or(most)
    } else {
        up
    };
    within.clamp(least, most)
}

/// The effective number of replicas when each has a whole number of partitions: `P / ⌈P/n⌉`.
pub(super) fn effective(replicas: Replicas, source: Source) -> f64 {
    match source {
        Source::Topic { partitions } if replicas.0 > 0 => {
            f64::from(partitions) / f64::from(partitions.div_ceil(replicas.0))
        }
        _ => f64::from(replicas.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(12, &[1, 2, 3, 4, 6, 12])]
    #[case(7, &[1, 2, 3, 4, 7])]
    #[case(1, &[1])]
    fn aligned_counts_lower_the_partitions_of_the_busiest_replica(
        #[case] partitions: u32,
        #[case] expected: &[u32],
    ) {
        let source = Source::Topic { partitions };
        let spec = ScalingSpec::default();
        let counts: Vec<u32> =
            (1..=partitions).filter(|n| align(Replicas(*n), source, &spec) == Replicas(*n)).collect();
        assert_eq!(counts, expected);
    }

    proptest! {
        #[test]
        fn fitted_count_is_within_bounds_and_at_least_as_effective(partitions in 1_u32..200, n in 1_u32..300, most in 1_u32..200) {
            let source = Source::Topic { partitions };
            let most = most.min(partitions);
            let spec = ScalingSpec::default();
            let fitted = fit(Replicas(n), source, &spec, (Replicas(1), Replicas(most)));
            prop_assert!(fitted.0 >= 1 && fitted.0 <= most);
            prop_assert!(effective(fitted, source) + 1e-9 >= effective(Replicas(n.min(most)), source));
        }
    }
}

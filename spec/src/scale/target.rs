//! From demand to a count of replicas.

use std::time::Duration;

use super::policy::Source;
use super::signals::{PartitionSignals, Signals};
use crate::pipeline::ScalingSpec;
use crate::units::Replicas;

/// What work asks for, in records a second of capacity.
///
/// Of one partition: `rate / utilisation + (lag + rate · rescale) / catchUp`: what comes in, with some room, and what waits
/// (and will wait until a change has been carried out) within the time to catch up. It counts for at most one replica's
/// capacity, because a partition has one reader.
pub(super) struct Demand<'a> {
    pub(super) scaling: &'a ScalingSpec,
    pub(super) source: Source,
    /// Records a second of one replica.
    pub(super) capacity: f64,
}

impl Demand<'_> {
    /// Demand when replicas would be added, which takes `rescale`: from the larger rates.
    pub(super) fn to_add(&self, signals: &Signals, rescale: Duration) -> f64 {
        let rescale = rescale.as_secs_f64();
        self.sum(signals, |one| self.of(one.input, one.lag as f64 + one.input * rescale))
    }

    /// Demand as it stands, to compare over time: from the 30 s rates.
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

    /// Replicas for a demand, at least one.
    pub(super) fn replicas(&self, demand: f64) -> Replicas {
        // A hair less, so that 3.0000000001 is 3.
        let count = (demand / self.capacity - 1e-6).ceil().clamp(1.0, f64::from(u32::MAX));
        // Within u32 by the clamp.
        Replicas(count as u32)
    }
}

/// The least count from `replicas` on that leaves the busiest worker with fewer partitions: `⌈P / k⌉` for some `k`.
pub(super) fn align(replicas: Replicas, source: Source, scaling: &ScalingSpec) -> Replicas {
    match source {
        Source::Topic { partitions } if scaling.align && replicas.0 > 0 && replicas.0 < partitions => {
            // With n replicas the busiest has ⌈P/n⌉; the fewest replicas for which that holds too are what we want, so n
            // rises until it is one of them.
            let aligned = |n: &u32| partitions.div_ceil(partitions.div_ceil(*n)) == *n;
            Replicas((replicas.0..=partitions).find(aligned).unwrap_or(partitions))
        }
        _ => replicas,
    }
}

/// The same, within bounds: where the next one up is too many, the highest one that is not.
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

/// How many replicas' capacity a count really has when partitions are spread by number: `P / ⌈P/n⌉`.
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
    fn aligned_counts_are_those_that_relieve_the_busiest(#[case] partitions: u32, #[case] expected: &[u32]) {
        let source = Source::Topic { partitions };
        let spec = ScalingSpec::default();
        let counts: Vec<u32> =
            (1..=partitions).filter(|n| align(Replicas(*n), source, &spec) == Replicas(*n)).collect();
        assert_eq!(counts, expected);
    }

    proptest! {
        #[test]
        fn a_fitted_count_is_within_bounds_and_as_good_as_asked(partitions in 1_u32..200, n in 1_u32..300, most in 1_u32..200) {
            let source = Source::Topic { partitions };
            let most = most.min(partitions);
            let spec = ScalingSpec::default();
            let fitted = fit(Replicas(n), source, &spec, (Replicas(1), Replicas(most)));
            prop_assert!(fitted.0 >= 1 && fitted.0 <= most);
            prop_assert!(effective(fitted, source) + 1e-9 >= effective(Replicas(n.min(most)), source));
        }
    }
}

//! What is kept of a window while it is open: small for counts, which are by far the most.

use herd_spec::pipeline::AggregateFunction;
use herd_spec::wire::Aggregate;

use crate::sketch::Sketch;

/// A running aggregate. 16 bytes for a count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    /// Events.
    pub count: u64,
    /// What only some metrics need.
    detail: Option<Box<Detail>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Detail {
    /// Sum in millionths.
    sum: i128,
    /// The values of a `unique`, or the users.
    sketch: Option<Sketch>,
}

/// One event's contribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contribution<'a> {
    /// It is there.
    One,
    /// A number, in millionths.
    Number(i128),
    /// A value.
    Value(&'a str),
}

/// The largest number that is added up, without its sign. A hundred billion of them in one window are still added exactly.
pub const LARGEST: f64 = 1e21;

/// A number as millionths, so that sums do not depend on the order of addition; rounded half away from zero. None for what
/// is not finite or larger than [`LARGEST`].
#[must_use]
#[allow(clippy::cast_possible_truncation)] // bounded by the check
pub fn millionths(number: f64) -> Option<i128> {
    (number.is_finite() && number.abs() <= LARGEST).then(|| (number * 1e6).round() as i128)
}

impl Running {
    /// Adds one event.
    pub fn add(&mut self, contribution: Contribution<'_>) {
        self.count += 1;
        match contribution {
            Contribution::One => {}
            Contribution::Number(millionths) => {
                let detail = self.detail();
                detail.sum = detail.sum.saturating_add(millionths);
            }
            Contribution::Value(value) => self.detail().sketch.get_or_insert_default().insert(value),
        }
    }

    /// Adds the user of an event that was added.
    pub fn add_user(&mut self, user: &str) {
        self.detail().sketch.get_or_insert_default().insert(user);
    }

    /// How many different users, where the metric counts them or is itself `unique` in them: exact up to 128, an estimate beyond.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // whole numbers that are not negative
    pub fn users(&self) -> u64 {
        let sketch = self.detail.as_deref().and_then(|detail| detail.sketch.as_ref());
        sketch.map_or(0, |sketch| sketch.estimate().round() as u64)
    }

    /// Adds the value of another source.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        let Some(theirs) = &other.detail else { return };
        let ours = self.detail();
        ours.sum = ours.sum.saturating_add(theirs.sum);
        if let Some(sketch) = &theirs.sketch {
            ours.sketch.get_or_insert_default().merge(sketch);
        }
    }

    fn detail(&mut self) -> &mut Detail {
        self.detail.get_or_insert_default()
    }

    /// The metric's value. The mean of nothing is 0.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts and sums are shown as JSON numbers, which are doubles
    pub fn value(&self, function: AggregateFunction) -> f64 {
        let detail = self.detail.as_deref();
        let sum = detail.map_or(0, |detail| detail.sum);
        match function {
            AggregateFunction::Count => self.count as f64,
            AggregateFunction::Sum => sum as f64 / 1e6,
            AggregateFunction::Mean if self.count == 0 => 0.0,
            AggregateFunction::Mean => sum as f64 / (self.count as f64 * 1e6),
            AggregateFunction::Unique => {
                detail.and_then(|detail| detail.sketch.as_ref()).map_or(0.0, Sketch::estimate)
            }
        }
    }

    /// For the wire.
    #[must_use]
    pub fn to_wire(&self) -> Aggregate {
        let detail = self.detail.as_deref();
        Aggregate {
            count: self.count,
            sum: detail.map_or(0, |detail| detail.sum),
            sketch: detail.and_then(|detail| detail.sketch.as_ref()).map(Sketch::encode),
        }
    }

    /// From the wire; none if its sketch is damaged.
    #[must_use]
    pub fn from_wire(wire: &Aggregate) -> Option<Self> {
        let sketch = match &wire.sketch {
            Some(text) => Some(Sketch::decode(text)?),
            None => None,
        };
        let detail = (wire.sum != 0 || sketch.is_some()).then(|| Box::new(Detail { sum: wire.sum, sketch }));
        Some(Self { count: wire.count, detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(AggregateFunction::Count, 3.0)]
    #[case(AggregateFunction::Sum, 0.6)]
    #[case(AggregateFunction::Mean, 0.2)]
    fn sums_are_exact_in_millionths_whatever_the_order(
        #[case] function: AggregateFunction,
        #[case] value: f64,
    ) {
        for order in [[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.3, 0.1]] {
            let mut running = Running::default();
            for number in order {
                running.add(Contribution::Number(millionths(number).unwrap()));
            }
            assert_eq!(running.value(function), value);
            assert_eq!(Running::from_wire(&running.to_wire()), Some(running));
        }
    }

    #[test]
    fn adds_up_the_values_of_all_sources() {
        let (mut a, mut b) = (Running::default(), Running::default());
        a.add(Contribution::Value("u1"));
        a.add(Contribution::Value("u2"));
        b.add(Contribution::Value("u2"));
        a.merge(&b);
        assert_eq!(a.value(AggregateFunction::Unique), 2.0);
        assert_eq!(a.count, 3);
    }

    #[rstest]
    #[case(f64::NAN)]
    #[case(f64::INFINITY)]
    #[case(1.1e21)]
    fn what_cannot_be_summed_is_no_number(#[case] number: f64) {
        assert_eq!(millionths(number), None);
    }
}

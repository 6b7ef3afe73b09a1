//! What the events of an alert have in common that usual events do not.
//!
//! Two mixes of events, each counted by the values of a few fields, are compared: those of the alert, and usual ones of the same
//! key or of the same metric.

mod mix;

pub use mix::{Mix, OTHER};

/// A value of a field, or of two fields together, of which there is more than usual.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// The fields, by their position in the mix, each with its value; one, or two that stand out only together.
    pub values: Vec<(usize, String)>,
    /// The part of the excess that events with these values make up, from 0 to 1.
    pub share: f64,
    /// The part of usual events that have these values, from 0 to 1.
    pub usual: f64,
}

/// What makes up the excess of `observed` over `expected` events that are distributed as in `usual`: the largest share first, none if
/// nothing stands out. At most one cause for each field.
#[must_use]
pub fn causes(observed: &Mix, usual: &Mix, expected: f64) -> Vec<Cause> {
    let excess = observed.events() - expected;
    if excess <= 0.0 {
        return Vec::new();
    }
    let mut causes: Vec<Cause> = (0..observed.fields())
        .filter_map(|field| {
            let of_value = observed.values(field).map(|(value, count)| {
                let usual = usual.share(field, value);
                let share = ((count - expected * usual) / excess).clamp(0.0, 1.0);
                Cause { values: vec![(field, value.to_owned())], share, usual }
            });
            of_value.max_by(|one, other| one.share.total_cmp(&other.share))
        })
        .filter(|cause| cause.share >= 0.5 && cause.share > 2.0 * cause.usual)
        .collect();
    causes.sort_by(|one, other| other.share.total_cmp(&one.share));
    causes
}

//! What the events of an alert have in common that usual events do not.
//!
//! Two mixes of events, each counted by the values of a few fields, are compared: those of the alert, and usual ones of the same
//! key or of the same metric.

mod mix;
mod users;

pub use mix::{Mix, OTHER};
pub use users::{Few, Users};

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

/// Most values of a field that are named.
const VALUES: usize = 2;
/// A cause makes up at least this part of the excess.
const LEAST_SHARE: f64 = 0.25;
/// And at least so many times the part that it usually has.
const LEAST_RATIO: f64 = 1.5;
/// Probability that chance names any value where nothing is unusual.
const CHANCE: f64 = 0.01;

/// What makes up the excess of `observed` over `expected` events that are distributed as in `usual`: the largest share first, none if
/// nothing stands out. At most two causes for each field.
///
/// The share of a value is its explanatory power as in Adtributor: the part of the change of the whole that it makes up (R. Bhagwan et al.,
/// "Adtributor: Revenue debugging in advertising systems", NSDI 2014). It is named if that is a quarter at least, and one and a half times
/// what it usually has, and if that many events are no chance: the probability of as many in as many draws from the usual mix, by
/// Chernoff's bound, must be below one in a hundred over all values that were looked at (Bonferroni). Surprise, by which Adtributor
/// orders, is what that bound measures: the relative entropy of the observed to the usual share.
#[must_use]
pub fn causes(observed: &Mix, usual: &Mix, expected: f64) -> Vec<Cause> {
    let events = observed.events();
    let excess = events - expected;
    if excess <= 0.0 || usual.events() <= 0.0 {
        return Vec::new();
    }
    let looked_at: usize = (0..observed.fields()).map(|field| observed.values(field).count()).sum();
    #[allow(clippy::cast_precision_loss)] // some thousands
    let bound = (looked_at.max(1) as f64 / CHANCE).ln();
    // Both mixes are samples: as many events as would be as uncertain beside a mix that is known.
    let effective = events * usual.events() / (events + usual.events());
    let mut causes: Vec<Cause> = Vec::new();
    for field in 0..observed.fields() {
        let of_value = |(value, count): (&str, f64)| {
            let part = usual.share(field, value);
            // Before it was seen, a value is given half an event.
            let smoothed = (part * usual.events() + 0.5) / (usual.events() + 1.0);
            let share = ((count - expected * part) / excess).clamp(0.0, 1.0);
            let is_named = value != OTHER
                && (part > 0.0 || !usual.is_folded(field))
                && share >= LEAST_SHARE
                && share >= LEAST_RATIO * part
                && effective * relative_entropy(count / events, smoothed) >= bound;
            is_named.then(|| Cause { values: vec![(field, value.to_owned())], share, usual: part })
        };
        let mut of_field: Vec<Cause> = observed.values(field).filter_map(of_value).collect();
        sort(&mut of_field);
        of_field.truncate(VALUES);
        causes.append(&mut of_field);
    }
    sort(&mut causes);
    causes
}

/// The largest share first; of the same share in the order of fields and values.
fn sort(causes: &mut [Cause]) {
    causes
        .sort_by(|one, other| other.share.total_cmp(&one.share).then_with(|| one.values.cmp(&other.values)));
}

/// Of a share `q` above the usual share `p`, in nats; 0 for one that is not above it.
fn relative_entropy(q: f64, p: f64) -> f64 {
    if q <= p {
        return 0.0;
    }
    let rest = if q < 1.0 { (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln() } else { 0.0 };
    q * (q / p).ln() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    const COUNTRIES: [&str; 8] = ["DE", "DE", "DE", "FR", "FR", "US", "IT", "BR"];
    const DEVICES: [&str; 4] = ["mobile", "mobile", "desktop", "tablet"];

    /// An event: its country, if it has a certain one, and its device.
    fn event(rng: &mut StdRng, mix: &mut Mix, country: Option<&str>) {
        let country = country.unwrap_or(COUNTRIES[rng.random_range(0..COUNTRIES.len())]);
        let device = DEVICES[rng.random_range(0..DEVICES.len())];
        mix.add(&[country, device]);
    }

    fn mixes(
        seed: u64,
        usual: usize,
        excess: usize,
        country: impl Fn(usize) -> Option<&'static str>,
    ) -> Vec<Cause> {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (mut before, mut now) = (Mix::new(2), Mix::new(2));
        (0..usual).for_each(|_| event(rng, &mut before, None));
        (0..10).for_each(|_| event(rng, &mut now, None));
        (0..excess).for_each(|at| event(rng, &mut now, country(at)));
        causes(&now, &before, 10.0)
    }

    fn first(causes: &[Cause]) -> Option<&str> {
        causes.first().map(|cause| cause.values[0].1.as_str())
    }

    #[test]
    fn one_country_is_the_cause_of_its_crowd() {
        for seed in 0..50 {
            for excess in [15, 80, 2_000] {
                let found = mixes(seed, 500, excess, |_| Some("BR"));
                assert_eq!(first(&found), Some("BR"), "{found:?}");
                assert!(found[0].share > 0.8 && found.len() == 1, "{found:?}");
            }
        }
    }

    #[test]
    fn two_countries_are_two_causes() {
        for seed in 0..50 {
            let found = mixes(seed, 500, 200, |at| Some(if at % 5 < 3 { "BR" } else { "US" }));
            let values: Vec<&str> = found.iter().map(|cause| cause.values[0].1.as_str()).collect();
            assert_eq!(values, ["BR", "US"], "{found:?}");
        }
    }

    #[test]
    fn what_is_usual_is_no_cause() {
        let named =
            |excess: usize| (0..200).filter(|seed| !mixes(*seed, 500, excess, |_| None).is_empty()).count();
        // One in a hundred may be.
        let named = [8, 100, 5_000].map(named);
        assert!(named.iter().all(|named| *named <= 2), "{named:?} of 200");
    }

    #[test]
    fn few_events_name_nothing_that_chance_explains() {
        let named = (0..200).filter(|seed| !mixes(*seed, 20, 5, |_| None).is_empty()).count();
        assert!(named <= 4, "{named} of 200");
    }

    #[test]
    fn a_value_that_may_be_among_too_many_usual_ones_is_not_named() {
        let (mut usual, mut now) = (Mix::new(1), Mix::new(1));
        (0..2_000).for_each(|at| usual.add(&[&format!("page-{at}")]));
        (0..50).for_each(|_| now.add(&["page-1500"]));
        assert!(usual.is_folded(0));
        assert_eq!(causes(&now, &usual, 0.0), []);
    }

    #[test]
    fn without_usual_events_or_an_excess_nothing_is_named() {
        let mut one = Mix::new(1);
        one.add(&["a"]);
        assert_eq!(causes(&one, &Mix::new(1), 0.0), []);
        assert_eq!(causes(&one, &one, 1.0), []);
        assert_eq!(causes(&Mix::new(0), &Mix::new(0), 0.0), []);
    }
}

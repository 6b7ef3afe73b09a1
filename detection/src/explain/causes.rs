//! The values that make up an excess.

use std::collections::BTreeMap;

use super::{Mix, relative_entropy};

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
const LEAST_SHARE: f64 = 0.2;
/// And its odds are at least so many times the usual ones.
const LEAST_ODDS: f64 = 2.0;
/// Probability that chance names any value where nothing is unusual.
const CHANCE: f64 = 0.01;
/// Two values are one cause if those with both make up at least this part of what either makes up.
const TOGETHER: f64 = 0.75;

/// Two values may have been together more often than in the sample, by so many standard deviations.
const DEVIATIONS: f64 = 2.0;

/// A field, and the place of a value in the order of names.
type Value = (usize, u32);

/// What makes up the excess of `observed` over `expected` events that are distributed as in `usual`: what explains most of it first, none
/// if nothing stands out. At most two causes for each field.
///
/// The share of a value is its explanatory power as in Adtributor: the part of the change of the whole that it makes up (R. Bhagwan et al.,
/// "Adtributor: Revenue debugging in advertising systems", NSDI 2014). It is named if that is a fifth at least, with odds twice the
/// usual ones, and if that many events are no chance: the probability of as many in as many independent draws from the usual mix, by
/// Chernoff's bound, must be below one in a hundred over all values. Each value is given the part of that hundredth that it has of the usual
/// events, because improbable values can only stand out by chance as often as they are drawn (weighted Bonferroni: C. Genovese, K.
/// Roeder, L. Wasserman, "False discovery control with p-value weighting", Biometrika 93, 2006). Surprise, by which Adtributor
/// orders, is what that bound measures: the relative entropy of the observed to the usual share.
///
/// Two values of different fields are one cause if their surprise is greater together than the sum of both: then they were rarer together
/// than each by itself would let expect (by two standard deviations at least), and neither of them is named alone.
/// Events with both must make up three quarters of what either value does.
///
/// The order is by the part of the excess that would be missing if the value had its usual share in it, (share − usual) / (1 − usual): the
/// attributable fraction (M. L. Levin, 1953). So a value that is common anyway does not come before the one that it came with.
#[must_use]
pub fn causes(observed: &Mix, usual: &Mix, expected: f64) -> Vec<Cause> {
    let excess = observed.events() - expected;
    if excess <= 0.0 || usual.events() <= 0.0 || observed.fields() == 0 {
        return Vec::new();
    }
    let tables = Tables::of(observed, usual, expected);
    let fields = observed.fields() as f64;
    let mut singles: Vec<Found> = Vec::new();
    for value in tables.values.keys() {
        singles.extend(tables.found(&[*value]).filter(|found| tables.is_named(found, fields)));
    }
    singles.sort_by(Found::order);
    let mut pairs: Vec<Found> = Vec::new();
    let of_fields = (fields * (fields - 1.0) / 2.0).max(1.0);
    for (one, other) in tables.pairs.keys() {
        pairs.extend(tables.found(&[*one, *other]).filter(|pair| tables.is_pair(pair, of_fields)));
    }
    // Of pairs that say the same in other words the most surprising one.
    pairs
        .sort_by(|one, other| other.surprise.total_cmp(&one.surprise).then_with(|| Found::order(one, other)));
    let mut named: Vec<Found> = Vec::new();
    for pair in pairs {
        let is_new = |known: &Found| known.values.iter().all(|value| !pair.values.contains(value));
        if named.len() < VALUES && named.iter().all(is_new) {
            named.push(pair);
        }
    }
    let mut of_field = vec![0; observed.fields()];
    for single in singles {
        let value = single.values[0];
        let is_in_pair = named.iter().any(|known| known.values.len() > 1 && known.values.contains(&value));
        if !is_in_pair && of_field[value.0] < VALUES {
            of_field[value.0] += 1;
            named.push(single);
        }
    }
    named.sort_by(Found::order);
    let cause =
        |found: Found| Cause { values: tables.names_of(&found), share: found.share, usual: found.usual };
    named.into_iter().map(cause).collect()
}

/// The part of the excess that would be missing if the value had its usual share in it.
fn attributable(share: f64, usual: f64) -> f64 {
    if usual < 1.0 { (share - usual) / (1.0 - usual) } else { 0.0 }
}

/// A value or two, and how much of them there is.
#[derive(Clone, Debug)]
struct Found {
    values: Vec<Value>,
    /// The part of the excess.
    share: f64,
    /// The part of all events of the alert.
    observed: f64,
    usual: f64,
    /// As `usual`, where a value that was never seen is given half an event.
    smoothed: f64,
    /// Relative entropy of the share of all events of the alert to the usual one.
    surprise: f64,
}

impl Found {
    /// What explains most first.
    fn order(one: &Self, other: &Self) -> std::cmp::Ordering {
        let part = |found: &Self| attributable(found.share, found.usual);
        part(other).total_cmp(&part(one)).then_with(|| one.values.cmp(&other.values))
    }
}

/// Events of both samples with each value that may be a cause, and with two of them.
struct Tables<'m> {
    values: BTreeMap<Value, [f64; 2]>,
    pairs: BTreeMap<(Value, Value), [f64; 2]>,
    /// Events of each sample.
    sampled: [f64; 2],
    events: f64,
    expected: f64,
    /// As many events, of a mix that is known, would be as uncertain as both samples together.
    independent: f64,
    /// As how many independent events the usual ones count.
    usual: f64,
    /// Of the values, by their places.
    names: Vec<&'m str>,
}

impl<'m> Tables<'m> {
    #[allow(clippy::cast_precision_loss)] // some thousands
    fn of(observed: &'m Mix, usual: &Mix, expected: f64) -> Self {
        let events = observed.events();
        let sampled = [observed.sampled() as f64, usual.sampled() as f64];
        // Numbers of values follow the order of arrival; their places in the order of names do not.
        let mut places = vec![0; observed.names().len()];
        let mut names = Vec::with_capacity(places.len());
        for ((name, number), place) in observed.names().iter().zip(0..) {
            places[*number as usize] = place;
            names.push(name.as_str());
        }
        let row_of = |row: &[u32]| -> Vec<Value> {
            row.iter().map(|number| places[*number as usize]).enumerate().collect()
        };
        let mut values: BTreeMap<Value, [f64; 2]> = BTreeMap::new();
        for row in observed.rows() {
            for value in row_of(row) {
                values.entry(value).or_default()[0] += 1.0;
            }
        }
        // With fewer events a value cannot have its part of the excess.
        let least = LEAST_SHARE * (events - expected) / events * sampled[0];
        values.retain(|_, [count, _]| *count >= least);
        let same =
            |(name, number): (&String, &u32)| Some((*number, places[*observed.names().get(name)? as usize]));
        let usual_places: BTreeMap<u32, u32> = usual.names().iter().filter_map(same).collect();
        let mut pairs: BTreeMap<(Value, Value), [f64; 2]> = BTreeMap::new();
        let mut known: Vec<Value> = Vec::new();
        for row in observed.rows() {
            known.clear();
            known.extend(row_of(row).into_iter().filter(|value| values.contains_key(value)));
            for_pairs(&known, |pair| pairs.entry(pair).or_default()[0] += 1.0);
        }
        pairs.retain(|_, [count, _]| *count >= least);
        for row in usual.rows() {
            known.clear();
            known.extend(row.iter().enumerate().filter_map(|(field, value)| {
                let value = (field, *usual_places.get(value)?);
                values.contains_key(&value).then_some(value)
            }));
            for value in &known {
                if let Some(counts) = values.get_mut(value) {
                    counts[1] += 1.0;
                }
            }
            for_pairs(&known, |pair| {
                if let Some(counts) = pairs.get_mut(&pair) {
                    counts[1] += 1.0;
                }
            });
        }
        let (now, before) = (observed.independent(), usual.independent());
        let independent = now * before / (now + before);
        Self { pairs, sampled, events, expected, independent, usual: before, names, values }
    }

    fn names_of(&self, found: &Found) -> Vec<(usize, String)> {
        let name = |value: &u32| self.names.get(*value as usize).copied().unwrap_or_default().to_owned();
        found.values.iter().map(|(field, value)| (*field, name(value))).collect()
    }

    /// A value, or two together.
    fn found(&self, of: &[Value]) -> impl Iterator<Item = Found> + use<'m> {
        let counts = match of {
            [value] => self.values.get(value),
            [one, other] => self.pairs.get(&(*one, *other)),
            _ => None,
        };
        let found = counts.map(|[now, before]| {
            let (observed, usual) = (now / self.sampled[0], before / self.sampled[1]);
            let smoothed = (usual * self.usual + 0.5) / (self.usual + 1.0);
            let share = (observed * self.events - self.expected * usual) / (self.events - self.expected);
            Found {
                values: of.to_vec(),
                share: share.clamp(0.0, 1.0),
                observed,
                usual,
                smoothed,
                surprise: relative_entropy(observed, smoothed),
            }
        });
        found.into_iter()
    }

    /// Whether it stands out, among so many fields.
    fn is_named(&self, found: &Found, fields: f64) -> bool {
        let Found { share, usual, smoothed, surprise, .. } = *found;
        share >= LEAST_SHARE
            && share * (1.0 - usual) >= LEAST_ODDS * usual * (1.0 - share)
            && share > usual
            && self.independent * surprise >= (fields / (CHANCE * smoothed)).ln()
    }

    /// Whether two values are one cause, among so many pairs of fields.
    fn is_pair(&self, pair: &Found, fields: f64) -> bool {
        let mut alone = (0.0, 0.0);
        for value in &pair.values {
            for single in self.found(&[*value]) {
                alone = (alone.0 + single.surprise, single.share.max(alone.1));
            }
        }
        // As often as they may have been together, for all that the sample tells.
        let usual = pair.smoothed + DEVIATIONS * (pair.smoothed / self.usual).sqrt();
        let surprise = relative_entropy(pair.observed, usual.min(1.0));
        self.is_named(pair, fields) && pair.share >= TOGETHER * alone.1 && surprise > alone.0
    }
}

fn for_pairs(values: &[Value], mut of: impl FnMut((Value, Value))) {
    for (place, one) in values.iter().enumerate() {
        values[place + 1..].iter().for_each(|other| of((*one, *other)));
    }
}

//! Generated events with fields and users.

use std::collections::HashMap;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

/// Values of each field, by their number, and the user.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) values: Vec<u32>,
    pub(super) user: u64,
}

/// A field: the shares of its values, added up.
#[derive(Clone, Debug)]
pub(super) struct Field {
    cumulative: Vec<f64>,
    /// With this probability, the value follows from that of the field before it.
    follows: f64,
}

impl Field {
    /// With these weights.
    pub(super) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let cumulative: Vec<f64> = weights
            .into_iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        Self { cumulative: cumulative.into_iter().map(|part| part / sum).collect(), follows: 0.0 }
    }

    /// With so many values, the `n`-th of a weight proportional to `n^-exponent`, in any order.
    pub(super) fn zipf(random: &mut SmallRng, values: usize, exponent: f64) -> Self {
        let mut weights: Vec<f64> = (1..=values).map(|rank| (rank as f64).powf(-exponent)).collect();
        weights.shuffle(random);
        Self::new(weights)
    }

    /// Whose value follows from that of the field before it, with this probability.
    pub(super) fn following(self, follows: f64) -> Self {
        Self { follows, ..self }
    }

    /// The share of each value.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> {
        let before = std::iter::once(0.0).chain(self.cumulative.iter().copied());
        self.cumulative.iter().zip(before).map(|(to, from)| to - from)
    }

    /// A field of which each share has a factor of its own, of about `1 ± spread`.
    pub(super) fn wandered(&self, random: &mut SmallRng, spread: f64) -> Self {
        let weights: Vec<f64> =
            self.shares().map(|share| share * random.random_range(1.0 - spread..1.0 + spread)).collect();
        Self { follows: self.follows, ..Self::new(weights) }
    }

    fn draw(&self, random: &mut SmallRng) -> u32 {
        let place = random.random::<f64>();
        self.cumulative.partition_point(|part| *part <= place).min(self.cumulative.len() - 1) as u32
    }
}

/// How many events users make.
#[derive(Clone, Copy, Debug)]
pub(super) enum Activity {
    /// Geometric, of this mean.
    Geometric(f64),
    /// Pareto's law with this exponent.
    Pareto(f64),
}

impl Activity {
    fn draw(self, random: &mut SmallRng) -> usize {
        let part = 1.0 - random.random::<f64>();
        let events = match self {
            Self::Geometric(mean) if mean <= 1.0 => 1.0,
            Self::Geometric(mean) => 1.0 + part.ln() / (1.0 - 1.0 / mean).ln(),
            Self::Pareto(exponent) => part.powf(-1.0 / exponent),
        };
        (events as usize).clamp(1, 500)
    }
}

/// Where events come from.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) fields: Vec<Field>,
    pub(super) activity: Activity,
    /// All events of a user have the same values.
    pub(super) is_constant: bool,
    /// Values of two fields that hardly occur together: of so many only this part does.
    pub(super) rare: Option<(Values, f64)>,
}

/// Fields by their place, with the number of a value.
pub(super) type Values = [(usize, u32); 2];

impl World {
    /// The values of an event.
    pub(super) fn values(&self, random: &mut SmallRng) -> Vec<u32> {
        loop {
            let values = self.any_values(random);
            match &self.rare {
                Some((pair, part))
                    if pair.iter().all(|(field, value)| values[*field] == *value)
                        && !random.random_bool(*part) => {}
                _ => return values,
            }
        }
    }

    /// The values of an event with this value of a field; those of later fields may follow from it.
    pub(super) fn values_with(&self, random: &mut SmallRng, field: usize, value: u32) -> Vec<u32> {
        self.draw(random, Some((field, value)))
    }

    fn any_values(&self, random: &mut SmallRng) -> Vec<u32> {
        self.draw(random, None)
    }

    fn draw(&self, random: &mut SmallRng, fixed: Option<(usize, u32)>) -> Vec<u32> {
        let mut values: Vec<u32> = Vec::with_capacity(self.fields.len());
        for (place, field) in self.fields.iter().enumerate() {
            let value = match values.last() {
                _ if fixed.is_some_and(|(fixed, _)| fixed == place) => fixed.map_or(0, |(_, value)| value),
                Some(before) if field.follows > 0.0 && random.random_bool(field.follows) => {
                    // Some value, the same for each value of the field before it.
                    (before.wrapping_mul(2_654_435_761) >> 7) % field.cumulative.len() as u32
                }
                _ => field.draw(random),
            };
            values.push(value);
        }
        values
    }

    /// So many events, with the values that `change` makes of usual ones. Users have numbers from `first_user` on.
    pub(super) fn events(
        &self,
        random: &mut SmallRng,
        count: usize,
        first_user: u64,
        mut change: impl FnMut(&mut SmallRng, &mut Vec<u32>),
    ) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        let mut user = first_user;
        while events.len() < count {
            user += 1;
            let of_user = self.activity.draw(random).min(count - events.len());
            let mut values = self.values(random);
            change(random, &mut values);
            for _ in 0..of_user {
                if !self.is_constant {
                    values = self.values(random);
                    change(random, &mut values);
                }
                events.push(Event { values: values.clone(), user });
            }
        }
        events
    }

    /// A field with a value whose share of usual events is within these bounds, and the value; those in `but` are left out.
    pub(super) fn value(
        &self,
        random: &mut SmallRng,
        usual: &[Event],
        shares: std::ops::Range<f64>,
        but: &[usize],
    ) -> Option<(usize, u32)> {
        let mut found = Vec::new();
        for field in (0..self.fields.len()).filter(|field| !but.contains(field)) {
            let mut counts: HashMap<u32, usize> = HashMap::new();
            usual.iter().for_each(|event| *counts.entry(event.values[field]).or_default() += 1);
            let is_within = |count: usize| shares.contains(&(count as f64 / usual.len() as f64));
            found.extend(
                counts.iter().filter(|(_, count)| is_within(**count)).map(|(value, _)| (field, *value)),
            );
        }
        found.sort_unstable();
        let place = (!found.is_empty()).then(|| random.random_range(0..found.len()))?;
        found.get(place).copied()
    }
}

/// A number whose logarithm is uniform between those of these bounds.
pub(super) fn log_uniform(random: &mut impl Rng, from: f64, to: f64) -> f64 {
    (from.ln() + random.random::<f64>() * (to / from).ln()).exp()
}

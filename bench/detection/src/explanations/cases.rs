//! Kinds of crowds whose cause is known, and some that have none.

use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::world::{Activity, Event, Field, Values, World, log_uniform};

/// What a crowd is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Truth {
    /// Events with a value, or with two values of one field or of different ones: each is a cause.
    Values(Vec<(usize, u32)>),
    /// Events with both of two values, which are rare together.
    Pair(Values),
    /// Events of so many users.
    Users(usize),
    /// The usual events, only more of them.
    Nothing,
}

/// Usual events, and those of an alert.
pub(super) struct Case {
    pub(super) usual: Vec<Event>,
    pub(super) now: Vec<Event>,
    /// How many of the events of the alert are expected: an estimate, as that of a detector.
    pub(super) expected: f64,
    pub(super) fields: usize,
    pub(super) truth: Truth,
}

/// What the excess is made of.
#[derive(Clone, Copy, Debug)]
enum Cause {
    /// A value with a share of usual events within these bounds.
    One(f64, f64),
    /// A value that was never seen.
    New,
    /// Two values of one field, the first of which makes up this part of the two.
    Two(f64, f64, f64),
    /// A new value, and a usual one of another field.
    Both,
    /// Usual values of two fields, each in this part of the events.
    Each,
    /// Two values of different fields, each common, rare together.
    Pair,
    /// So many users.
    Users(usize, usize),
    Nothing,
}

/// A kind of crowd.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    cause: Cause,
    fields: Range<usize>,
    /// Values of a field.
    values: Range<f64>,
    /// Events of the excess.
    excess: Range<f64>,
    usual: Range<f64>,
    /// The part of the excess that the cause makes up; the rest is as usual.
    part: Range<f64>,
    /// Expected events, as a part of the excess.
    normal: Range<f64>,
    users: Users,
    special: Special,
}

/// How active users are.
#[derive(Clone, Copy, Debug)]
enum Users {
    /// One to three events of a user, each with values of its own or all with the same.
    Any,
    /// Ten events of a user on average, with the same values.
    Busy,
    /// A few users make many events, by Pareto's law.
    Heavy,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Special {
    No,
    /// A field has 5,000 values of about the same share.
    Noise,
    /// All fields but the first follow from the one before, mostly.
    Following,
    /// Every field has a value of 80 to 95 %.
    Dominant,
    /// All shares of the alert differ from the usual ones by up to a fifth.
    Wandering,
}

const KIND: Kind = Kind {
    name: "",
    cause: Cause::Nothing,
    fields: 2..7,
    values: 3.0..300.0,
    excess: 60.0..20_000.0,
    usual: 200.0..20_000.0,
    part: 0.6..1.0,
    normal: 0.0..0.3,
    users: Users::Any,
    special: Special::No,
};

/// All kinds.
#[rustfmt::skip]
pub(super) fn kinds() -> Vec<Kind> {
    let small = 30.0..60.0;
    vec![
        Kind { name: "a common value", cause: Cause::One(0.08, 0.3), ..KIND },
        Kind { name: "a rare value", cause: Cause::One(0.0005, 0.03), ..KIND },
        Kind { name: "a rare value of up to 5,000", cause: Cause::One(0.0001, 0.01), values: 1_000.0..5_000.0, ..KIND },
        Kind { name: "a value, small crowd", cause: Cause::One(0.01, 0.2), excess: small.clone(), part: 0.8..1.0, ..KIND },
        Kind { name: "a value, few usual events", cause: Cause::One(0.02, 0.2), usual: 60.0..150.0, ..KIND },
        Kind { name: "a value, beside noise", cause: Cause::One(0.01, 0.2), special: Special::Noise, ..KIND },
        Kind { name: "a value that others follow from", cause: Cause::One(0.01, 0.2), special: Special::Following, ..KIND },
        Kind { name: "a value, busy users", cause: Cause::One(0.01, 0.2), users: Users::Busy, excess: 300.0..20_000.0, ..KIND },
        Kind { name: "a value, 2 fields", cause: Cause::One(0.01, 0.2), fields: 2..3, ..KIND },
        Kind { name: "a value, 6 fields", cause: Cause::One(0.01, 0.2), fields: 6..7, ..KIND },
        Kind { name: "a value, half of the crowd", cause: Cause::One(0.005, 0.1), part: 0.4..0.6, excess: 200.0..20_000.0, ..KIND },
        Kind { name: "a value, twice the usual events", cause: Cause::One(0.005, 0.1), normal: 0.8..1.2, ..KIND },
        Kind { name: "a new referrer", cause: Cause::New, ..KIND },
        Kind { name: "a new referrer, small crowd", cause: Cause::New, excess: small.clone(), ..KIND },
        Kind { name: "a new referrer among up to 5,000", cause: Cause::New, values: 1_000.0..5_000.0, ..KIND },
        Kind { name: "a new referrer and a country", cause: Cause::Both, part: 0.8..1.0, ..KIND },
        Kind { name: "a value of each of two fields", cause: Cause::Each, part: 0.8..1.0, ..KIND },
        Kind { name: "two values, equal", cause: Cause::Two(0.5, 0.005, 0.15), part: 0.8..1.0, ..KIND },
        Kind { name: "two values, two to one", cause: Cause::Two(0.65, 0.005, 0.1), part: 0.8..1.0, ..KIND },
        Kind { name: "two values of up to 5,000", cause: Cause::Two(0.5, 0.0001, 0.01), values: 1_000.0..5_000.0, part: 0.8..1.0, ..KIND },
        Kind { name: "a pair", cause: Cause::Pair, values: 3.0..12.0, ..KIND },
        Kind { name: "a pair, small crowd", cause: Cause::Pair, values: 3.0..12.0, excess: small.clone(), part: 0.8..1.0, ..KIND },
        Kind { name: "a pair among 6 fields", cause: Cause::Pair, values: 3.0..12.0, fields: 6..7, ..KIND },
        Kind { name: "a pair, busy users", cause: Cause::Pair, values: 3.0..12.0, users: Users::Busy, excess: 300.0..20_000.0, ..KIND },
        Kind { name: "a pair, beside noise", cause: Cause::Pair, values: 3.0..12.0, special: Special::Noise, ..KIND },
        Kind { name: "a pair that others follow from", cause: Cause::Pair, values: 3.0..12.0, special: Special::Following, ..KIND },
        Kind { name: "1 user", cause: Cause::Users(1, 1), excess: 30.0..5_000.0, part: 0.8..1.0, ..KIND },
        Kind { name: "2 to 5 users", cause: Cause::Users(2, 5), excess: 80.0..5_000.0, part: 0.8..1.0, ..KIND },
        Kind { name: "6 to 20 users", cause: Cause::Users(6, 20), excess: 500.0..5_000.0, part: 0.8..1.0, ..KIND },
        Kind { name: "2 to 5 users, others are busy", cause: Cause::Users(2, 5), users: Users::Busy, excess: 500.0..5_000.0, part: 0.8..1.0, ..KIND },
        Kind { name: "nothing", ..KIND },
        Kind { name: "nothing, small crowd", excess: small, ..KIND },
        Kind { name: "nothing, large crowd", excess: 10_000.0..20_000.0, usual: 5_000.0..20_000.0, ..KIND },
        Kind { name: "nothing, dominant values", special: Special::Dominant, ..KIND },
        Kind { name: "nothing, noise", special: Special::Noise, values: 1_000.0..5_000.0, ..KIND },
        Kind { name: "nothing, fields that follow", special: Special::Following, ..KIND },
        Kind { name: "nothing, shares wander", special: Special::Wandering, ..KIND },
        Kind { name: "nothing, busy users", users: Users::Busy, ..KIND },
        Kind { name: "nothing, a few users make many", users: Users::Heavy, ..KIND },
        Kind { name: "nothing, few usual events", usual: 60.0..150.0, ..KIND },
    ]
}

impl Kind {
    /// Whether there is a cause to be found.
    pub(super) fn has_cause(&self) -> bool {
        !matches!(self.cause, Cause::Nothing)
    }

    /// A case of this kind.
    pub(super) fn case(&self, seed: u64) -> Case {
        let mut random = SmallRng::seed_from_u64(seed);
        loop {
            // Not every world has the values that are asked for.
            if let Some(case) = self.try_case(&mut random) {
                return case;
            }
        }
    }

    fn world(&self, random: &mut SmallRng) -> World {
        let count = random.random_range(self.fields.clone());
        let noise = random.random_range(0..count);
        let field = |place: usize| {
            let values = log_uniform(random, self.values.start, self.values.end) as usize;
            let exponent = random.random_range(0.6..1.4);
            match self.special {
                Special::Noise if place == noise => Field::zipf(random, 5_000, 0.1),
                Special::Dominant => {
                    let top = random.random_range(0.8..0.95);
                    let rest = Field::zipf(random, values, exponent);
                    Field::new(std::iter::once(top).chain(rest.shares().map(|share| share * (1.0 - top))))
                }
                Special::Following if place > 0 => Field::zipf(random, values, exponent).following(0.8),
                _ => Field::zipf(random, values, exponent),
            }
        };
        let fields = (0..count).map(field).collect();
        let (activity, is_constant) = match self.users {
            Users::Any => (Activity::Geometric(random.random_range(1.0..3.0)), random.random_bool(0.5)),
            Users::Busy => (Activity::Geometric(10.0), true),
            Users::Heavy => (Activity::Pareto(random.random_range(1.2..2.0)), random.random_bool(0.5)),
        };
        World { fields, activity, is_constant, rare: None }
    }

    fn try_case(&self, random: &mut SmallRng) -> Option<Case> {
        const NEW_USERS: u64 = 1 << 32;
        let mut world = self.world(random);
        let size =
            |random: &mut SmallRng, range: &Range<f64>| log_uniform(random, range.start, range.end) as usize;
        let usual_count = size(random, &self.usual);
        if let Cause::Pair = self.cause {
            let sample = world.events(random, 2_000, 0, |_, _| {});
            let one = world.value(random, &sample, 0.15..0.45, &[])?;
            let other = world.value(random, &sample, 0.15..0.55, &[one.0])?;
            world.rare = Some(([one, other], log_uniform(random, 0.005, 0.1)));
            // Without the events of both each has to be common still, and both together rarer than chance.
            let sample = world.events(random, 2_000, 0, |_, _| {});
            let share = |of: &[(usize, u32)]| {
                let has = |event: &&Event| of.iter().all(|(field, value)| event.values[*field] == *value);
                sample.iter().filter(has).count() as f64 / sample.len() as f64
            };
            let alone = [share(&[one]), share(&[other])];
            if alone.iter().any(|share| *share < 0.1) || share(&[one, other]) > 0.3 * alone[0] * alone[1] {
                return None;
            }
        }
        let usual = world.events(random, usual_count, 0, |_, _| {});
        let excess = size(random, &self.excess);
        let normal = random.random_range(self.normal.clone()) * excess as f64;
        let part = random.random_range(self.part.clone());
        let truth = self.truth(random, &world, &usual)?;
        if self.special == Special::Wandering {
            world.fields = world.fields.iter().map(|field| field.wandered(random, 0.2)).collect();
        }
        let mut now = world.events(random, normal as usize, NEW_USERS, |_, _| {});
        let first_user = NEW_USERS << 1;
        match &truth {
            Truth::Nothing => now.extend(world.events(random, excess, first_user, |_, _| {})),
            Truth::Users(users) => {
                let theirs = (excess as f64 * part) as usize;
                let values: Vec<Vec<u32>> = (0..*users).map(|_| world.values(random)).collect();
                now.extend((0..theirs).map(|event| {
                    let user = event % users;
                    let own = if world.is_constant { values[user].clone() } else { world.values(random) };
                    Event { values: own, user: (NEW_USERS << 2) + user as u64 }
                }));
                now.extend(world.events(random, excess - theirs, first_user, |_, _| {}));
            }
            Truth::Pair(pair) => now.extend(world.events(random, excess, first_user, |random, values| {
                if random.random_bool(part) {
                    pair.iter().for_each(|(field, value)| values[*field] = *value);
                }
            })),
            Truth::Values(causes) => {
                // The cause comes first, and what follows from it after it.
                let weight = if let Cause::Two(first, ..) = self.cause { first } else { 1.0 };
                let is_both = matches!(self.cause, Cause::Both | Cause::Each);
                now.extend(world.events(random, excess, first_user, |random, values| {
                    if is_both {
                        for (field, value) in
                            causes.iter().filter(|_| random.random_bool(part)).collect::<Vec<_>>()
                        {
                            values[*field] = *value;
                        }
                    } else if random.random_bool(part) {
                        let (field, value) =
                            causes[usize::from(!random.random_bool(weight)).min(causes.len() - 1)];
                        *values = world.values_with(random, field, value);
                    }
                }));
            }
        }
        let expected = normal * random.random_range(0.8..1.2);
        Some(Case { usual, now, expected, fields: world.fields.len(), truth })
    }

    fn truth(&self, random: &mut SmallRng, world: &World, usual: &[Event]) -> Option<Truth> {
        /// Of no usual event.
        const NEW: u32 = 1_000_000;
        Some(match self.cause {
            Cause::Nothing => Truth::Nothing,
            Cause::Users(from, to) => Truth::Users(random.random_range(from..=to)),
            Cause::Pair => Truth::Pair(world.rare.as_ref()?.0),
            Cause::One(from, to) => Truth::Values(vec![world.value(random, usual, from..to, &[])?]),
            Cause::New => Truth::Values(vec![(random.random_range(0..world.fields.len()), NEW)]),
            Cause::Both => {
                let country = world.value(random, usual, 0.01..0.2, &[])?;
                let others: Vec<usize> =
                    (0..world.fields.len()).filter(|field| *field != country.0).collect();
                Truth::Values(vec![(others[random.random_range(0..others.len())], NEW), country])
            }
            Cause::Each => {
                let one = world.value(random, usual, 0.01..0.2, &[])?;
                Truth::Values(vec![one, world.value(random, usual, 0.01..0.2, &[one.0])?])
            }
            Cause::Two(_, from, to) => {
                let one = world.value(random, usual, from..to, &[])?;
                let but: Vec<usize> = (0..world.fields.len()).filter(|field| *field != one.0).collect();
                let other = world.value(random, usual, from..to, &but)?;
                if other == one {
                    return None;
                }
                Truth::Values(vec![one, other])
            }
        })
    }
}

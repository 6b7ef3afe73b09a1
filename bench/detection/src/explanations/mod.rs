//! Whether explanations name what a crowd is made of.
//!
//! Crowds are generated from usual events and a known cause: a value, two values of a field, a pair of values that are rare together, a
//! value that is new, a few users, or none. What `herd-detection` says of them is compared with it.

mod cases;
mod world;

use herd_detection::explain::{Mix, Users, causes};

use crate::table::Table;
use cases::{Case, Kind, Truth};

/// Crowds of each kind and seed.
const CASES: u64 = 20;

/// What was said.
struct Said {
    /// The causes, by fields and names of values.
    causes: Vec<Vec<(usize, String)>>,
    /// How many users look automated.
    automated: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    right: u32,
    wrong: u32,
    none: u32,
}

impl Sum {
    fn all(self) -> u32 {
        self.right + self.wrong + self.none
    }
}

fn name(value: u32) -> String {
    format!("value-{value}")
}

fn said(case: &Case) -> Said {
    let (mut now, mut usual) = (Mix::new(case.fields), Mix::new(case.fields));
    let (mut users, mut usual_users) = (Users::default(), Users::sample());
    let both = [(&mut now, &mut users, &case.now), (&mut usual, &mut usual_users, &case.usual)];
    for (mix, users, events) in both {
        for (place, event) in events.iter().enumerate() {
            let names: Vec<String> = event.values.iter().map(|value| name(*value)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            mix.add(hash(place as u64), Some(hash(event.user)), &names);
            users.add(hash(event.user));
        }
    }
    let causes = causes(&now, &usual, case.expected).into_iter().map(|cause| cause.values).collect();
    Said { causes, automated: users.few(&usual_users, case.expected).map(|few| few.users) }
}

/// An even distribution: the finaliser of `SplitMix64`.
fn hash(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Said {
    fn is_nothing(&self) -> bool {
        self.causes.is_empty() && self.automated.is_none()
    }

    /// Whether it names the truth, and names it first.
    fn is(&self, truth: &Truth) -> bool {
        let named = |causes: &[(usize, u32)]| -> Vec<(usize, String)> {
            let mut named: Vec<_> = causes.iter().map(|(field, value)| (*field, name(*value))).collect();
            named.sort();
            named
        };
        let first = |count: usize| -> Vec<(usize, String)> {
            let mut first: Vec<_> = self.causes.iter().take(count).flatten().cloned().collect();
            first.sort();
            first
        };
        match truth {
            Truth::Nothing => self.is_nothing(),
            Truth::Users(users) => {
                let is_about = |said: u64| said.abs_diff(*users as u64) <= *users as u64 / 5;
                self.automated.is_some_and(is_about)
            }
            _ if self.automated.is_some() => false,
            Truth::Pair(pair) => first(1) == named(pair),
            Truth::Values(values) => {
                // Each by itself, or both as a pair.
                first(values.len()) == named(values) || first(1) == named(values)
            }
        }
    }
}

/// Measures all kinds of crowds with these seeds.
pub(crate) fn table(seeds: impl Iterator<Item = u64>) -> String {
    let kinds = cases::kinds();
    let mut sums = vec![Sum::default(); kinds.len()];
    for seed in seeds {
        for (number, (kind, sum)) in kinds.iter().zip(&mut sums).enumerate() {
            for case in 0..CASES {
                // Different numbers for each kind and case.
                let case = kind.case((seed << 32) + ((number as u64) << 16) + case);
                let said = said(&case);
                if said.is(&case.truth) {
                    sum.right += 1;
                } else if said.is_nothing() {
                    sum.none += 1;
                } else {
                    sum.wrong += 1;
                }
            }
        }
    }
    let part = |number: u32, sum: Sum| format!("{:.3}", f64::from(number) / f64::from(sum.all().max(1)));
    let mut with = Table::new(["cause", "right first", "another first", "none named"]);
    let mut without = Table::new(["no cause", "none named", "one named"]);
    let (mut total, mut quiet) = (Sum::default(), Sum::default());
    for (kind, sum) in kinds.iter().zip(&sums) {
        let all = if kind.has_cause() { &mut total } else { &mut quiet };
        *all = Sum { right: all.right + sum.right, wrong: all.wrong + sum.wrong, none: all.none + sum.none };
    }
    let both = |kind: &Kind| (kind.name.to_owned(), kind.has_cause());
    let all = [(("all".to_owned(), true), total), (("all".to_owned(), false), quiet)];
    for ((name, has_cause), sum) in kinds.iter().map(both).zip(sums).chain(all) {
        if has_cause {
            with.row([name, part(sum.right, sum), part(sum.wrong, sum), part(sum.none, sum)]);
        } else {
            without.row([name, part(sum.right, sum), part(sum.wrong, sum)]);
        }
    }
    format!(
        "## Explanations\n\nWhat is said of generated crowds whose cause is known, {CASES} of each kind and seed.\n\n{with}\nCrowds without a \
         cause: the usual events, only more of them.\n\n{without}"
    )
}

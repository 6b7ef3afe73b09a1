//! A sample of events by the values of a few fields.

use std::collections::{BTreeMap, BinaryHeap};

/// Events of a sample. The share of a value is then known to 1.1 % (one standard deviation) at worst.
const SAMPLE: usize = 2_048;

/// A sample of events, each with its values of a few fields and its user.
///
/// It keeps the events with the smallest hashes (a bottom-k sample: E. Cohen, H. Kaplan, "Summarizing data using bottom-k sketches", PODC
/// 2007). These are a random sample that is the same in whatever order the events come, and of bounded size however many values a field
/// has. As whole events are kept, values of two fields can be counted together.
#[derive(Clone, Debug)]
pub struct Mix {
    fields: usize,
    most: usize,
    /// The hash of each event of the sample, the largest first, with its place.
    hashes: BinaryHeap<(u64, usize)>,
    /// By place and field, the number of the value.
    values: Vec<u32>,
    /// By place, the hash of the user; none if the event names none.
    users: Vec<Option<u64>>,
    names: BTreeMap<String, u32>,
    events: u64,
}

impl Mix {
    /// Without events, for so many fields.
    #[must_use]
    pub fn new(fields: usize) -> Self {
        Self::of(fields, SAMPLE)
    }

    fn of(fields: usize, most: usize) -> Self {
        Self {
            fields,
            most,
            hashes: BinaryHeap::new(),
            values: Vec::new(),
            users: Vec::new(),
            names: BTreeMap::new(),
            events: 0,
        }
    }

    /// Counts an event with an evenly distributed hash of its id, the hash of its user, and its value of each field; an empty one where
    /// it has none.
    pub fn add(&mut self, hash: u64, user: Option<u64>, values: &[&str]) {
        self.events += 1;
        let place = if self.hashes.len() < self.most {
            self.values.resize(self.values.len() + self.fields, 0);
            self.users.push(None);
            self.hashes.len()
        } else {
            match self.hashes.peek() {
                Some((largest, place)) if hash < *largest => {
                    let place = *place;
                    self.hashes.pop();
                    place
                }
                _ => return,
            }
        };
        self.hashes.push((hash, place));
        self.users[place] = user;
        for field in 0..self.fields {
            let number = self.number(values.get(field).copied().unwrap_or_default());
            self.values[place * self.fields + field] = number;
        }
        if self.names.len() > 2 * self.most * self.fields {
            self.forget();
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        // Fewer than twice the values of the sample.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.insert(name.to_owned(), number);
        number
    }

    /// Forgets names of events that are no longer in the sample.
    fn forget(&mut self) {
        let mut names: Vec<(u32, String)> =
            std::mem::take(&mut self.names).into_iter().map(|(name, number)| (number, name)).collect();
        names.sort_unstable();
        let mut renumbered: BTreeMap<u32, u32> = BTreeMap::new();
        for value in &mut self.values {
            let next = u32::try_from(renumbered.len()).unwrap_or(u32::MAX);
            *value = *renumbered.entry(*value).or_insert(next);
        }
        let keep = |(number, name)| Some((name, *renumbered.get(&number)?));
        self.names = names.into_iter().filter_map(keep).collect();
    }

    /// How many fields it counts by.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// How many events it counted.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub fn events(&self) -> f64 {
        self.events as f64
    }

    /// The events of the sample: the number of each value.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u32]> {
        let is_row = |row: &&[u32]| !row.is_empty();
        self.values.chunks(self.fields.max(1)).filter(is_row)
    }

    /// How many events the sample has.
    pub(super) fn sampled(&self) -> usize {
        self.hashes.len()
    }

    /// The name of each number of a value.
    pub(super) fn names(&self) -> &BTreeMap<String, u32> {
        &self.names
    }

    /// As how many independent events those of the sample count: events of one user are alike. By Kish's design effect, `(Σc)² / Σc²` of
    /// the numbers `c` of events of each user (L. Kish, Survey Sampling, Wiley 1965).
    #[allow(clippy::cast_precision_loss)] // some thousands
    pub(super) fn independent(&self) -> f64 {
        let mut counts: BTreeMap<u64, f64> = BTreeMap::new();
        let mut squares = 0.0;
        for user in &self.users {
            match user {
                Some(user) => *counts.entry(*user).or_default() += 1.0,
                None => squares += 1.0,
            }
        }
        squares += counts.values().map(|count| count * count).sum::<f64>();
        let all = self.users.len() as f64;
        if squares > 0.0 { all * all / squares } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    /// The events of the sample, by their names.
    fn sampled(mix: &Mix) -> Vec<Vec<String>> {
        let name = |number: &u32| {
            mix.names().iter().find(|(_, known)| *known == number).map(|(name, _)| name.clone()).unwrap()
        };
        let mut rows: Vec<Vec<String>> = mix.rows().map(|row| row.iter().map(name).collect()).collect();
        rows.sort();
        rows
    }

    #[test]
    fn the_sample_does_not_depend_on_the_order_and_is_bounded() {
        let rng = &mut StdRng::seed_from_u64(1);
        let mut events: Vec<(u64, String)> =
            (0..5_000).map(|at| (rng.random(), format!("session-{at}"))).collect();
        let mut samples = Vec::new();
        for _ in 0..3 {
            events.shuffle(rng);
            let mut mix = Mix::of(2, 100);
            for (hash, session) in &events {
                mix.add(*hash, None, &[session, "mobile"]);
                assert!(mix.names.len() <= 402 && mix.sampled() <= 100);
            }
            assert_eq!(mix.events(), 5_000.0);
            samples.push(sampled(&mix));
        }
        assert_eq!(samples[0].len(), 100);
        assert_eq!(samples[0], samples[1]);
        assert_eq!(samples[0], samples[2]);
        events.sort();
        let mut smallest: Vec<Vec<String>> =
            events.into_iter().take(100).map(|(_, session)| vec![session, "mobile".to_owned()]).collect();
        smallest.sort();
        assert_eq!(samples[0], smallest);
    }

    #[test]
    fn events_of_one_user_count_as_one() {
        let mut mix = Mix::new(1);
        assert_eq!(mix.independent(), 0.0);
        (0..10).for_each(|at| mix.add(at, None, &["a"]));
        assert_eq!(mix.independent(), 10.0);
        let mut mix = Mix::new(1);
        (0..10).for_each(|at| mix.add(at, Some(at % 2), &["a"]));
        assert_eq!(mix.independent(), 2.0);
    }
}

//! Titles of an anime site: score, members, and rank among those that are watched most at present.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::Action;

/// Number of ranks; titles below have none.
pub(super) const RANKS: usize = 100;
/// Time after which an event counts half for the rank, in seconds.
const HALF_LIFE: f64 = 60.0;
/// Half-lives after which weights are scaled down, far below the largest power of two of a float.
const SCALE_AFTER: f64 = 500.0;

/// Ids on MyAnimeList and names of the most popular titles; the others are numbered.
const TITLES: [(u64, &str); 12] = [
    (5114, "Fullmetal Alchemist: Brotherhood"),
    (16498, "Shingeki no Kyojin"),
    (1535, "Death Note"),
    (38000, "Kimetsu no Yaiba"),
    (9253, "Steins;Gate"),
    (11061, "Hunter x Hunter (2011)"),
    (30276, "One Punch Man"),
    (40748, "Jujutsu Kaisen"),
    (20, "Naruto"),
    (21, "One Piece"),
    (1, "Cowboy Bebop"),
    (32281, "Kimi no Na wa."),
];
/// Ids of the numbered titles begin after this.
const NUMBERED: u64 = 100_000;

/// Id of title `number`, from 1.
pub(super) fn mal_id(number: u64) -> u64 {
    known(number).map_or(NUMBERED.saturating_add(number), |(id, _)| id)
}

/// Name of title `number`, from 1.
pub(super) fn name(number: u64) -> String {
    known(number).map_or_else(|| format!("Anime {number}"), |(_, name)| name.to_owned())
}

fn known(number: u64) -> Option<(u64, &'static str)> {
    TITLES.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
}

/// A title after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Title {
    /// Score in hundredths, 100 to 1,000.
    pub score: u32,
    /// Number of members.
    pub members: u64,
    /// Rank from 1, if it has one.
    pub rank: Option<usize>,
    /// Rank at its change of rank before.
    pub previous_rank: Option<usize>,
}

/// All titles that had an event.
#[derive(Debug, Default)]
pub(super) struct Titles {
    titles: HashMap<u64, State>,
    /// The numbers of the titles with ranks, the first first.
    ranked: Vec<u64>,
    /// Half-lives by which weights are scaled down.
    scaled: f64,
}

#[derive(Debug)]
struct State {
    score: u32,
    members: u64,
    told_rank: Option<usize>,
    /// Sum of the weights of its events: later ones weigh more, which orders titles as if earlier ones faded.
    weight: f64,
}

impl State {
    fn new(number: u64) -> Self {
        // Different for each title without a table: a multiplicative hash.
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let score = 600 + u32::try_from(hash % 330).unwrap_or(0);
        Self { score, members: 1_000 + hash % 100_000, told_rank: None, weight: 0.0 }
    }
}

impl Titles {
    /// Applies an event: members join, the score moves, or the rank is told.
    pub(super) fn apply(
        &mut self,
        number: u64,
        action: Action,
        at: Duration,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Title {
        let state = self.titles.entry(number).or_insert_with(|| State::new(number));
        match action {
            Action::View => state.members += rng.random_range(1..=5_u64),
            Action::Engage => {
                let moved = i64::from(state.score) + rng.random_range(-5..=5_i64);
                state.score = u32::try_from(moved.clamp(100, 1_000)).unwrap_or(state.score);
            }
            Action::Convert => {}
        }
        self.weigh(number, at);
        let rank = self.ranked.iter().position(|other| *other == number).map(|place| place + 1);
        let state = self.titles.entry(number).or_insert_with(|| State::new(number));
        let previous_rank = state.told_rank;
        if action == Action::Convert {
            state.told_rank = rank;
        }
        Title { score: state.score, members: state.members, rank, previous_rank }
    }

    fn weigh(&mut self, number: u64, at: Duration) {
        let half_lives = at.as_secs_f64() / HALF_LIFE;
        while half_lives - self.scaled > SCALE_AFTER {
            self.scaled += SCALE_AFTER;
            self.titles.values_mut().for_each(|state| state.weight *= (-SCALE_AFTER).exp2());
        }
        if let Some(state) = self.titles.get_mut(&number) {
            state.weight += (half_lives - self.scaled).exp2();
        }
        let Self { titles, ranked, .. } = self;
        let weight = |number: &u64| titles.get(number).map_or(0.0, |state| state.weight);
        let known = ranked.iter().position(|other| *other == number);
        let mut place = known.unwrap_or_else(|| {
            ranked.push(number);
            ranked.len() - 1
        });
        while place > 0 && weight(&ranked[place - 1]) < weight(&number) {
            ranked.swap(place - 1, place);
            place -= 1;
        }
        ranked.truncate(RANKS);
    }
}

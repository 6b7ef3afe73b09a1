//! Whether a few users made more events than users usually do.

use std::collections::BTreeMap;

/// Users of a sample.
const SAMPLE: usize = 4_096;
/// As many users at most are looked at.
const FEW: usize = 100;
/// They make at least this part of the excess.
const LEAST_SHARE: f64 = 0.5;
/// Probability that chance names any users where nothing is unusual.
const CHANCE: f64 = 0.01;
/// Bounds of the exponent of the tail. One below would have no mean.
const EXPONENTS: (f64, f64) = (1.0, 20.0);
/// The tail is taken to be longer than it was fitted by so many standard deviations of the fit.
const DEVIATIONS: f64 = 2.0;
/// Users that the tail is fitted to at least, and which part of all.
const TAIL: (usize, f64) = (20, 0.1);

/// Events of each user.
#[derive(Clone, Debug)]
pub struct Users {
    pub(super) counts: BTreeMap<u64, u64>,
    most: usize,
    /// Users with a larger hash are not in the sample.
    largest: u64,
}

/// Users that made most of the excess, and more events each than is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Few {
    /// How many they are.
    pub users: u64,
    /// The part of all events that they made, from 0 to 1.
    pub share: f64,
}

impl Default for Users {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), most: usize::MAX, largest: u64::MAX }
    }
}

impl Users {
    /// Counts the users with the smallest hashes only, so many that the distribution of their events is known: a random sample
    /// that is the same in whatever order the events come.
    #[must_use]
    pub fn sample() -> Self {
        Self { most: SAMPLE, ..Self::default() }
    }

    /// Counts an event of a user, by an evenly distributed hash of its name.
    pub fn add(&mut self, user: u64) {
        if user > self.largest {
            return;
        }
        *self.counts.entry(user).or_default() += 1;
        if self.counts.len() > self.most
            && let Some((largest, _)) = self.counts.pop_last()
        {
            // What is left has a smaller hash and was counted from its first event on.
            self.largest = largest;
        }
    }

    /// How many users there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.len() as u64
    }

    /// The users that made most of the excess over `expected` events, if such users are not usual; none if there are none.
    ///
    /// That `k` of the users make as many events as the `k`-th of them did has a probability that Chernoff's bound limits, with the
    /// probability of so many events of one user as in `usual`. The `k` that is least probable is named, if the bound is below one in a
    /// hundred over all `k`, of which each has the part `1/(k(k + 1))` of that hundredth (weighted Bonferroni).
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // far fewer events than 2^53
    pub fn few(&self, usual: &Self, expected: f64) -> Option<Few> {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let users = counts.len() as f64;
        let all = counts.iter().sum::<u64>() as f64;
        let tail = Tail::of(usual);
        let evidence = |(place, count): (usize, &u64)| {
            let few = (place + 1) as f64;
            let surprise = super::relative_entropy(few / users, tail.probability(*count as f64));
            (place + 1, users * surprise - (few * (few + 1.0) / CHANCE).ln())
        };
        let (few, evidence) = counts
            .iter()
            .take(FEW)
            .enumerate()
            .map(evidence)
            .max_by(|one, other| one.1.total_cmp(&other.1))?;
        let made = counts.iter().take(few).sum::<u64>() as f64;
        let is_most = made >= LEAST_SHARE * (all - expected).max(1.0);
        (evidence >= 0.0 && is_most).then(|| Few { users: few as u64, share: made / all })
    }
}

/// The probability of many events of a user: that of `least` or more, and from there on a law that is fitted to the most active tenth of
/// the users.
///
/// Numbers of events may fall off as in a geometric distribution or, much more slowly, as in Pareto's. Both are fitted by their likelihood
/// (of intervals, because the numbers are whole; after B. M. Hill, 1975), and their probabilities are averaged with the weights of the
/// likelihoods (J. A. Hoeting et al., "Bayesian model averaging: a tutorial", Statistical Science 14, 1999). So Pareto's law, by which
/// much is usual, holds unless there are enough users that speak against it.
#[derive(Clone, Copy, Debug)]
struct Tail {
    least: f64,
    part: f64,
    /// Of Pareto's law.
    exponent: f64,
    /// Of the geometric distribution: the probability of one event more.
    more: f64,
    /// Weight of Pareto's law, from 0 to 1.
    weight: f64,
}

impl Tail {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a part of some thousand users
    fn of(usual: &Users) -> Self {
        let mut counts: Vec<u64> = usual.counts.values().copied().collect();
        counts.sort_unstable_by(|one, other| other.cmp(one));
        let users = counts.len() as f64;
        let in_tail = TAIL.0.max((TAIL.1 * users) as usize);
        // With fewer users the law has to hold for all of them.
        let least = counts.get(in_tail).copied().unwrap_or(1);
        counts.retain(|count| *count >= least);
        let least = least as f64;
        let mut sizes: BTreeMap<u64, f64> = BTreeMap::new();
        counts.iter().for_each(|count| *sizes.entry(*count).or_default() += 1.0);
        let sizes: Vec<(f64, f64)> = sizes.into_iter().map(|(size, users)| (size as f64, users)).collect();
        let fitted = counts.len() as f64;
        let exponent = exponent(&sizes, least);
        // One event more is the prior.
        let excess = |(size, users): &(f64, f64)| users * (size - least);
        let mean = (sizes.iter().map(excess).sum::<f64>() + 1.0) / (fitted + 1.0);
        let more = |mean: f64| mean / (mean + 1.0);
        let pareto = |(size, users): &(f64, f64)| {
            let beyond = |size: f64| (size / least).powf(-exponent);
            users * (beyond(*size) - beyond(*size + 1.0)).max(f64::MIN_POSITIVE).ln()
        };
        let geometric =
            |(size, users): &(f64, f64)| users * ((size - least) * more(mean).ln() + (1.0 - more(mean)).ln());
        let ratio = sizes.iter().map(geometric).sum::<f64>() - sizes.iter().map(pareto).sum::<f64>();
        // All of these are known as well as so many users tell.
        let error = DEVIATIONS / (fitted + DEVIATIONS * DEVIATIONS).sqrt();
        Self {
            least,
            part: ((fitted + 1.0 + DEVIATIONS * fitted.sqrt()) / (users + 1.0)).min(1.0),
            exponent: (exponent * (1.0 - error)).max(EXPONENTS.0),
            more: more(mean / (1.0 - error).max(0.1)),
            weight: 1.0 / (1.0 + ratio.exp()),
        }
    }

    /// That a user makes so many events or more.
    fn probability(&self, count: f64) -> f64 {
        if count < self.least {
            return 1.0;
        }
        let pareto = (count / self.least).powf(-self.exponent);
        let geometric = self.more.powf(count - self.least);
        self.part * (self.weight * pareto + (1.0 - self.weight) * geometric)
    }
}

/// The exponent of Pareto's law from `least` on for users of these numbers of events, with a prior that is exponential of mean one.
fn exponent(sizes: &[(f64, f64)], least: f64) -> f64 {
    // The slope of the logarithm of the likelihood falls in the exponent.
    let slope = |exponent: f64| {
        let of_size = |(size, users): &(f64, f64)| {
            let (from, to) = ((size / least).ln(), ((size + 1.0) / least).ln());
            users * ((to - from) / (exponent * (to - from)).exp_m1() - from)
        };
        sizes.iter().map(of_size).sum::<f64>() - 1.0
    };
    let (mut low, mut high) = EXPONENTS;
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if slope(middle) > 0.0 { low = middle } else { high = middle }
    }
    low
}

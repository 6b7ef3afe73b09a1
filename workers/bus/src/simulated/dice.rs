//! Chance from a seed: a throw depends on the seed and on what it is for, not on the throws before it. So a scenario from
//! which something was taken out still meets the same luck elsewhere, and can be shrunk.

/// One throw after the other, for one purpose.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice for `purpose` under `seed`.
    #[must_use]
    pub fn new(seed: u64, purpose: &[u64]) -> Self {
        let mut dice = Self(seed);
        for part in purpose {
            dice.0 = dice.next_u64() ^ part;
        }
        dice
    }

    /// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// From `least` to `most`, both included.
    pub fn between(&mut self, least: i64, most: i64) -> i64 {
        least.saturating_add_unsigned(self.below(most.abs_diff(least) + 1))
    }

    /// Whether something of this chance happens.
    #[allow(clippy::cast_precision_loss)] // 53 bits are kept
    pub fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && ((self.next_u64() >> 11) as f64) < chance * (1_u64 << 53) as f64
    }

    /// One of a list.
    ///
    /// # Panics
    /// If the list is empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_number_depends_on_seed_and_purpose_alone() {
        let throws = |seed, purpose: &[u64]| Dice::new(seed, purpose).next_u64();
        assert_eq!(throws(1, &[2, 3]), throws(1, &[2, 3]));
        assert_ne!(throws(1, &[2, 3]), throws(2, &[2, 3]));
        assert_ne!(throws(1, &[2, 3]), throws(1, &[3, 2]));
        assert_ne!(throws(1, &[2]), throws(1, &[2, 0]));
    }

    #[test]
    fn chance_has_the_given_probability() {
        let mut dice = Dice::new(7, &[]);
        let heads = (0..10_000).filter(|_| dice.chance(0.25)).count();
        assert!((2_300..2_700).contains(&heads), "{heads}");
        assert!(!Dice::new(7, &[]).chance(0.0));
        assert!((0..1000).all(|_| (-3..=4).contains(&dice.between(-3, 4))));
    }
}

//! Random numbers that stay the same for a seed, whatever version of whatever library: SplitMix64 (Steele, Lea, Flood 2014).

pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Even between 0 and 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.share()
    }

    /// How many of something happen that happens `mean` times on average: Poisson, by its normal approximation from 30 on.
    pub(crate) fn count(&mut self, mean: f64) -> u64 {
        if mean < 30.0 {
            let (limit, mut product, mut count) = ((-mean).exp(), self.share(), 0);
            while product > limit {
                product *= self.share();
                count += 1;
            }
            return count;
        }
        // The sum of twelve even shares is normal enough, with variance 1.
        let normal = (0..12).map(|_| self.share()).sum::<f64>() - 6.0;
        (mean + mean.sqrt() * normal).round().max(0.0) as u64
    }
}

//! How many different values: a set of hashes while it is small, a HyperLogLog sketch from then on.
//!
//! Written here rather than taken from a crate because the estimate must be a function of the *set* of values alone: the
//! order of arrival and of merging must not show in the last digit, or a replay would give another window. (The crates
//! keep running floating-point sums.)
//!
//! Source: Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
//! algorithm" (2007), with linear counting for small cardinalities.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

/// Up to this many values are kept one by one and counted exactly.
const EXACT: usize = 128;
/// log2 of the number of registers: a standard error of 1.04 / √2048 = 2.3 %.
const PRECISION: u32 = 11;
const REGISTERS: usize = 1 << PRECISION;

/// A set of values, exact up to 128 of them, then estimated with a standard error of 2.3 %. Merging is commutative,
/// associative and idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sketch {
    /// The hashes themselves, sorted.
    Exact(Vec<u64>),
    /// The highest rank seen by each register.
    Registers(Box<[u8]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Sketch {
    /// Adds a value.
    pub fn insert(&mut self, value: &str) {
        self.insert_hash(xxh3_64(value.as_bytes()));
    }

    fn insert_hash(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                if let Err(at) = hashes.binary_search(&hash) {
                    hashes.insert(at, hash);
                    if hashes.len() > EXACT {
                        *self = Self::Registers(spread(hashes));
                    }
                }
            }
            Self::Registers(registers) => register(registers, hash),
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Exact(hashes)) => hashes.iter().for_each(|&hash| self.insert_hash(hash)),
            (Self::Exact(hashes), Self::Registers(theirs)) => {
                let mut registers = theirs.clone();
                hashes.iter().for_each(|&hash| register(&mut registers, hash));
                *self = Self::Registers(registers);
            }
            (Self::Registers(ours), Self::Registers(theirs)) => {
                ours.iter_mut().zip(theirs.iter()).for_each(|(our, their)| *our = (*our).max(*their));
            }
        }
    }

    /// How many different values were added.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // registers number 2,048
    pub fn estimate(&self) -> f64 {
        match self {
            Self::Exact(hashes) => hashes.len() as f64,
            Self::Registers(registers) => {
                let m = REGISTERS as f64;
                let alpha = 0.7213 / (1.0 + 1.079 / m);
                // Sums of powers of two down to 2^-54 over 2,048 registers, in register order: the same for the same set.
                let harmonic: f64 = registers.iter().map(|&rank| 0.5_f64.powi(i32::from(rank))).sum();
                let raw = alpha * m * m / harmonic;
                let empty = registers.iter().filter(|&&rank| rank == 0).count();
                let estimate = if raw <= 2.5 * m && empty > 0 { m * (m / empty as f64).ln() } else { raw };
                estimate.round()
            }
        }
    }

    /// As text, for the wire.
    #[must_use]
    pub fn encode(&self) -> String {
        let bytes = match self {
            Self::Exact(hashes) => std::iter::once(0)
                .chain(hashes.iter().flat_map(|hash| hash.to_le_bytes()))
                .collect::<Vec<u8>>(),
            Self::Registers(registers) => std::iter::once(1).chain(registers.iter().copied()).collect(),
        };
        STANDARD_NO_PAD.encode(bytes)
    }

    /// From text; none if it is not a sketch.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (kind, rest) = bytes.split_first()?;
        match kind {
            0 => {
                let (hashes, left) = rest.as_chunks::<8>();
                let hashes: Vec<u64> = hashes.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
                let sorted = hashes.windows(2).all(|pair| pair[0] < pair[1]);
                (left.is_empty() && sorted && hashes.len() <= EXACT).then_some(Self::Exact(hashes))
            }
            1 if rest.len() == REGISTERS => Some(Self::Registers(rest.into())),
            _ => None,
        }
    }
}

fn spread(hashes: &[u64]) -> Box<[u8]> {
    let mut registers = vec![0; REGISTERS].into_boxed_slice();
    hashes.iter().for_each(|&hash| register(&mut registers, hash));
    registers
}

/// The first bits of the hash choose the register; the rank of the first one among the others is what it keeps.
fn register(registers: &mut [u8], hash: u64) {
    let index = usize::try_from(hash >> (64 - PRECISION)).unwrap_or(0);
    let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() + 1;
    registers[index] = registers[index].max(u8::try_from(rank).unwrap_or(u8::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u32]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.insert(&value.to_string()));
        sketch
    }

    proptest! {
        #[test]
        fn estimate_depends_on_the_set_of_values_alone(a in prop::collection::vec(0..400_u32, 0..300), b in prop::collection::vec(0..400_u32, 0..300)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let mut other_way = of(&b);
            other_way.merge(&of(&a));
            other_way.merge(&of(&b));
            let mut all = [a, b].concat();
            all.sort_unstable();
            prop_assert_eq!(&merged, &other_way);
            prop_assert_eq!(&merged, &of(&all));
        }

        #[test]
        fn sketch_round_trips(values in prop::collection::vec(any::<u32>(), 0..300)) {
            let sketch = of(&values);
            prop_assert_eq!(Sketch::decode(&sketch.encode()), Some(sketch));
        }
    }

    #[test]
    fn small_sets_are_exact_and_large_ones_within_four_standard_errors() {
        for n in [0_u32, 1, 128] {
            assert_eq!(of(&(0..n).collect::<Vec<_>>()).estimate(), f64::from(n));
        }
        for n in [129_u32, 1_000, 5_000, 50_000, 500_000] {
            let estimate = of(&(0..n).collect::<Vec<_>>()).estimate();
            assert!((estimate / f64::from(n) - 1.0).abs() < 0.092, "{n}: {estimate}");
        }
    }

    #[test]
    fn rejects_bytes_that_are_no_sketch() {
        for text in ["", "!", "Ag", "AAE", "AQAA"] {
            assert_eq!(Sketch::decode(text), None, "{text}");
        }
    }
}

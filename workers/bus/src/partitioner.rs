//! Which partition a key goes to: murmur2, as Kafka's Java client and librdkafka's `murmur2_random`, so that records
//! written by other clients, by librdkafka and by the embedded bus meet in the same partition.

use herd_spec::units::Partition;

/// The partition of `key` among `partitions`: `(murmur2(key) & 0x7fffffff) mod partitions`. With no partitions: 0.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> Partition {
    Partition((murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0))
}

/// Murmur2 of 32 bits with the seed of Kafka (`org.apache.kafka.common.utils.Utils.murmur2`).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Java's arrays are no longer than i32::MAX; neither is a Kafka key.
    let mut h = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // The vectors of Kafka's own UtilsTest.
    #[rstest]
    #[case("21", -973_932_308)]
    #[case("foobar", -790_332_482)]
    #[case("a-little-bit-long-string", -985_981_536)]
    #[case("a-little-bit-longer-string", -1_486_304_829)]
    #[case("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971)]
    #[case("abc", 479_470_107)]
    fn the_hash_is_that_of_the_java_client(#[case] key: &str, #[case] hash: i32) {
        assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash);
    }

    #[test]
    fn clears_the_sign_bit_of_a_hash_as_java_does() {
        // toPositive(-973932308) = 1173551340
        assert_eq!(partition_of(b"21", 6), Partition(1_173_551_340 % 6));
        assert_eq!(partition_of(b"anything", 1), Partition(0));
    }
}

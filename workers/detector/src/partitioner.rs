//! Which partition of `parts` judges a key.

use herd_spec::units::Partition;
use xxhash_rust::xxh3::xxh3_64;

/// The partition of `parts`, of `judges`, that judges the key that [`herd_spec::wire::metric_key`] makes.
#[must_use]
pub fn judge_of(key: &[u8], judges: u32) -> Partition {
    let hash = xxh3_64(key);
    Partition(u32::try_from(hash % u64::from(judges.max(1))).unwrap_or(0))
}

//! Which definition of a metric, or which rule of a detector, a value belongs to.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The fingerprint of a part of a spec. Of a metric: of its definition, which is its events filter, key, aggregate, window and limit of
/// keys; two metrics of one name with different definitions are different metrics (see [`crate::plan::MetricPlan::definition`]). Of an
/// alert: of the rule that raised it. Written as 8 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u32);

impl Fingerprint {
    /// From a hash of which 32 bits are kept: metrics are told apart only from others of the same name.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // meant
    pub fn of_hash(hash: u64) -> Self {
        Self(hash as u32)
    }

    /// Reads the written form.
    #[must_use]
    pub fn parse(written: &str) -> Option<Self> {
        let legal =
            written.len() == 8 && written.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        legal.then(|| u32::from_str_radix(written, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl serde::de::Visitor<'_> for Written {
            type Value = Fingerprint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("8 lower-case hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, written: &str) -> Result<Fingerprint, E> {
                Fingerprint::parse(written)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(written), &self))
            }
        }
        deserializer.deserialize_str(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_reads_what_it_writes() {
        for hash in [0, 7, 0xffff_ffff, 0x1234_5678_9abc_def0] {
            let fingerprint = Fingerprint::of_hash(hash);
            assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        }
        for wrong in ["", "1", "123456789", "0000000g", "ABCDEF01", "+1234567"] {
            assert_eq!(Fingerprint::parse(wrong), None, "{wrong}");
        }
    }
}

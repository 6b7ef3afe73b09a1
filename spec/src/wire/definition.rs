//! Which definition of a metric a value belongs to.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Identifies the definition of a metric: events filter, key, aggregate, window and limit of keys. Two metrics of one name
/// with different definitions are different metrics. Written as 8 lower-case hexadecimal digits; see
/// [`crate::plan::MetricPlan::definition`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Definition(u32);

impl Definition {
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

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Serialize for Definition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Definition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl serde::de::Visitor<'_> for Written {
            type Value = Definition;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("8 lower-case hexadecimal digits")
            }
            fn visit_str<E: serde::de::Error>(self, written: &str) -> Result<Definition, E> {
                Definition::parse(written)
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
    fn definition_reads_what_it_writes() {
        for hash in [0, 7, 0xffff_ffff, 0x1234_5678_9abc_def0] {
            let definition = Definition::of_hash(hash);
            assert_eq!(Definition::parse(&definition.to_string()), Some(definition));
        }
        for wrong in ["", "1", "123456789", "0000000g", "ABCDEF01", "+1234567"] {
            assert_eq!(Definition::parse(wrong), None, "{wrong}");
        }
    }
}

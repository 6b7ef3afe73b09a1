//! Names that a spec gives: to itself, and to the items of its lists.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::problem::{Invalid, SpecPath};

/// Text that is no name, and what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{written}` is not a name: write up to {longest} lower-case letters, digits and `-`, starting with a letter, e.g. `flash-crowd`"
)]
pub struct NameError {
    written: String,
    longest: usize,
}

fn check(written: &str, longest: usize) -> Result<String, NameError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = written.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && !written.ends_with('-') && written.chars().all(legal) && written.len() <= longest {
        Ok(written.to_owned())
    } else {
        Err(NameError { written: written.to_owned(), longest })
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $longest:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub(crate) fn parse(written: &str, at: &SpecPath<'_>) -> Result<Self, Invalid> {
                written.parse().map_err(|error: NameError| at.invalid(error.to_string()))
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(written: &str) -> Result<Self, NameError> {
                check(written, $longest).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(written: String) -> Result<Self, NameError> {
                written.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl PartialEq<String> for $name {
            fn eq(&self, other: &String) -> bool {
                self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// The name of a pipeline: a DNS label short enough for the names of what belongs to it.
    PipelineName: 50;
    /// The name of a metric.
    MetricName: 40;
    /// The name of a detector.
    DetectorName: 40;
    /// The name of a sink.
    SinkName: 40;
    /// The name of a write key, by which logs and metrics call it.
    WriteKeyName: 40;
}

/// Names are unique in their list.
pub(crate) fn unique<'a>(names: impl IntoIterator<Item = &'a str>, at: &SpecPath<'_>) -> Result<(), Invalid> {
    let mut known = std::collections::BTreeSet::new();
    let mut unique = Ok(());
    for (index, name) in names.into_iter().enumerate() {
        if !known.insert(name) {
            let at = at.index(index).child("name");
            unique = Err(at.invalid(format!("`{name}` is there twice: names are unique in this list")));
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_capitals_is_not_deserialized() {
        assert_eq!(serde_json::from_str::<MetricName>("\"views\"").unwrap(), "views");
        let error = serde_json::from_str::<MetricName>("\"Views\"").unwrap_err().to_string();
        assert!(error.starts_with("`Views` is not a name: write up to 40"), "{error}");
    }
}

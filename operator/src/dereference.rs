//! The Secrets that a plan references, read once a reconcile.

use std::collections::{BTreeMap, BTreeSet};

use herd_spec::pipeline::SecretRef;
use herd_spec::plan::Plan;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::desired::digest;
use crate::error::{Error, SecretMissing};

/// The Secrets of one pipeline; all exist.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretValues>);

#[derive(Clone)]
struct SecretValues {
    uid: String,
    values: BTreeMap<String, Vec<u8>>,
}

/// Reads the Secrets that a plan references.
///
/// # Errors
/// [`Error::Secret`] for the first Secret or key that is missing; [`Error::Api`].
pub async fn secrets(client: &Client, namespace: &str, plan: &Plan) -> Result<Secrets, Error> {
    read(client, namespace, &plan.secrets()).await
}

/// Reads these Secrets.
///
/// # Errors
/// As [`secrets`].
pub async fn read(client: &Client, namespace: &str, references: &[&SecretRef]) -> Result<Secrets, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let names: BTreeSet<&str> = references.iter().map(|reference| &*reference.name).collect();
    let mut found = Secrets::default();
    for name in names {
        let secret = api.get_opt(name).await.map_err(Error::api(format!("reading the Secret {name}")))?;
        let Some(secret) = secret else {
            return Err(Error::Secret(SecretMissing { name: name.into(), key: None }));
        };
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        let values = SecretValues { uid: secret.metadata.uid.unwrap_or_default(), values: data.collect() };
        found.0.insert(name.into(), values);
    }
    for reference in references {
        found.read(reference).map_err(Error::Secret)?;
    }
    Ok(found)
}

impl Secrets {
    /// A value, without trailing line ends.
    ///
    /// # Errors
    /// If the Secret or its key does not exist, or the value is not UTF-8.
    pub fn read(&self, reference: &SecretRef) -> Result<String, SecretMissing> {
        let missing =
            |key: Option<&str>| SecretMissing { name: reference.name.clone(), key: key.map(str::to_owned) };
        let held = self.0.get(&reference.name).ok_or_else(|| missing(None))?;
        let value = held.values.get(&reference.key).ok_or_else(|| missing(Some(&reference.key)))?;
        let text = std::str::from_utf8(value).map_err(|_| missing(Some(&reference.key)))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }

    /// A fingerprint of the values of these references. It includes the uids of the Secrets, which only their readers know, so that
    /// others cannot test guesses of a value against it.
    #[must_use]
    pub fn fingerprint(&self, references: &[SecretRef]) -> String {
        let mut bytes = Vec::new();
        for reference in references {
            let Some(held) = self.0.get(&reference.name) else { continue };
            for part in [held.uid.as_bytes(), reference.key.as_bytes()] {
                bytes.extend(part);
                bytes.push(0);
            }
            bytes.extend(held.values.get(&reference.key).into_iter().flatten());
            bytes.push(0);
        }
        digest(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(value: &str) -> Secrets {
        let values = BTreeMap::from([("url".to_owned(), value.as_bytes().to_vec())]);
        Secrets(BTreeMap::from([("store".to_owned(), SecretValues { uid: "u-1".into(), values })]))
    }

    fn reference(key: &str) -> SecretRef {
        SecretRef { name: "store".into(), key: key.into() }
    }

    #[test]
    fn value_has_no_trailing_line_end() {
        assert_eq!(held("postgres://a\n").read(&reference("url")).unwrap(), "postgres://a");
    }

    #[test]
    fn error_names_the_missing_key() {
        let missing = held("x").read(&reference("uri")).unwrap_err();
        assert!(missing.to_string().contains("`store` has no key `uri`"), "{missing}");
    }

    #[test]
    fn fingerprint_differs_for_another_value() {
        let of = |value: &str| held(value).fingerprint(&[reference("url")]);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
    }
}

//! Secrets by reference: a mounted directory (`<directory>/<name>/<key>`, as Kubernetes mounts them) or the environment
//! (`HERD_SECRET_<NAME>_<KEY>`).

use std::fmt;
use std::path::{Path, PathBuf};

use herd_spec::pipeline::SecretRef;

/// Source of Secrets: the environment first, then the directory.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    folder: Option<PathBuf>,
}

/// A secret value. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret with this value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value. It must not appear in logs, errors or metrics.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A Secret that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It does not exist.
    #[error("the secret `{name}` has no key `{key}`: set {variable}{folder}")]
    Missing {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
        /// The environment variable that would hold it.
        variable: String,
        /// The file that would hold it, as a clause of the message.
        folder: String,
    },
    /// Its file is not readable.
    #[error("the secret `{name}`, key `{key}`, cannot be read from {}: {source}", path.display())]
    Unreadable {
        /// Name of the Secret.
        name: String,
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Secrets {
    /// Secrets from the environment, then from the directory `folder`.
    #[must_use]
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned) }
    }

    /// The environment variable that may hold a Secret.
    #[must_use]
    pub fn variable(reference: &SecretRef) -> String {
        let upper = |text: &str| -> String {
            text.chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect()
        };
        format!("HERD_SECRET_{}_{}", upper(&reference.name), upper(&reference.key))
    }

    /// Reads a Secret. A trailing line end is removed.
    ///
    /// # Errors
    /// [`SecretError`] if it does not exist or is not readable.
    pub fn read(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let variable = Self::variable(reference);
        if let Ok(value) = std::env::var(&variable) {
            return Ok(Secret(value));
        }
        let SecretRef { name, key } = reference.clone();
        let Some(folder) = &self.folder else {
            return Err(SecretError::Missing { name, key, variable, folder: String::new() });
        };
        let path = folder.join(&name).join(&key);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Secret(text.trim_end_matches(['\n', '\r']).to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(SecretError::Missing {
                name,
                key,
                variable,
                folder: format!(", or write it to {}", path.display()),
            }),
            Err(source) => Err(SecretError::Unreadable { name, key, path, source }),
        }
    }
}

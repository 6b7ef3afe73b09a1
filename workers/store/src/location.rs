//! Where a store is, as a plan says it.

use std::fmt;
use std::path::{Path, PathBuf};

use herd_spec::pipeline::SecretRef;
use herd_spec::plan::StorePlan;

use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::{Dialect, Store, StoreError};

/// Where a store is. Its `Debug` does not show the connection URL, which holds a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A schema of a PostgreSQL database.
    Postgres {
        /// Connection URL.
        url: String,
        /// The schema of the tables.
        schema: String,
    },
    /// A file.
    Sqlite(PathBuf),
}

impl StoreLocation {
    /// The location of a planned store: `secret` reads its connection URL, `data` is the folder that files are relative to.
    ///
    /// # Errors
    /// If the Secret cannot be read.
    pub fn resolve<E>(
        plan: &StorePlan,
        data: &Path,
        secret: impl FnOnce(&SecretRef) -> Result<String, E>,
    ) -> Result<Self, E> {
        match plan {
            StorePlan::Postgres { url, schema, .. } => {
                Ok(Self::Postgres { url: secret(url)?, schema: schema.clone() })
            }
            StorePlan::Sqlite { path } => Ok(Self::Sqlite(data.join(path))),
        }
    }
}

impl fmt::Debug for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres { schema, .. } => write!(f, "Postgres(…, {schema})"),
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
        }
    }
}

impl Store {
    /// Opens the tables at `location`, and creates or upgrades them; safe with many processes at once.
    ///
    /// # Errors
    /// See [`Store::postgres`] and [`Store::sqlite`].
    pub async fn open(location: &StoreLocation) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Postgres { url, schema } => Self::postgres(url, schema).await,
            StoreLocation::Sqlite(path) => Self::sqlite(path).await,
        }
    }

    /// Opens existing tables at `location` to read them. Nothing is created or upgraded, and nothing can be written.
    ///
    /// # Errors
    /// If the URL is invalid or the file does not exist. Whether the tables exist shows in the first query.
    pub fn open_to_read(location: &StoreLocation) -> Result<Self, StoreError> {
        Ok(Self(match location {
            StoreLocation::Postgres { url, schema } => {
                Dialect::Postgres(Box::new(Postgres::open_to_read(url, schema)?))
            }
            StoreLocation::Sqlite(path) => Dialect::Sqlite(Sqlite::open_to_read(path)?),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_url_is_not_in_debug_output() {
        let url = SecretRef { name: "db".into(), key: "url".into() };
        let (schema, batch_wait) = ("herd".to_owned(), std::time::Duration::ZERO);
        let plan = StorePlan::Postgres { url, schema, batch_rows: 1, batch_wait };
        let read = |_: &SecretRef| Ok::<_, std::convert::Infallible>("postgres://u:hush@h/d".to_owned());
        let location = StoreLocation::resolve(&plan, Path::new("/data"), read).unwrap();
        assert!(!format!("{location:?}").contains("hush"));
    }
}

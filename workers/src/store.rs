//! The store that answers the api's questions about the past.

use std::path::Path;

use herd_spec::plan::{Plan, SinkKind};
use herd_stage::{SecretError, Secrets};
use herd_store::{Store, StoreError};

/// The api's store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Its address is in a Secret that is not there.
    #[error("the store of sink `{sink}`: {source}")]
    Secret {
        /// The sink.
        sink: String,
        /// What is missing.
        source: SecretError,
    },
    /// The database does not have it.
    #[error("the store of sink `{sink}` cannot be opened: {source}")]
    Store {
        /// The sink.
        sink: String,
        /// What the database says.
        source: StoreError,
    },
}

/// Opens the store that the plan names for the api; none if the pipeline has no store.
///
/// # Errors
/// [`OpenStoreError`].
pub async fn open(plan: &Plan, secrets: &Secrets, data: &Path) -> Result<Option<Store>, OpenStoreError> {
    let Some(name) = &plan.api.store else { return Ok(None) };
    let Some(sink) = plan.sinks.iter().find(|sink| &sink.name == name) else { return Ok(None) };
    let opened = match &sink.kind {
        SinkKind::Postgres { url, schema, .. } => {
            let url =
                secrets.read(url).map_err(|source| OpenStoreError::Secret { sink: name.clone(), source })?;
            Store::postgres(url.reveal(), schema).await
        }
        SinkKind::Sqlite { path } => Store::sqlite(&data.join(path)).await,
        SinkKind::Webhook { .. } => return Ok(None),
    };
    opened.map(Some).map_err(|source| OpenStoreError::Store { sink: name.clone(), source })
}

//! The store that answers the api's questions about the past.

use std::path::Path;

use herd_api::StoreSource;
use herd_spec::plan::{Plan, SinkKind};
use herd_stage::{SecretError, Secrets};
use herd_store::Store;

/// The api's store has its address in a Secret that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the store of sink `{sink}`: {source}")]
pub struct StoreSecretError {
    /// The sink.
    sink: String,
    /// What is missing.
    source: SecretError,
}

/// The store that the plan names for the api, to be opened when its database answers; none if the pipeline has no store.
///
/// # Errors
/// [`StoreSecretError`].
pub fn of_api(plan: &Plan, secrets: &Secrets, data: &Path) -> Result<Option<StoreSource>, StoreSecretError> {
    let Some(name) = &plan.api.store else { return Ok(None) };
    let Some(sink) = plan.sinks.iter().find(|sink| &sink.name == name) else { return Ok(None) };
    match &sink.kind {
        SinkKind::Postgres { url, schema, .. } => {
            let url = secrets.read(url).map_err(|source| StoreSecretError { sink: name.clone(), source })?;
            let schema = schema.clone();
            Ok(Some(StoreSource::new(move || {
                let (url, schema) = (url.clone(), schema.clone());
                async move { Store::postgres(url.reveal(), &schema).await }
            })))
        }
        SinkKind::Sqlite { path } => {
            let path = data.join(path);
            Ok(Some(StoreSource::new(move || {
                let path = path.clone();
                async move { Store::sqlite(&path).await }
            })))
        }
        SinkKind::Webhook { .. } => Ok(None),
    }
}

//! The store that answers the api's questions about the past.

use std::path::Path;

use herd_api::StoreSource;
use herd_spec::plan::Plan;
use herd_stage::{SecretError, Secrets};
use herd_store::{Store, StoreLocation};

/// The api's store has its address in a Secret that is not there.
#[derive(Debug, thiserror::Error)]
#[error("the api's store: {0}")]
pub struct StoreSecretError(#[from] SecretError);

/// The store that the plan names for the api, to be opened when its database answers; none if the pipeline has no store.
///
/// # Errors
/// [`StoreSecretError`].
pub fn of_api(plan: &Plan, secrets: &Secrets, data: &Path) -> Result<Option<StoreSource>, StoreSecretError> {
    let Some(store) = plan.store() else { return Ok(None) };
    let location = StoreLocation::resolve(store, data, |secret| {
        secrets.read(secret).map(|secret| secret.reveal().to_owned())
    })?;
    Ok(Some(StoreSource::new(move || {
        let location = location.clone();
        async move { Store::open(&location).await }
    })))
}

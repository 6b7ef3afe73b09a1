//! Whether every Secret that a plan refers to can be read: better said at once than by each stage on its own.

use herd_spec::plan::Plan;
use herd_stage::{SecretError, Secrets};

/// Everything that is missing.
#[must_use]
pub fn missing(plan: &Plan, secrets: &Secrets) -> Vec<SecretError> {
    plan.secrets().into_iter().filter_map(|reference| secrets.read(reference).err()).collect()
}

//! Whether every Secret that a plan refers to can be read: better said at once than by each stage on its own.

use herd_spec::pipeline::SecretRef;
use herd_spec::plan::{Plan, SinkKind, WebhookUrl};
use herd_stage::{SecretError, Secrets};

/// All references of a plan.
#[must_use]
pub fn references(plan: &Plan) -> Vec<&SecretRef> {
    let mut all = Vec::new();
    if let Some(kafka) = &plan.kafka {
        if let Some(tls) = &kafka.tls {
            all.extend([&tls.ca, &tls.certificate, &tls.key].into_iter().flatten());
        }
        if let Some(sasl) = &kafka.sasl {
            all.extend([&sasl.username, &sasl.password]);
        }
    }
    all.extend(plan.collector.keys.iter().map(|key| &key.secret));
    for sink in &plan.sinks {
        match &sink.kind {
            SinkKind::Postgres { url, .. } => all.push(url),
            SinkKind::Sqlite { .. } => {}
            SinkKind::Webhook { url, signing_key, .. } => {
                if let WebhookUrl::Secret(reference) = url {
                    all.push(reference);
                }
                all.extend(signing_key);
            }
        }
    }
    all.extend(&plan.api.token);
    all
}

/// Everything that is missing.
#[must_use]
pub fn missing(plan: &Plan, secrets: &Secrets) -> Vec<SecretError> {
    references(plan).into_iter().filter_map(|reference| secrets.read(reference).err()).collect()
}

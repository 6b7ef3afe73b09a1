//! Which Secrets a plan refers to, part by part.

use super::{KafkaPlan, Plan, SinkKind, SinkPlan, WebhookUrl};
use crate::pipeline::SecretRef;

impl KafkaPlan {
    /// What it takes to talk to the brokers.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let tls = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key]).flatten();
        let sasl = self.sasl.iter().flat_map(|sasl| [&sasl.username, &sasl.password]);
        tls.chain(sasl).collect()
    }
}

impl SinkPlan {
    /// What it takes to reach the store or receiver.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        match &self.kind {
            SinkKind::Postgres { url, .. } => vec![url],
            SinkKind::Sqlite { .. } => Vec::new(),
            SinkKind::Webhook { url, signing_key, .. } => {
                let address = match url {
                    WebhookUrl::Secret(reference) => Some(reference),
                    WebhookUrl::Plain(_) => None,
                };
                address.into_iter().chain(signing_key).collect()
            }
        }
    }
}

impl Plan {
    /// All references, in the order of the spec.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let kafka = self.kafka.iter().flat_map(KafkaPlan::secrets);
        let keys = self.collector.keys.iter().map(|key| &key.secret);
        let sinks = self.sinks.iter().flat_map(SinkPlan::secrets);
        kafka.chain(keys).chain(sinks).chain(&self.api.token).collect()
    }
}

//! How to reach Kafka.

use serde::{Deserialize, Serialize};

use crate::pipeline::{DeletionPolicy, KafkaSasl, KafkaSpec, KafkaTls, SaslMechanism, SecretRef};
use crate::problem::{Invalid, SpecPath};

/// How to reach Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KafkaPlan {
    /// `host:port`, at least one.
    pub bootstrap_servers: Vec<String>,
    /// TLS, where asked for.
    pub tls: Option<KafkaTls>,
    /// Credentials, where asked for.
    pub sasl: Option<KafkaSasl>,
    /// What becomes of our topics in the end.
    pub deletion_policy: DeletionPolicy,
}

impl KafkaPlan {
    pub(super) fn parse(spec: &KafkaSpec, at: &SpecPath<'_>) -> Result<Self, Invalid> {
        let servers = at.child("bootstrapServers");
        let some = servers.require(
            !spec.bootstrap_servers.is_empty(),
            "is empty: write at least one `host:port`, or leave out `kafka` for the embedded broker",
        );
        let bootstrap_servers = servers.each(&spec.bootstrap_servers, server);
        let sasl = sasl(spec, &at.child("sasl"));
        let tls = at.optional("tls", spec.tls.as_ref(), tls);
        some?;
        Ok(Self {
            bootstrap_servers: bootstrap_servers?,
            tls: tls?,
            sasl: sasl?,
            deletion_policy: spec.deletion_policy,
        })
    }

    /// The Secrets it takes to talk to the brokers.
    #[must_use]
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let tls = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key]).flatten();
        let sasl = self.sasl.iter().flat_map(|sasl| [&sasl.username, &sasl.password]);
        tls.chain(sasl).collect()
    }
}

fn server(written: &String, at: &SpecPath<'_>) -> Result<String, Invalid> {
    let port = written.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    if port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        Ok(written.clone())
    } else {
        Err(at.invalid(format!("`{written}` is not an address: write `host:port`, e.g. `kafka:9092`")))
    }
}

fn sasl(spec: &KafkaSpec, at: &SpecPath<'_>) -> Result<Option<KafkaSasl>, Invalid> {
    let plain = spec.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == SaslMechanism::Plain);
    at.child("mechanism").require(
        !plain || spec.tls.is_some(),
        "PLAIN sends the password unencrypted: add `tls`, or write `SCRAM-SHA-512`",
    )?;
    Ok(spec.sasl.clone())
}

fn tls(spec: &KafkaTls, at: &SpecPath<'_>) -> Result<KafkaTls, Invalid> {
    at.require(
        spec.certificate.is_some() == spec.key.is_some(),
        "`certificate` and `key` belong together: write both or neither",
    )?;
    Ok(spec.clone())
}

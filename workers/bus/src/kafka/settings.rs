//! How to reach a Kafka cluster, and what every client is told.

use std::fmt;
use std::time::Duration;

use herd_spec::pipeline::{SaslMechanism, SecretRef};
use herd_spec::plan::KafkaPlan;
use rdkafka::config::ClientConfig;

/// How to reach a Kafka cluster. Secrets are values here; its `Debug` leaves them out.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Addresses to start from, `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// TLS; none: plain text.
    pub tls: Option<KafkaTlsSettings>,
    /// Credentials, where asked for.
    pub sasl: Option<KafkaSaslSettings>,
    /// What brokers call us.
    pub client_id: String,
    /// How long a broker waits for a heartbeat of a member before its partitions go to others.
    pub session_timeout: Duration,
    /// How long a member may not fetch before it gives up its partitions. At least the session timeout.
    pub max_poll_interval: Duration,
}

/// TLS towards the brokers, PEM.
#[derive(Clone, Default)]
pub struct KafkaTlsSettings {
    /// The certificate authority; none: the system's.
    pub ca: Option<String>,
    /// Our certificate.
    pub certificate: Option<String>,
    /// The key of our certificate.
    pub key: Option<String>,
}

/// Who we are to the brokers.
#[derive(Clone)]
pub struct KafkaSaslSettings {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("tls", &self.tls.is_some())
            .field("sasl", &self.sasl.as_ref().map(|sasl| &sasl.mechanism))
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// Plain text, nobody in particular; servers separated by commas. Session 10 s, fetching at least every 5 minutes.
    #[must_use]
    pub fn plain(bootstrap_servers: &str, client_id: &str) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.split(',').map(|server| server.trim().to_owned()).collect(),
            tls: None,
            sasl: None,
            client_id: client_id.to_owned(),
            session_timeout: Duration::from_secs(10),
            max_poll_interval: Duration::from_secs(300),
        }
    }

    /// The settings of a plan; `read` gives the values of Secrets.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn of<E>(
        plan: &KafkaPlan,
        client_id: &str,
        read: impl Fn(&SecretRef) -> Result<String, E>,
    ) -> Result<Self, E> {
        let maybe = |reference: &Option<SecretRef>| reference.as_ref().map(&read).transpose();
        let mut settings = Self::plain(&plan.bootstrap_servers.join(","), client_id);
        if let Some(tls) = &plan.tls {
            settings.tls = Some(KafkaTlsSettings {
                ca: maybe(&tls.ca)?,
                certificate: maybe(&tls.certificate)?,
                key: maybe(&tls.key)?,
            });
        }
        if let Some(sasl) = &plan.sasl {
            let mechanism = match sasl.mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            settings.sasl = Some(KafkaSaslSettings {
                mechanism: mechanism.into(),
                username: read(&sasl.username)?,
                password: read(&sasl.password)?,
            });
        }
        Ok(settings)
    }

    fn base(&self, name: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let security = match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        config
            .set("bootstrap.servers", self.bootstrap_servers.join(","))
            .set("client.id", format!("{}-{name}", self.client_id))
            .set("security.protocol", security)
            .set("allow.auto.create.topics", "false")
            // New partitions are seen soon; the default is five minutes.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false");
        if let Some(tls) = &self.tls {
            let pems = [
                ("ssl.ca.pem", &tls.ca),
                ("ssl.certificate.pem", &tls.certificate),
                ("ssl.key.pem", &tls.key),
            ];
            for (name, pem) in pems {
                if let Some(pem) = pem {
                    config.set(name, pem);
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", &sasl.mechanism)
                .set("sasl.username", &sasl.username)
                .set("sasl.password", &sasl.password);
        }
        config
    }

    pub(super) fn producer(&self, name: &str) -> ClientConfig {
        let mut config = self.base(name);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("linger.ms", "1")
            // The bound of what waits for acknowledgements; more is `SendError::Full`.
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("message.timeout.ms", "120000");
        config
    }

    /// For requests and scans: its group is never joined.
    pub(super) fn reader(&self, name: &str, group: &str) -> ClientConfig {
        let mut config = self.base(name);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.message.max.bytes", "4194304")
            // The bounds of what was fetched ahead, for each consumer: what a reader that is behind holds in memory.
            .set("fetch.max.bytes", "16777216")
            .set("queued.max.messages.kbytes", "16384")
            // How soon a full queue is looked at again; by default it stands empty for most of a second.
            .set("fetch.queue.backoff.ms", "10");
        config
    }

    pub(super) fn member(&self, name: &str, group: &str, instance: Option<String>) -> ClientConfig {
        let mut config = self.reader(name, group);
        let session = self.session_timeout;
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("heartbeat.interval.ms", (self.session_timeout.as_millis() / 5).to_string())
            .set("max.poll.interval.ms", self.max_poll_interval.max(session).as_millis().to_string());
        if let Some(instance) = instance {
            config.set("group.instance.id", instance);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let mut settings = KafkaSettings::plain("a:1, b:2", "herd");
        settings.sasl = Some(KafkaSaslSettings {
            mechanism: "SCRAM-SHA-512".into(),
            username: "ada".into(),
            password: "s3cret".into(),
        });
        settings.tls = Some(KafkaTlsSettings { key: Some("s3cret".into()), ..KafkaTlsSettings::default() });
        let printed = format!("{settings:?}");
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(printed.contains("SCRAM-SHA-512"));
        let config = settings.producer("p");
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.get("security.protocol"), Some("SASL_SSL"));
    }
}

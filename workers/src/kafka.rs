//! From a plan's Kafka and the Secrets it refers to, to a bus.

use herd_bus::BusError;
use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_spec::plan::KafkaPlan;
use herd_stage::{SecretError, Secrets};

/// Kafka cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A Secret it needs is not there.
    #[error("Kafka's settings: {0}")]
    Secret(#[from] SecretError),
    /// The settings are refused.
    #[error("Kafka's settings: {0}")]
    Bus(#[from] BusError),
}

/// A bus over the plan's Kafka. Brokers and logs call us `client`.
///
/// # Errors
/// [`ConnectError`]. Whether a broker answers shows only when it is asked something.
pub fn connect(kafka: &KafkaPlan, secrets: &Secrets, client: &str) -> Result<KafkaBus, ConnectError> {
    Ok(KafkaBus::connect(&settings(kafka, secrets, client)?)?)
}

fn settings(kafka: &KafkaPlan, secrets: &Secrets, client: &str) -> Result<KafkaSettings, SecretError> {
    KafkaSettings::of(kafka, client, |reference| {
        secrets.read(reference).map(|secret| secret.reveal().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_spec::pipeline::{DeletionPolicy, KafkaSasl, KafkaTls, SaslMechanism, SecretRef};

    fn secret(key: &str) -> SecretRef {
        SecretRef { name: "kafka".into(), key: key.into() }
    }

    fn plan() -> KafkaPlan {
        KafkaPlan {
            bootstrap_servers: vec!["a:1".into(), "b:2".into()],
            tls: Some(KafkaTls { ca: Some(secret("ca.crt")), ..KafkaTls::default() }),
            sasl: Some(KafkaSasl {
                mechanism: SaslMechanism::ScramSha512,
                username: secret("user"),
                password: secret("password"),
            }),
            deletion_policy: DeletionPolicy::Retain,
        }
    }

    #[test]
    fn secrets_are_read_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("kafka")).unwrap();
        for (key, value) in [("ca.crt", "PEM"), ("user", "ada\n"), ("password", "s3cret")] {
            std::fs::write(folder.path().join("kafka").join(key), value).unwrap();
        }
        let settings = settings(&plan(), &Secrets::new(Some(folder.path())), "herd").unwrap();
        assert_eq!(settings.bootstrap_servers, ["a:1", "b:2"]);
        assert_eq!(settings.tls.unwrap().ca.as_deref(), Some("PEM"));
        let sasl = settings.sasl.unwrap();
        assert_eq!((sasl.mechanism.as_str(), sasl.username.as_str()), ("SCRAM-SHA-512", "ada"));
    }

    #[test]
    fn a_secret_that_is_missing_is_named() {
        let error = settings(&plan(), &Secrets::default(), "herd").unwrap_err();
        assert!(error.to_string().contains("`kafka` has no key `ca.crt`"), "{error}");
    }
}

//! Connections to Kafka clusters: one for all pipelines that reach the same cluster with the same settings.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_spec::plan::KafkaPlan;
use parking_lot::Mutex;

use crate::dereference::Secrets;
use crate::desired::digest;

/// A connection that is unused for this long is closed.
const IDLE: Duration = Duration::from_secs(900);

/// Open connections by cluster key: at most one for each set of Kafka settings that a pipeline has.
#[derive(Default)]
pub struct KafkaClients {
    open: Mutex<HashMap<String, (KafkaBus, Instant)>>,
}

/// A connection to a Kafka cluster.
#[derive(Clone)]
pub struct KafkaConnection {
    /// The connection.
    pub bus: KafkaBus,
    /// Fingerprint of the cluster's addresses, TLS and SASL settings, with the values of their Secrets. Pipelines with the same key
    /// are polled together.
    pub cluster_key: String,
}

/// Kafka settings that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[error("invalid Kafka settings: {0}")]
pub struct InvalidKafkaSettings(String);

impl KafkaClients {
    /// The connection for these settings.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn connect(
        &self,
        kafka: &KafkaPlan,
        secrets: &Secrets,
    ) -> Result<KafkaConnection, InvalidKafkaSettings> {
        let references: Vec<_> = kafka.secrets().into_iter().cloned().collect();
        let settings =
            serde_json::to_vec(&(&kafka.bootstrap_servers, &kafka.tls, &kafka.sasl)).unwrap_or_default();
        let cluster_key = format!("{}-{}", digest(&settings), secrets.fingerprint(&references));
        let mut open = self.open.lock();
        open.retain(|other, (_, used)| *other == cluster_key || used.elapsed() < IDLE);
        if let Some((bus, used)) = open.get_mut(&cluster_key) {
            *used = Instant::now();
            return Ok(KafkaConnection { bus: bus.clone(), cluster_key });
        }
        let settings = KafkaSettings::of(kafka, "herd-operator", |reference| secrets.read(reference))
            .map_err(|missing| InvalidKafkaSettings(missing.to_string()))?;
        let bus = KafkaBus::connect(&settings).map_err(|error| InvalidKafkaSettings(error.to_string()))?;
        open.insert(cluster_key.clone(), (bus.clone(), Instant::now()));
        Ok(KafkaConnection { bus, cluster_key })
    }
}

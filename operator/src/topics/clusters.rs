//! Connections to Kafka clusters: one for all pipelines that reach the same cluster in the same way.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use herd_bus::kafka::{KafkaBus, KafkaSettings};
use herd_spec::plan::KafkaPlan;
use parking_lot::Mutex;

use crate::dereference::Secrets;
use crate::desired::digest;

/// A connection that nobody has asked for this long is closed.
const IDLE: Duration = Duration::from_secs(900);

/// Open connections: at most one for each way to reach a cluster that a pipeline has.
#[derive(Default)]
pub struct Clusters {
    open: Mutex<HashMap<String, (KafkaBus, Instant)>>,
}

/// Kafka cannot even be addressed.
#[derive(Debug, thiserror::Error)]
#[error("Kafka's settings are refused: {0}")]
pub struct Unusable(String);

impl Clusters {
    /// A connection, and what stands for it: the way to reach the cluster, with the values of Secrets.
    ///
    /// # Errors
    /// If the settings are refused.
    pub fn connect(&self, kafka: &KafkaPlan, secrets: &Secrets) -> Result<(KafkaBus, String), Unusable> {
        let references: Vec<_> = kafka.secrets().into_iter().cloned().collect();
        let way =
            serde_json::to_vec(&(&kafka.bootstrap_servers, &kafka.tls, &kafka.sasl)).unwrap_or_default();
        let key = format!("{}-{}", digest(&way), secrets.fingerprint(&references));
        let mut open = self.open.lock();
        open.retain(|other, (_, used)| *other == key || used.elapsed() < IDLE);
        if let Some((bus, used)) = open.get_mut(&key) {
            *used = Instant::now();
            return Ok((bus.clone(), key));
        }
        let settings = KafkaSettings::of(kafka, "herd-operator", |reference| secrets.read(reference))
            .map_err(|missing| Unusable(missing.to_string()))?;
        let bus = KafkaBus::connect(&settings).map_err(|error| Unusable(error.to_string()))?;
        open.insert(key.clone(), (bus.clone(), Instant::now()));
        Ok((bus, key))
    }
}

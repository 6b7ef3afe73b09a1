//! The `HerdPipeline` as users write it. The CRD, the defaults, the reference and `herd up` are all derived from these types;
//! their doc comments are the descriptions in the CRD, in the reference and in `kubectl explain`.

mod budget;
mod collector;
mod detectors;
mod events;
mod ingress;
mod kafka;
mod metrics;
mod quiet;
mod sinks;
mod stages;
mod status;

pub use budget::*;
pub use collector::*;
pub use detectors::*;
pub use events::*;
pub use ingress::*;
pub use kafka::*;
pub use metrics::*;
pub use quiet::*;
pub use sinks::*;
pub use stages::*;
pub use status::*;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pipeline of user events: receives them over HTTP, keeps them in Kafka, computes metrics, detects anomalies, and stores
/// and serves the results.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has a type and a path of its own")]
#[kube(
    group = "herd.dev",
    version = "v1alpha1",
    kind = "HerdPipeline",
    plural = "herdpipelines",
    shortname = "hp",
    category = "herd",
    status = "HerdPipelineStatus",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(name = "Observed", type_ = "date", json_path = ".status.lastObserved"),
    printcolumn(name = "Generation", type_ = "integer", json_path = ".metadata.generation", priority = 1),
    printcolumn(
        name = "Observed-Generation",
        type_ = "integer",
        json_path = ".status.observedGeneration",
        priority = 1
    ),
    printcolumn(name = "Events/s", type_ = "integer", json_path = ".status.eventsPerSecond"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag"),
    printcolumn(name = "Detectors", type_ = "string", json_path = ".status.detectors"),
    printcolumn(name = "Sinks", type_ = "string", json_path = ".status.sinks"),
    printcolumn(name = "Alerts", type_ = "integer", json_path = ".status.alerts"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    namespaced
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HerdPipelineSpec {
    /// Kafka cluster that carries the records between the stages. Required on Kubernetes. Omitted under `herd up`: the
    /// embedded broker is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSpec>,
    /// Mapping and validation of the JSON that clients send.
    #[serde(default)]
    pub events: EventsSpec,
    /// The HTTP endpoint that receives events.
    #[serde(default)]
    pub collector: CollectorSpec,
    /// Metrics: aggregates of events per key and window.
    #[serde(default)]
    pub metrics: Vec<MetricSpec>,
    /// Detectors: rules that raise alerts on the windows of a metric.
    #[serde(default)]
    pub detectors: Vec<DetectorSpec>,
    /// Replicas, scaling and resources of the detector stage.
    #[serde(default)]
    pub detection: StageSpec,
    /// Sinks: the stores and webhooks that receive events, windows and alerts.
    #[serde(default)]
    pub sinks: Vec<SinkSpec>,
    /// The api stage: REST, WebSocket and the dashboard.
    #[serde(default)]
    pub api: ApiSpec,
    /// Stops the detector and sink stages. Collectors keep accepting events, so nothing is lost.
    #[serde(default)]
    pub paused: bool,
}

/// A duration as written in a spec: `500ms`, `30s`, `10m`, `1h30m`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// Whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

const UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{written}` is not a duration: write a number and a unit, e.g. `500ms`, `30s`, `10m`, `1h30m`, `7d`"
            )
        };
        let mut rest = written;
        let mut total: u128 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u128 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (_, millis) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(wrong)?;
            rest = &rest[letters..];
            total = number.checked_mul(*millis).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?;
        }
        u64::try_from(total).map(|ms| Self(Duration::from_millis(ms))).map_err(|_| wrong())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^([0-9]+(ms|s|m|h|d))+$",
        })
    }
}

/// Reference to one key of a Secret. Under `herd up` the value is read from the environment variable
/// `HERD_SECRET_<NAME>_<KEY>` (upper case, other characters replaced by `_`) or from the file `<secrets
/// directory>/<name>/<key>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretRef {
    /// Name of the Secret, in the namespace of the pipeline.
    pub name: String,
    /// Key within the Secret.
    pub key: String,
}

impl HerdPipeline {
    /// Prefix of the topic and group names: `topicPrefix`, or else the name of the pipeline.
    #[must_use]
    pub fn topic_prefix(&self) -> &str {
        let asked = self.spec.kafka.as_ref().and_then(|kafka| kafka.topic_prefix.as_deref());
        asked.or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("500ms", 500)]
    #[case("30s", 30_000)]
    #[case("1h30m", 5_400_000)]
    #[case("7d", 604_800_000)]
    fn parses_a_duration(#[case] written: &str, #[case] millis: u64) {
        assert_eq!(written.parse::<Span>(), Ok(Span(Duration::from_millis(millis))));
    }

    #[rstest]
    #[case("")]
    #[case("30")]
    #[case("30 s")]
    #[case("-1s")]
    #[case("1w")]
    #[case("s")]
    #[case("99999999999999999999d")]
    fn rejects_an_invalid_duration_with_examples(#[case] written: &str) {
        let error = written.parse::<Span>().unwrap_err();
        assert!(error.contains("`1h30m`"), "{error}");
    }

    proptest! {
        #[test]
        fn parses_what_it_prints(ms in 0..u64::MAX / 2) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }
}

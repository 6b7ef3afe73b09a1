use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IngressSpec, SecretRef, Span, StageSpec};

/// The HTTP endpoint that takes events in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectorSpec {
    /// Who may write. Left out: everybody who can reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// Which web pages may send events.
    #[serde(default)]
    pub cors: CorsSpec,
    /// Addresses of proxies before the collector, as CIDRs, e.g. `10.0.0.0/8`. Requests that come from there count as those of the
    /// client that `X-Forwarded-For` or `Forwarded` names, in limits per address. Left out: no such header is believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// What one collector takes at once.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// A door from outside the cluster. Left out: it is reached from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// Replicas, scaling and resources.
    #[serde(default)]
    pub stage: StageSpec,
}

/// Who may write: the holder of one of these keys, in `Authorization: Bearer KEY`, `X-Write-Key: KEY`, or `?key=KEY` for
/// beacons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthSpec {
    /// The write keys.
    pub keys: Vec<WriteKeySpec>,
}

/// A write key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteKeySpec {
    /// What logs and metrics call it.
    pub name: String,
    /// Where its value is.
    pub secret_ref: SecretRef,
    /// Events a second its holder may send, on average; bursts of one second's worth are let through. Left out:
    /// `limits.eventsPerSecondPerKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub events_per_second: Option<u32>,
}

/// Which web pages may send events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorsSpec {
    /// Origins, e.g. `https://shop.example`; `*` is every page.
    #[serde(default = "default_origins")]
    pub origins: Vec<String>,
}

impl Default for CorsSpec {
    fn default() -> Self {
        Self { origins: default_origins() }
    }
}

fn default_origins() -> Vec<String> {
    vec!["*".into()]
}

/// What one collector takes at once. Past a limit it answers with the status that says which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// Bytes of a request's body as sent.
    #[serde(default = "default_body_bytes")]
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub body_bytes: u64,
    /// Bytes of a request's body once inflated.
    #[serde(default = "default_inflated_bytes")]
    #[schemars(range(min = 1024, max = 536_870_912))]
    pub inflated_bytes: u64,
    /// Events of one request.
    #[serde(default = "default_batch_events")]
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_events: u32,
    /// Connections.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Events sent to the broker and not yet acknowledged; past it the answer is 503 with `Retry-After`.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1))]
    pub in_flight_events: u32,
    /// How long a client may take to send its headers.
    #[serde(default = "default_header_timeout")]
    pub header_timeout: Span,
    /// How long a client may take to send its body.
    #[serde(default = "default_body_timeout")]
    pub body_timeout: Span,
    /// How long the broker may take to acknowledge; past it the answer is 503.
    #[serde(default = "default_ack_timeout")]
    pub ack_timeout: Span,
    /// Events a second from one write key, or, without keys, from one address. Left out: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub events_per_second_per_key: Option<u32>,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            body_bytes: default_body_bytes(),
            inflated_bytes: default_inflated_bytes(),
            batch_events: default_batch_events(),
            connections: default_connections(),
            in_flight_events: default_in_flight(),
            header_timeout: default_header_timeout(),
            body_timeout: default_body_timeout(),
            ack_timeout: default_ack_timeout(),
            events_per_second_per_key: None,
        }
    }
}

fn default_body_bytes() -> u64 {
    1 << 20
}
fn default_inflated_bytes() -> u64 {
    8 << 20
}
fn default_batch_events() -> u32 {
    5_000
}
fn default_connections() -> u32 {
    10_000
}
fn default_in_flight() -> u32 {
    100_000
}
fn default_header_timeout() -> Span {
    Span::secs(10)
}
fn default_body_timeout() -> Span {
    Span::secs(30)
}
fn default_ack_timeout() -> Span {
    Span::secs(10)
}

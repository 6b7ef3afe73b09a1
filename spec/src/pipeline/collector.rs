use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IngressSpec, SecretRef, Span, StageSpec};

/// The HTTP endpoint that receives events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CollectorSpec {
    /// Authentication of event producers by write keys. Omitted: every client that can reach the collector may send events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,
    /// CORS: the web origins that may send events from a browser.
    #[serde(default)]
    pub cors: CorsSpec,
    /// Trusted reverse proxies, as CIDRs, e.g. `10.0.0.0/8`. For requests from these addresses, the client address is taken
    /// from `X-Forwarded-For` or `Forwarded`; rate limits per address then apply to that client. Omitted: these headers are
    /// ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// Properties that the collector adds to each event from its request. Omitted: none.
    #[serde(default)]
    pub context: ContextSpec,
    /// Limits of one collector replica.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// Exposes the collector through an Ingress. Omitted: the collector is reachable inside the cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// Replicas, scaling and resources of the collector stage.
    #[serde(default)]
    pub stage: StageSpec,
}

/// Authentication by write keys. A client sends a key as `Authorization: Bearer KEY`, `X-Write-Key: KEY`, or, for
/// `navigator.sendBeacon`, as the query parameter `?key=KEY`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthSpec {
    /// The accepted write keys.
    pub keys: Vec<WriteKeySpec>,
}

/// A write key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WriteKeySpec {
    /// Name of the key in logs and metrics: lower-case letters, digits and `-`.
    pub name: String,
    /// Reference to the Secret that holds the value of the key.
    pub secret_ref: SecretRef,
    /// Rate limit of this key, in events per second on average; bursts of one second's worth are allowed. Requests above the
    /// limit are answered with 429. Omitted: `limits.eventsPerSecondPerKey` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub events_per_second: Option<u32>,
}

/// CORS: the web origins that may send events from a browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorsSpec {
    /// Allowed origins, e.g. `https://shop.example`. `*` allows every origin.
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

/// Properties that the collector adds to each event from its request. Of the names of a setting that is on, an event has what the
/// collector found, and nothing else: what a client sends under these names is removed, because it could be forged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContextSpec {
    /// Header with the country of the client, written by a proxy, e.g. `CF-IPCountry` or `CloudFront-Viewer-Country`: the property
    /// `country`, two capital letters (ISO 3166). The header is read only in requests from `trustedProxies`, which are therefore
    /// required. The proxy must write the header itself, or remove it. Omitted: no country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_header: Option<String>,
    /// The class of the user agent: the properties `browser`, `os` and `device` (`desktop`, `mobile`, `tablet` or `appliance`), as far
    /// as they are known; for a crawler, an HTTP library or a browser without a window only `bot: true`.
    #[serde(default)]
    pub user_agent: bool,
    /// The address of the client: the property `ip`. Without it, the collector neither stores nor logs addresses.
    #[serde(default)]
    pub ip_address: bool,
}

/// Limits of one collector replica. A request above a limit is refused with the HTTP status for that limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsSpec {
    /// Maximum size of a request body as sent (compressed), in bytes.
    #[serde(default = "default_body_bytes")]
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub body_bytes: u64,
    /// Maximum size of a request body after decompression, in bytes.
    #[serde(default = "default_inflated_bytes")]
    #[schemars(range(min = 1024, max = 536_870_912))]
    pub inflated_bytes: u64,
    /// Maximum number of events in one request.
    #[serde(default = "default_batch_events")]
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_events: u32,
    /// Maximum number of open connections.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Maximum number of events sent to the broker and not yet acknowledged. Above it, requests are answered with 503 and
    /// `Retry-After`.
    #[serde(default = "default_in_flight")]
    #[schemars(range(min = 1))]
    pub in_flight_events: u32,
    /// Time within which a client must have sent the request headers.
    #[serde(default = "default_header_timeout")]
    pub header_timeout: Span,
    /// Time within which a client must have sent the request body.
    #[serde(default = "default_body_timeout")]
    pub body_timeout: Span,
    /// Time within which the broker must acknowledge the events of a request. After it, the request is answered with 503.
    #[serde(default = "default_ack_timeout")]
    pub ack_timeout: Span,
    /// Rate limit in events per second for each write key or, if `auth` is omitted, for each client address. Omitted: no
    /// limit.
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

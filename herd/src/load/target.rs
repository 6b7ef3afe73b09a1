//! Client of a collector: sends a request and retries it with the same event ids if it may succeed later.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use reqwest::{Client, StatusCode, Url, header};
use serde::Deserialize;

use super::{Batch, Counters};

/// Maximum backoff, even if the collector asks for more by `Retry-After`.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// The `/track` endpoint of a collector.
#[derive(Clone, Debug)]
pub struct Target {
    client: Client,
    url: Url,
    key: Option<String>,
}

/// Why the collector cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TargetError {
    /// Not a URL.
    #[error("`{written}` is not the URL of a collector: {why}")]
    #[diagnostic(help("write a URL, e.g. http://127.0.0.1:8080; a URL without a path gets /track"))]
    Url {
        /// The argument.
        written: String,
        /// The cause.
        why: String,
    },
    /// The connection failed.
    #[error("cannot connect to a collector at {url}: {why}")]
    #[diagnostic(help(
        "check that the pipeline is running; `herd up FILE` starts one and prints the URL of its collector"
    ))]
    Unreachable {
        /// The URL.
        url: Url,
        /// The cause.
        why: String,
    },
    /// The write key is missing or not accepted.
    #[error("{url} responded with {status}: {detail}")]
    #[diagnostic(help("give a write key of this pipeline with --key KEY or in HERD_WRITE_KEY"))]
    Key {
        /// The URL.
        url: Url,
        /// 401 or 403.
        status: u16,
        /// Detail of the response.
        detail: String,
    },
    /// The endpoint is not a collector.
    #[error("{url} responded with {status}: it is not the /track endpoint of a collector")]
    #[diagnostic(help("--to takes the URL of the collector, not of the dashboard"))]
    NotACollector {
        /// The URL.
        url: Url,
        /// Status of the response.
        status: u16,
    },
}

/// Outcome of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// The collector accepted it.
    Accepted,
    /// The collector refused it as invalid.
    Refused,
    /// It was not accepted after the last attempt.
    Failed,
}

impl EventOutcome {
    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Outcome of one request.
#[derive(Clone, Debug)]
pub struct Response {
    all: EventOutcome,
    each: Vec<EventOutcome>,
    /// Message of the refusal or failure.
    pub problem: Option<String>,
}

impl Response {
    /// Outcome of its event `number`.
    #[must_use]
    pub fn outcome(&self, number: usize) -> EventOutcome {
        self.each.get(number).copied().unwrap_or(self.all)
    }
}

/// Response of a collector to a batch, or a problem by RFC 9457.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    items: Vec<ItemReply>,
    title: Option<String>,
    detail: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum ItemReply {
    Accepted,
    Invalid { code: String, detail: String },
    Failed,
}

impl Target {
    /// A client of the collector at this URL; a URL without a path gets `/track`.
    ///
    /// # Errors
    /// [`TargetError::Url`] if it is not a URL.
    pub fn new(written: &str, key: Option<String>, connections: usize) -> Result<Self, TargetError> {
        let wrong = |why: String| TargetError::Url { written: written.to_owned(), why };
        let mut url = Url::parse(written).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`{}` is not http or https", url.scheme())));
        }
        if url.path() == "/" {
            url.set_path("/track");
        }
        let client = herd_stage::http_client()
            .pool_max_idle_per_host(connections.max(1))
            .tcp_nodelay(true)
            .timeout(ATTEMPT_TIMEOUT)
            .user_agent(concat!("herd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client, url, key })
    }

    /// The same collector's endpoint at another path: `/v1/batch` beside `/track`.
    #[must_use]
    pub fn at(&self, path: &str) -> Self {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/');
        let base = base.strip_suffix("/track").unwrap_or(base).to_owned();
        url.set_path(&format!("{base}{path}"));
        Self { client: self.client.clone(), url, key: self.key.clone() }
    }

    /// The URL of the endpoint.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Checks that the endpoint responds.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if not.
    pub async fn check(&self) -> Result<(), TargetError> {
        // The response is 405, which proves that something listens.
        match self.client.get(self.url.clone()).timeout(Duration::from_secs(5)).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(TargetError::Unreachable { url: self.url.clone(), why: root_cause(&error) }),
        }
    }

    /// Sends a batch, with retries.
    pub(super) async fn send(
        &self,
        batch: &Batch,
        attempts: u32,
        counters: &Counters,
    ) -> Result<Response, TargetError> {
        self.post(batch.body().into_bytes(), &[("content-type", "application/json")], attempts, counters)
            .await
    }

    /// Posts a body, with retries.
    ///
    /// # Errors
    /// [`TargetError`] if all further requests would fail as well.
    pub async fn post(
        &self,
        body: Vec<u8>,
        headers: &[(&str, &str)],
        attempts: u32,
        counters: &Counters,
    ) -> Result<Response, TargetError> {
        let body = Bytes::from(body);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut request = self.client.post(self.url.clone()).body(body.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(key) = &self.key {
                request = request.header("x-write-key", key);
            }
            let last = attempt >= attempts.max(1);
            let (problem, retry_after) = match request.send().await {
                Err(error) => {
                    counters.attempted(None, !last);
                    (root_cause(&error), None)
                }
                Ok(response) => {
                    let status = response.status();
                    let delay = retry_after(&response);
                    let again = is_retryable(status);
                    counters.attempted(Some(status.as_u16()), again && !last);
                    let text = response.text().await.unwrap_or_default();
                    if !again {
                        return self.interpret(status, &text);
                    }
                    (format!("{status} {}", detail(&text)), delay)
                }
            };
            if last {
                return Ok(Response { all: EventOutcome::Failed, each: Vec::new(), problem: Some(problem) });
            }
            tokio::time::sleep(backoff(attempt, retry_after)).await;
        }
    }

    fn interpret(&self, status: StatusCode, text: &str) -> Result<Response, TargetError> {
        let url = self.url.clone();
        match status.as_u16() {
            401 | 403 => Err(TargetError::Key { url, status: status.as_u16(), detail: detail(text) }),
            404 | 405 => Err(TargetError::NotACollector { url, status: status.as_u16() }),
            code => {
                let reply: Reply = serde_json::from_str(text).unwrap_or_default();
                let each: Vec<EventOutcome> = reply.items.iter().map(ItemReply::outcome).collect();
                let all = if status.is_success() { EventOutcome::Accepted } else { EventOutcome::Refused };
                let first = reply.items.iter().find(|item| item.outcome() != EventOutcome::Accepted);
                let problem = match (first, all) {
                    (Some(item), _) => Some(format!("{code} {}", item.message())),
                    (None, EventOutcome::Accepted) => None,
                    (None, _) => Some(format!("{status} {}", detail(text))),
                };
                Ok(Response { all, each, problem })
            }
        }
    }
}

impl ItemReply {
    fn outcome(&self) -> EventOutcome {
        match self {
            Self::Accepted => EventOutcome::Accepted,
            Self::Invalid { .. } => EventOutcome::Refused,
            Self::Failed => EventOutcome::Failed,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Invalid { code, detail } => format!("{code}: {detail}"),
            Self::Accepted | Self::Failed => "not acknowledged".to_owned(),
        }
    }
}

/// Whether a retry of the same request may succeed.
fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Exponential backoff from 50 ms, at least `Retry-After`, at most [`MAX_BACKOFF`], plus up to half of it as jitter, so that
/// clients that failed together do not retry together.
fn backoff(attempt: u32, retry_after: Option<Duration>) -> Duration {
    let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(10));
    let least = doubled.max(retry_after.unwrap_or_default()).min(MAX_BACKOFF);
    least + least.mul_f64(0.5 * rand::rng().random::<f64>())
}

/// The detail of a problem response, or the beginning of another response.
fn detail(text: &str) -> String {
    let reply: Reply = serde_json::from_str(text).unwrap_or_default();
    reply.detail.or(reply.title).unwrap_or_else(|| text.chars().take(120).collect())
}

/// The root cause of an error. The message of reqwest itself only says that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn target() -> Target {
        Target::new("http://127.0.0.1:9", None, 1).unwrap()
    }

    #[rstest]
    #[case("http://127.0.0.1:8080", "http://127.0.0.1:8080/track")]
    #[case("http://127.0.0.1:8080/", "http://127.0.0.1:8080/track")]
    #[case("https://events.shop.example/in/track", "https://events.shop.example/in/track")]
    fn adds_the_path_to_a_url_without_one(#[case] written: &str, #[case] url: &str) {
        assert_eq!(Target::new(written, None, 1).unwrap().url().as_str(), url);
    }

    #[rstest]
    #[case("127.0.0.1:8080")]
    #[case("ftp://127.0.0.1")]
    #[case("")]
    fn rejects_an_invalid_url(#[case] written: &str) {
        assert!(matches!(Target::new(written, None, 1), Err(TargetError::Url { .. })));
    }

    #[test]
    fn backoff_grows_honours_retry_after_and_is_bounded() {
        assert!(backoff(1, None) >= Duration::from_millis(100));
        assert!(backoff(1, Some(Duration::from_secs(2))) >= Duration::from_secs(2));
        assert!(backoff(30, Some(Duration::from_secs(3600))) <= MAX_BACKOFF.mul_f64(1.5));
    }

    #[test]
    fn an_unauthorized_response_is_a_permanent_error() {
        let response = target().interpret(StatusCode::UNAUTHORIZED, r#"{"detail":"no key"}"#);
        assert!(matches!(response, Err(TargetError::Key { status: 401, .. })));
    }
}

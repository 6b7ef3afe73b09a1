//! The collector at the other end: one request, tried again with the same event ids where that may help.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use reqwest::{Client, StatusCode, Url, header};
use serde::Deserialize;

use super::{Batch, Tally};

/// The longest pause before another try, whatever the collector asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one try may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(30);

/// A collector's `/track`.
#[derive(Clone, Debug)]
pub struct Target {
    client: Client,
    url: Url,
    key: Option<String>,
}

/// Why a run against this collector makes no sense.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TargetError {
    /// Not an address.
    #[error("`{written}` is not the address of a collector: {why}")]
    #[diagnostic(help("write it like http://127.0.0.1:8080; the path /track is added if you leave it out"))]
    Url {
        /// As it was given.
        written: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody there.
    #[error("no collector answers at {url}: {why}")]
    #[diagnostic(help("is the pipeline running? `herd up FILE` starts one and prints its address"))]
    Unreachable {
        /// Where.
        url: Url,
        /// What the client says.
        why: String,
    },
    /// It wants a key that it was not shown.
    #[error("the collector at {url} answers {status}: {detail}")]
    #[diagnostic(help("give a write key of this pipeline with --key KEY, or in HERD_WRITE_KEY"))]
    Key {
        /// Where.
        url: Url,
        /// 401 or 403.
        status: u16,
        /// What it says.
        detail: String,
    },
    /// Somebody is there, but no collector.
    #[error("{url} answers {status}: this is no collector's /track")]
    #[diagnostic(help("--to takes the collector's address, not the dashboard's"))]
    NotACollector {
        /// Where.
        url: Url,
        /// What it answered.
        status: u16,
    },
}

/// What became of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The collector has it.
    Accepted,
    /// The collector called it invalid.
    Refused,
    /// It never got there.
    Failed,
}

impl Outcome {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Answer {
    all: Outcome,
    each: Vec<Outcome>,
    /// What a refusal or failure said.
    pub problem: Option<String>,
}

impl Answer {
    /// What became of its event `number`.
    #[must_use]
    pub fn outcome(&self, number: usize) -> Outcome {
        self.each.get(number).copied().unwrap_or(self.all)
    }
}

/// What a collector says about a batch, and, in the same members, a problem by RFC 9457.
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
    /// A collector by its address; `/track` is added where there is no path.
    ///
    /// # Errors
    /// [`TargetError::Url`] if it is none.
    pub fn new(written: &str, key: Option<String>, connections: usize) -> Result<Self, TargetError> {
        let wrong = |why: String| TargetError::Url { written: written.to_owned(), why };
        let mut url = Url::parse(written).map_err(|error| wrong(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`{}` is neither http nor https", url.scheme())));
        }
        if url.path() == "/" {
            url.set_path("/track");
        }
        let client = herd_stage::http_client()
            .pool_max_idle_per_host(connections.max(1))
            .tcp_nodelay(true)
            .timeout(TRY_TIMEOUT)
            .user_agent(concat!("herd/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { client, url, key })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether somebody answers at all.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if not.
    pub async fn check(&self) -> Result<(), TargetError> {
        // It answers that events are posted: enough to know that somebody is there.
        match self.client.get(self.url.clone()).timeout(Duration::from_secs(5)).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(TargetError::Unreachable { url: self.url.clone(), why: innermost(&error) }),
        }
    }

    /// Sends a batch; tries again where the answer says that this may help.
    pub(super) async fn send(
        &self,
        batch: &Batch,
        attempts: u32,
        tally: &Tally,
    ) -> Result<Answer, TargetError> {
        self.post(batch.body().into_bytes(), &[("content-type", "application/json")], attempts, tally).await
    }

    /// Posts a body as it is.
    ///
    /// # Errors
    /// [`TargetError`] if no other request would fare better either.
    pub async fn post(
        &self,
        body: Vec<u8>,
        headers: &[(&str, &str)],
        attempts: u32,
        tally: &Tally,
    ) -> Result<Answer, TargetError> {
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
            let (problem, asked) = match request.send().await {
                Err(error) => {
                    tally.tried(None, !last);
                    (innermost(&error), None)
                }
                Ok(response) => {
                    let status = response.status();
                    let asked = retry_after(&response);
                    let again = is_passing(status);
                    tally.tried(Some(status.as_u16()), again && !last);
                    let text = response.text().await.unwrap_or_default();
                    if !again {
                        return self.judge(status, &text);
                    }
                    (format!("{status} {}", detail(&text)), asked)
                }
            };
            if last {
                return Ok(Answer { all: Outcome::Failed, each: Vec::new(), problem: Some(problem) });
            }
            tokio::time::sleep(pause(attempt, asked)).await;
        }
    }

    fn judge(&self, status: StatusCode, text: &str) -> Result<Answer, TargetError> {
        let url = self.url.clone();
        match status.as_u16() {
            401 | 403 => Err(TargetError::Key { url, status: status.as_u16(), detail: detail(text) }),
            404 | 405 => Err(TargetError::NotACollector { url, status: status.as_u16() }),
            code => {
                let reply: Reply = serde_json::from_str(text).unwrap_or_default();
                let each: Vec<Outcome> = reply.items.iter().map(ItemReply::outcome).collect();
                let all = if status.is_success() { Outcome::Accepted } else { Outcome::Refused };
                let first = reply.items.iter().find(|item| item.outcome() != Outcome::Accepted);
                let problem = match (first, all) {
                    (Some(item), _) => Some(format!("{code} {}", item.words())),
                    (None, Outcome::Accepted) => None,
                    (None, _) => Some(format!("{status} {}", detail(text))),
                };
                Ok(Answer { all, each, problem })
            }
        }
    }
}

impl ItemReply {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Accepted => Outcome::Accepted,
            Self::Invalid { .. } => Outcome::Refused,
            Self::Failed => Outcome::Failed,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Invalid { code, detail } => format!("{code}: {detail}"),
            Self::Accepted | Self::Failed => "not acknowledged".to_owned(),
        }
    }
}

/// Whether the same request may succeed later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Doubles from 50 ms, at least what the collector asks for, at most [`LONGEST_PAUSE`], and up to half of it more by chance, so
/// that those who failed together do not come back together.
fn pause(attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(10));
    let least = doubled.max(asked.unwrap_or_default()).min(LONGEST_PAUSE);
    least + least.mul_f64(0.5 * rand::rng().random::<f64>())
}

/// What a problem body says, or the first bit of whatever came.
fn detail(text: &str) -> String {
    let reply: Reply = serde_json::from_str(text).unwrap_or_default();
    reply.detail.or(reply.title).unwrap_or_else(|| text.chars().take(120).collect())
}

/// The last cause of an error: reqwest's own words only say that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
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
    fn the_path_is_added_where_there_is_none(#[case] written: &str, #[case] url: &str) {
        assert_eq!(Target::new(written, None, 1).unwrap().url().as_str(), url);
    }

    #[rstest]
    #[case("127.0.0.1:8080")]
    #[case("ftp://127.0.0.1")]
    #[case("")]
    fn what_is_no_address_is_refused(#[case] written: &str) {
        assert!(matches!(Target::new(written, None, 1), Err(TargetError::Url { .. })));
    }

    #[test]
    fn pauses_grow_keep_to_what_is_asked_and_end_somewhere() {
        assert!(pause(1, None) >= Duration::from_millis(100));
        assert!(pause(1, Some(Duration::from_secs(2))) >= Duration::from_secs(2));
        assert!(pause(30, Some(Duration::from_secs(3600))) <= LONGEST_PAUSE.mul_f64(1.5));
    }

    #[test]
    fn a_wrong_key_ends_the_run() {
        let answer = target().judge(StatusCode::UNAUTHORIZED, r#"{"detail":"no key"}"#);
        assert!(matches!(answer, Err(TargetError::Key { status: 401, .. })));
    }
}

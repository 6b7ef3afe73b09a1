//! One message to one endpoint: signed, tried again where that may help.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use herd_spec::health::Trouble;
use herd_spec::pipeline::WebhookFormat;
use herd_stage::backoff::Pace;
use herd_stage::{Clock, Health, Secret};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{StatusCode, Url, header};
use sha2::Sha256;

use super::summary::Message;
use crate::metrics::{OutcomeLabels, SinkLabels, SinkMetrics};

/// The longest an endpoint may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Why a message was not delivered in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// The endpoint will never take it.
    Refused(String),
    /// It was tried as often as allowed.
    GaveUp(String),
}

impl Undelivered {
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Refused(_) => "webhook-refused",
            Self::GaveUp(_) => "webhook-gave-up",
        }
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::GaveUp(why) => f.write_str(why),
        }
    }
}

/// Posts messages to one endpoint.
pub(crate) struct Post<C> {
    pub(crate) sink: String,
    pub(crate) client: reqwest::Client,
    pub(crate) url: Url,
    pub(crate) format: WebhookFormat,
    pub(crate) signing_key: Option<Secret>,
    pub(crate) timeout: Duration,
    pub(crate) attempts: u32,
    pub(crate) pace: Pace,
    /// For an endpoint that a person must mend.
    pub(crate) mending: Pace,
    /// What was told of the endpoint, until it takes a message.
    pub(crate) told: Mutex<Option<String>>,
    pub(crate) clock: C,
    pub(crate) health: Health,
    pub(crate) condition: &'static str,
    pub(crate) metrics: SinkMetrics,
}

enum Answer {
    Taken,
    /// This message is refused, others may be taken.
    Refused(String),
    /// No message is taken, until somebody changes the address, what goes with it, or the endpoint.
    NeedsMending(String),
    Later {
        why: String,
        after: Option<Duration>,
    },
}

impl<C: Clock> Post<C> {
    /// Delivers one message.
    pub(crate) async fn deliver(&self, message: Message<'_>) -> Result<(), Undelivered> {
        let (mut pauses, mut mending) = (self.pace.pauses(), self.mending.pauses());
        let mut tried = 0;
        loop {
            tried += 1;
            let (why, pause, undelivered): (_, _, fn(String) -> Undelivered) = match self.once(message).await
            {
                Answer::Taken => {
                    self.health.ok(self.condition);
                    *self.told() = None;
                    self.count("delivered");
                    return Ok(());
                }
                Answer::Refused(why) => {
                    self.count("refused");
                    return Err(Undelivered::Refused(why));
                }
                Answer::NeedsMending(why) => (why, mending.next(), Undelivered::Refused),
                Answer::Later { why, after } => {
                    let asked = after.unwrap_or_default().min(LONGEST_WAIT);
                    (why, pauses.next().max(asked), Undelivered::GaveUp)
                }
            };
            let undelivered = undelivered(format!("{why} (attempt {tried} of {})", self.attempts));
            self.health.fail(self.condition, Trouble::WebhookFailing, format!("{} {why}", self.place()));
            self.tell(&why, &undelivered);
            if tried >= self.attempts {
                self.count(if matches!(undelivered, Undelivered::Refused(_)) {
                    "refused"
                } else {
                    "gave-up"
                });
                return Err(undelivered);
            }
            self.metrics.retries.get_or_create(&SinkLabels { sink: self.sink.clone() }).inc();
            tokio::time::sleep(pause).await;
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a person of the endpoint's answer, once for all messages that get the same.
    fn tell(&self, why: &str, undelivered: &Undelivered) {
        let mut told = self.told();
        if told.as_deref() == Some(why) {
            tracing::debug!(sink = self.sink, endpoint = self.place(), why, "still");
            return;
        }
        *told = Some(why.to_owned());
        drop(told);
        match undelivered {
            Undelivered::GaveUp(_) => {
                tracing::warn!(sink = self.sink, endpoint = self.place(), why, "trying again");
            }
            Undelivered::Refused(_) => tracing::error!(
                sink = self.sink,
                endpoint = self.place(),
                why,
                "the endpoint rejects all deliveries: correct its URL or credentials; each alert is attempted {} times with long \
                 pauses, then it goes to the dead-letter topic",
                self.attempts
            ),
        }
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.deliveries.get_or_create(&OutcomeLabels { sink: self.sink.clone(), outcome }).inc();
    }

    /// The endpoint without what may be secret: path, query, password.
    fn place(&self) -> String {
        place(&self.url)
    }

    async fn once(&self, message: Message<'_>) -> Answer {
        let now = self.clock.now();
        let body = message.body(self.format, now);
        let mut request = self
            .client
            .post(self.url.clone())
            .timeout(self.timeout)
            .header(header::CONTENT_TYPE, "application/json")
            // Receivers that see it twice can tell.
            .header("Idempotency-Key", message.id());
        if let Some(key) = &self.signing_key {
            let timestamp = (now.0 / 1000).to_string();
            request = request
                .header("X-Herd-Signature", format!("sha256={}", signature(key, &timestamp, &body)))
                .header("X-Herd-Timestamp", timestamp);
        }
        let response = match request.body(body).send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => {
                let why = format!("did not answer in {} ms", self.timeout.as_millis());
                return Answer::Later { why, after: None };
            }
            Err(error) => {
                // reqwest's own words hold the URL; the causes' do not.
                let why = format!("cannot be reached: {}", causes(&error.without_url()));
                return Answer::Later { why, after: None };
            }
        };
        let status = response.status();
        let why = format!("answered {status}");
        if status.is_success() {
            return Answer::Taken;
        }
        let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        if status.is_server_error() || may_pass.contains(&status) {
            let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            return Answer::Later { why, after: after.and_then(|text| retry_after(text, now.0)) };
        }
        if status.is_redirection() {
            return Answer::NeedsMending(format!(
                "{why}: redirects are not followed; set the address it leads to"
            ));
        }
        let said = beginning(response).await;
        let why = if said.is_empty() { why } else { format!("{why}: {said}") };
        match advice(status) {
            Some(advice) => Answer::NeedsMending(format!("{why}; {advice}")),
            None => Answer::Refused(why),
        }
    }
}

/// What to do where an answer is about the endpoint, not about the message: the next message would get the same.
fn advice(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the endpoint rejects the credentials: correct the token or password in the URL, or the signing key"
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "a proxy requires authentication: correct the settings of the proxy"
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            "there is no webhook at this address: correct its path"
        }
        StatusCode::GONE => "this webhook was removed: make a new one and set its address",
        _ => return None,
    })
}

pub(crate) fn place(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{}://{host}:{port}", url.scheme()),
        (Some(host), None) => format!("{}://{host}", url.scheme()),
        _ => url.scheme().to_owned(),
    }
}

/// The first words of an answer, for whoever looks at the dead letter: at most 300 bytes, on one line.
async fn beginning(mut response: reqwest::Response) -> String {
    let mut said = Vec::new();
    while said.len() < 300 {
        match response.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk),
            _ => break,
        }
    }
    said.truncate(300);
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error and what it came from, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    u64::try_from(date.timestamp().as_millisecond() - now_ms).ok().map(Duration::from_millis)
}

/// `hex(HMAC-SHA256(key, timestamp + "." + body))`
fn signature(key: &Secret, timestamp: &str, body: &[u8]) -> String {
    // HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes()) else { return String::new() };
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("3", Some(3_000))]
    #[case("Tue, 14 Nov 2023 22:13:25 GMT", Some(5_000))]
    #[case("Tue, 14 Nov 2023 22:13:15 GMT", None)]
    #[case("soon", None)]
    fn retry_after_is_seconds_or_a_date(#[case] text: &str, #[case] millis: Option<u64>) {
        assert_eq!(retry_after(text, 1_700_000_000_000), millis.map(Duration::from_millis));
    }

    #[test]
    fn shows_the_address_without_its_secrets() {
        let url = Url::parse("https://ann:pass@hooks.example.com:8443/services/T0/B0/token?key=1").unwrap();
        assert_eq!(place(&url), "https://hooks.example.com:8443");
    }

    #[test]
    fn a_signature_is_what_openssl_computes() {
        // printf 'what do ya want for nothing?.' | openssl dgst -sha256 -hmac Jefe
        assert_eq!(
            signature(&Secret::new("Jefe"), "what do ya want for nothing?", b""),
            "38c6c848e5a2f57451f5095df6370d5c9b83175b99df46422b34960c28def6ae"
        );
    }
}

//! One message to one endpoint: signed; what its answers mean.

use std::time::Duration;

use herd_spec::health::Trouble;
use herd_spec::pipeline::WebhookFormat;
use herd_spec::units::WallTime;
use herd_stage::Secret;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{StatusCode, Url, header};
use sha2::Sha256;

use super::format::body;
use crate::alerts::{Answer, Message, Receiver};

/// Posts messages to one endpoint.
pub(super) struct Post {
    pub(super) client: reqwest::Client,
    pub(super) url: Url,
    pub(super) format: WebhookFormat,
    pub(super) signing_key: Option<Secret>,
    pub(super) timeout: Duration,
}

impl Receiver for Post {
    const KIND: &'static str = "webhook";
    const TROUBLE: Trouble = Trouble::WebhookFailing;
    const ADVICE: &'static str = "correct its URL or credentials";

    fn address(&self) -> String {
        address(&self.url)
    }

    async fn send(&self, message: Message<'_>, now: WallTime) -> Answer {
        let body = body(self.format, message, now);
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

/// Without path, query and password.
fn address(url: &Url) -> String {
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
        assert_eq!(address(&url), "https://hooks.example.com:8443");
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

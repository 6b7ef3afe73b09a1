//! The webhook sink: alerts to an HTTP endpoint, one message when an alert is raised and one when it ends.
//!
//! `sink` takes alerts in and sends them off, `ready` says which ones, `held` keeps those of quiet times, `summary` words them, `deliver` sends the messages of a batch, `post` one message.

mod deliver;
mod format;
mod held;
mod notified;
mod post;
mod ready;
mod sink;
mod summary;

use std::sync::Mutex;

use herd_bus::Bus;
use herd_spec::pipeline::WebhookFormat;
use herd_spec::plan::{WebhookPlan, WebhookUrl};
use herd_spec::wire::Severity;
use herd_stage::backoff::Pace;
use herd_stage::{Stage, SystemClock};
use reqwest::Url;
use tokio::runtime::Handle;

use self::post::Post;
use self::sink::{Setup, WebhookSink};
use crate::conditions::condition;
use crate::metrics::SinkMetrics;
use crate::{SinkContext, SinkError, spawn};

pub(crate) async fn run<B: Bus>(
    context: &SinkContext<'_, B>,
    webhook: &WebhookPlan,
) -> Result<(), SinkError> {
    let SinkContext { plan, sink, bus, stage, member } = context;
    let condition = condition(&sink.name, "webhook");
    let (post, min_severity) = post(&sink.name, webhook, stage, condition, Pace::ENDPOINT)?;
    let setup = Setup {
        sink: sink.name.to_string(),
        group: sink.group.clone(),
        member: (*member).to_owned(),
        topic: plan.topics.alerts.name.clone(),
        dead_letter: plan.topics.dead_letter.name.clone(),
        min_severity,
        quiet: webhook.quiet.clone(),
        stage: stage.clone(),
        runtime: Handle::current(),
    };
    let (bus, shutdown) = (bus.clone(), stage.shutdown.clone());
    let body = move || {
        let mut member = WebhookSink::join(setup, &bus, post)?;
        member.run(&shutdown)?;
        member.finish()
    };
    spawn(&sink.name, "webhook", condition, stage, body)?.await
}

/// What will post, and the least severity it posts.
fn post(
    sink: &str,
    webhook: &WebhookPlan,
    stage: &Stage,
    condition: &'static str,
    pace: Pace,
) -> Result<(Post<SystemClock>, Severity), SinkError> {
    let WebhookPlan { url, format, signing_key, min_severity, timeout, attempts, quiet: _ } = webhook;
    let secret = |reference| {
        stage.secrets.read(reference).map_err(|source| SinkError::Secret { sink: sink.to_owned(), source })
    };
    let of_plan = matches!(url, WebhookUrl::Plain(_));
    let unusable = |why: String| SinkError::Webhook { sink: sink.to_owned(), why, of_plan };
    let written = match url {
        WebhookUrl::Plain(url) => url.clone(),
        WebhookUrl::Secret(reference) => secret(reference)?.reveal().trim().to_owned(),
    };
    // Not even the parser's words: they may quote the secret.
    let url = Url::parse(&written)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| unusable("its address is not of the form https://host/path".into()))?;
    let client = herd_stage::http_client()
        .user_agent(concat!("herd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| unusable(format!("the HTTP client cannot be set up: {error}")))?;
    let post = Post {
        sink: sink.to_owned(),
        client,
        url: alerts_path(url, *format),
        format: *format,
        signing_key: signing_key.as_ref().map(secret).transpose()?,
        timeout: *timeout,
        attempts: (*attempts).max(1),
        pace,
        mending: Pace::MENDING,
        told: Mutex::new(None),
        clock: SystemClock,
        health: stage.health.clone(),
        condition,
        metrics: SinkMetrics::of(stage),
    };
    Ok((post, *min_severity))
}

/// Alertmanager's address may be given with or without the path of its API.
fn alerts_path(mut url: Url, format: WebhookFormat) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    if format == WebhookFormat::Alertmanager && !path.ends_with("/api/v2/alerts") {
        url.set_path(&format!("{path}/api/v2/alerts"));
    }
    url
}

#[cfg(test)]
mod tests;

//! The webhook sink: alerts to an HTTP endpoint.
//!
//! `format` and `summary` word the messages as each receiver expects them, `post` sends one. The rest is what all receivers have in common
//! (`alerts`).

mod format;
mod post;
mod summary;

use herd_bus::Bus;
use herd_spec::pipeline::WebhookFormat;
use herd_spec::plan::{WebhookPlan, WebhookUrl};
use herd_stage::Stage;
use reqwest::Url;

use self::post::Post;
use crate::alerts::{self, Delivery, Receiver};
use crate::{SinkContext, SinkError};

pub(crate) async fn run<B: Bus>(
    context: &SinkContext<'_, B>,
    webhook: &WebhookPlan,
) -> Result<(), SinkError> {
    let post = post(&context.sink.name, webhook, &context.stage)?;
    let WebhookPlan { min_severity, attempts, quiet, .. } = webhook;
    let delivery = Delivery { min_severity: *min_severity, attempts: *attempts, quiet: quiet.clone() };
    alerts::run(context, post, delivery).await
}

/// What will post.
fn post(sink: &str, webhook: &WebhookPlan, stage: &Stage) -> Result<Post, SinkError> {
    let WebhookPlan { url, format, signing_key, timeout, min_severity: _, attempts: _, quiet: _ } = webhook;
    let secret = |reference| {
        stage.secrets.read(reference).map_err(|source| SinkError::Secret { sink: sink.to_owned(), source })
    };
    let of_plan = matches!(url, WebhookUrl::Plain(_));
    let unusable = |why: String| SinkError::Receiver {
        sink: sink.to_owned(),
        kind: Post::KIND,
        trouble: Post::TROUBLE,
        why,
        of_plan,
    };
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
    Ok(Post {
        client,
        url: alerts_path(url, *format),
        format: *format,
        signing_key: signing_key.as_ref().map(secret).transpose()?,
        timeout: *timeout,
    })
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

//! `herd ready`: waits until a readiness probe succeeds. Used by scripts, Jobs and `helm test`.

use std::time::Duration;

use clap::Args;
use herd_spec::pipeline::Span;
use reqwest::{Client, Url};
use tokio::time::{Instant, sleep, timeout_at};

use crate::output::{self, CommandResult};

/// Time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// Timeout of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of characters of a response body that are printed.
const MAX_BODY_CHARS: usize = 500;

/// Waits until a stage or the operator is ready. Exits with 1 if it is not ready in time.
#[derive(Args, Debug)]
pub struct Ready {
    /// URL of the probes, e.g. http://127.0.0.1:9090; a URL without a path gets /readyz
    pub url: String,
    /// Maximum time to wait
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    pub within: Span,
}

/// The endpoint did not become ready.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ReadyError {
    /// Not a URL.
    #[error("`{written}` is not a URL: {why}")]
    #[diagnostic(help("write a URL, e.g. http://127.0.0.1:9090"))]
    Url {
        /// The argument.
        written: String,
        /// The cause.
        why: String,
    },
    /// The time to wait has passed.
    #[error("{url} was not ready within {within}: {why}")]
    #[diagnostic(help("its log says why it is not ready"))]
    Late {
        /// The URL.
        url: Box<Url>,
        /// The time waited.
        within: Span,
        /// Result of the last probe.
        why: String,
    },
}

impl Ready {
    /// Runs it.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub async fn run(self) -> CommandResult {
        let url = address(&self.url)?;
        let client = herd_stage::http_client()
            .timeout(PROBE_TIMEOUT)
            .build()
            .map_err(|error| ReadyError::Url { written: self.url.clone(), why: error.to_string() })?;
        let deadline = Instant::now() + self.within.0;
        let mut why = "no response yet".to_owned();
        loop {
            match timeout_at(deadline, probe(&client, &url)).await {
                Ok(Ok(())) => return Ok(output::line(&format!("{url} is ready"))?),
                Ok(Err(error)) => why = error,
                Err(_) => {}
            }
            if Instant::now() + PROBE_INTERVAL >= deadline {
                return Err(ReadyError::Late { url: Box::new(url), within: self.within, why }.into());
            }
            sleep(PROBE_INTERVAL).await;
        }
    }
}

fn address(written: &str) -> Result<Url, ReadyError> {
    let wrong = |why: String| ReadyError::Url { written: written.to_owned(), why };
    let mut url = Url::parse(written).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("`{}` is not http or https", url.scheme())));
    }
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    Ok(url)
}

/// Probes once; the error says why the endpoint is not ready.
async fn probe(client: &Client, url: &Url) -> Result<(), String> {
    let response = match client.get(url.clone()).send().await {
        Ok(response) => response,
        Err(error) if error.is_timeout() => return Err("no response".to_owned()),
        Err(_) => return Err("connection failed".to_owned()),
    };
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let body: String =
        response.text().await.unwrap_or_default().trim().chars().take(MAX_BODY_CHARS).collect();
    Err(format!("response {status}: {body}"))
}

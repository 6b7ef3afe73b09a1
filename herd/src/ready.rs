//! `herd ready`: waits until whoever serves at an address can do its work. Scripts, Jobs and `helm test` start with it.

use std::time::Duration;

use clap::Args;
use herd_spec::pipeline::Span;
use reqwest::{Client, Url};
use tokio::time::{Instant, sleep, timeout_at};

use crate::output::{self, Outcome};

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(250);
/// How long one answer may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// Of what the other side says, so many characters are shown.
const LONGEST_ANSWER: usize = 500;

/// Waits until a stage or the operator is ready. Exits with 1 if it does not become so in time.
#[derive(Args, Debug)]
pub struct Ready {
    /// The address of its probes, e.g. http://127.0.0.1:9090; the path /readyz is added if you leave it out
    pub url: String,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub within: Span,
}

/// It did not become ready.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ReadyError {
    /// Not an address.
    #[error("`{written}` is no address: {why}")]
    #[diagnostic(help("write it like http://127.0.0.1:9090"))]
    Url {
        /// As it was given.
        written: String,
        /// What is wrong with it.
        why: String,
    },
    /// Time is up.
    #[error("{url} is not ready within {within}: {why}")]
    #[diagnostic(help("its log says what it waits for"))]
    Late {
        /// Where.
        url: Box<Url>,
        /// How long we waited.
        within: Span,
        /// The last answer.
        why: String,
    },
}

impl Ready {
    /// Runs it.
    ///
    /// # Errors
    /// [`ReadyError`].
    pub async fn run(self) -> Outcome {
        let url = address(&self.url)?;
        let client = herd_stage::http_client()
            .timeout(TRY_TIMEOUT)
            .build()
            .map_err(|error| ReadyError::Url { written: self.url.clone(), why: error.to_string() })?;
        let deadline = Instant::now() + self.within.0;
        let mut why = "no answer yet".to_owned();
        loop {
            match timeout_at(deadline, ask(&client, &url)).await {
                Ok(Ok(())) => return Ok(output::line(&format!("{url} is ready"))?),
                Ok(Err(answer)) => why = answer,
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                return Err(ReadyError::Late { url: Box::new(url), within: self.within, why }.into());
            }
            sleep(PAUSE).await;
        }
    }
}

fn address(written: &str) -> Result<Url, ReadyError> {
    let wrong = |why: String| ReadyError::Url { written: written.to_owned(), why };
    let mut url = Url::parse(written).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("`{}` is neither http nor https", url.scheme())));
    }
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    Ok(url)
}

/// What it says, where that is not yes.
async fn ask(client: &Client, url: &Url) -> Result<(), String> {
    let answer = match client.get(url.clone()).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_timeout() => return Err("no answer".to_owned()),
        Err(_) => return Err("nobody listens there".to_owned()),
    };
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said: String = answer.text().await.unwrap_or_default().trim().chars().take(LONGEST_ANSWER).collect();
    Err(format!("it answers {status}: {said}"))
}

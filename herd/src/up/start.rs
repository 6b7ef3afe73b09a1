//! The beginning and the end of `herd up`: what must be there, what is told, when everything is ready and when it is quiet.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use herd_bus::{Bus, BusError};
use herd_spec::health::HealthReport;
use herd_spec::pipeline::Span;
use herd_spec::plan::Plan;
use herd_stage::{SecretError, Secrets};

use super::demo::Demo;
use super::stages::Addresses;
use super::supervise::Unrunnable;

/// Why a pipeline does not start.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum UpError {
    /// No signals.
    #[error("Ctrl-C cannot be caught: {0}")]
    Signals(std::io::Error),
    /// Secrets are missing.
    #[error("{} secret{} cannot be read", missing.len(), if missing.len() == 1 { "" } else { "s" })]
    #[diagnostic(help("{}", missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))]
    Secrets {
        /// Which.
        missing: Vec<SecretError>,
    },
    /// The data folder cannot be made.
    #[error("the data folder {} cannot be made: {source}", path.display())]
    #[diagnostic(help("choose another with --data DIR"))]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The embedded broker does not open.
    #[error("the embedded broker does not start: {0}")]
    #[diagnostic(help(
        "is another `herd up` running on this data folder? Stop it, or choose another folder with --data DIR"
    ))]
    Bus(String),
    /// Kafka is not to be had.
    #[error("Kafka cannot be used: {0}")]
    #[diagnostic(help(
        "check spec.kafka.bootstrapServers and that a broker runs there; without spec.kafka the embedded broker is used"
    ))]
    Kafka(String),
    /// A stage cannot run with this file.
    #[error(transparent)]
    #[diagnostic(help("correct the pipeline file"))]
    Stage(#[from] Unrunnable),
}

/// Whether all Secrets are there.
///
/// # Errors
/// [`UpError::Secrets`] with all that are not.
pub fn check_secrets(plan: &Plan, secrets: &Secrets) -> Result<(), UpError> {
    let missing = herd_workers::secrets::missing(plan, secrets);
    if missing.is_empty() { Ok(()) } else { Err(UpError::Secrets { missing }) }
}

/// Makes the topics that are missing; how many events are there from before.
///
/// # Errors
/// If the bus refuses.
pub async fn prepare<B: Bus>(bus: &B, plan: &Plan) -> Result<u64, UpError> {
    let (bus, topics, group) = (bus.clone(), plan.topics.clone(), plan.groups.fold.clone());
    let kafka = plan.kafka.is_some();
    let prepared = tokio::task::spawn_blocking(move || -> Result<u64, BusError> {
        bus.ensure_topics(&topics.all())?;
        let progress = bus.progress(&topics.events.name, &group)?;
        Ok(progress.iter().map(|one| u64::try_from(one.end.0 - one.start.0).unwrap_or(0)).sum())
    })
    .await;
    let wrong = |why: String| if kafka { UpError::Kafka(why) } else { UpError::Bus(why) };
    match prepared {
        Ok(Ok(events)) => Ok(events),
        Ok(Err(error)) => Err(wrong(error.to_string())),
        Err(broken) => Err(wrong(broken.to_string())),
    }
}

/// Waits until the collector and the api have begun; what they still wait for after `within`.
pub async fn ready(addresses: &Addresses, within: Duration) -> Option<String> {
    let client = match herd_stage::http_client().build() {
        Ok(client) => client,
        Err(error) => return Some(error.to_string()),
    };
    let deadline = Instant::now() + within;
    loop {
        // Before both answer, nobody has said yet what it waits for.
        let why = match answer(&client, addresses).await {
            Ok(report) if report.ready => return None,
            Ok(report) => report.starting.into_values().collect::<Vec<_>>().join("; "),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Some(why);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the stages say of their health, once both that serve clients answer.
async fn answer(client: &reqwest::Client, addresses: &Addresses) -> Result<HealthReport, reqwest::Error> {
    let get = |url: String| client.get(url).timeout(Duration::from_secs(2)).send();
    get(addresses.collector_url()).await?;
    get(addresses.api_url()).await?;
    get(format!("{}/readyz", addresses.ops_url())).await?.json().await
}

/// Waits until fold and judge have read all that is there, so that the counts are complete; at most `within`.
pub async fn settle<B: Bus>(bus: &B, plan: &Plan, within: Duration) {
    if plan.paused || plan.detection.replicas == 0 {
        return;
    }
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        let bus = bus.clone();
        let pairs = [
            (plan.topics.events.name.clone(), plan.groups.fold.clone()),
            (plan.topics.parts.name.clone(), plan.groups.judge.clone()),
        ];
        let lag = tokio::task::spawn_blocking(move || {
            pairs.iter().try_fold(0, |sum, (topic, group)| {
                bus.progress(topic, group)
                    .map(|all| sum + all.iter().map(herd_bus::Progress::lag).sum::<u64>())
            })
        });
        // Watermarks keep coming while nothing happens: a few records of `parts` always wait.
        if let Ok(Ok(lag)) = lag.await
            && lag <= u64::from(plan.topics.events.partitions) * u64::from(plan.topics.parts.partitions)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The WebSocket's address, with the token where one is asked for.
#[must_use]
pub fn socket_url(plan: &Plan, secrets: &Secrets, addresses: &Addresses) -> String {
    let token = plan.api.token.as_ref().and_then(|reference| secrets.read(reference).ok());
    match token {
        Some(token) => format!("{}?token={}", addresses.socket_url(), token.reveal()),
        None => addresses.socket_url(),
    }
}

/// What is told when everything runs.
#[must_use]
pub fn text(
    plan: &Plan,
    addresses: &Addresses,
    data: &Path,
    before: u64,
    demo: Option<&Demo>,
    length: Option<Span>,
) -> String {
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(text, "\n{} is up", plan.pipeline);
    let token = if plan.api.token.is_some() { "  (add ?token=… to it)" } else { "" };
    let _ = writeln!(text, "  dashboard  {}{token}", addresses.api_url());
    let _ = writeln!(text, "  collector  {}/track", addresses.collector_url());
    let _ = writeln!(text, "  metrics    {}/metrics", addresses.ops_url());
    let kept = match &plan.kafka {
        Some(kafka) => format!("Kafka at {}, {}", kafka.bootstrap_servers.join(","), data.display()),
        None => data.display().to_string(),
    };
    let found = if before > 0 { format!(", {before} events from before") } else { String::new() };
    let _ = writeln!(text, "  data       {kept}{found}");
    if plan.paused {
        let _ = writeln!(
            text,
            "  paused     events are kept; nothing counts or stores them until `paused` is false"
        );
    }
    if let Some(demo) = demo {
        let _ = writeln!(text, "  load       {}", demo.words());
    }
    let _ = writeln!(text, "\nSend an event:");
    let key = if plan.collector.keys.is_empty() { "" } else { "-H 'X-Write-Key: …' " };
    let _ = writeln!(
        text,
        "  curl {}/track {key}-H 'Content-Type: application/json' -d '{}'",
        addresses.collector_url(),
        sample(plan)
    );
    let _ = match length {
        Some(length) => write!(text, "\nEnds after {length}, or with Ctrl-C."),
        None => write!(text, "\nCtrl-C stops it; the next start goes on from there."),
    };
    text
}

/// An event that this pipeline accepts, in its own words.
fn sample(plan: &Plan) -> String {
    let mapping = &plan.events.mapping;
    let event_type = plan.events.types.first().map_or("view", String::as_str);
    let mut event = serde_json::Map::new();
    for (paths, value) in
        [(&mapping.event_type, event_type), (&mapping.user, "me"), (&mapping.item, "product-1")]
    {
        let Some((last, outer)) = paths.first().and_then(|path| path.split_last()) else { continue };
        let mut place = &mut event;
        for name in outer {
            let inner = place
                .entry(name.clone())
                .or_insert_with(|| serde_json::Value::Object(serde_json::Map::new()));
            let serde_json::Value::Object(inner) = inner else { return String::new() };
            place = inner;
        }
        place.insert(last.clone(), value.into());
    }
    serde_json::Value::Object(event).to_string()
}

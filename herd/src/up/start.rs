//! Start and end of `herd up`: prerequisites, readiness, the start message, and draining.

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
    /// The signal handlers cannot be installed.
    #[error("cannot install the signal handlers: {0}")]
    Signals(std::io::Error),
    /// Secrets are missing.
    #[error("cannot read {} Secret{}", missing.len(), if missing.len() == 1 { "" } else { "s" })]
    #[diagnostic(help("{}", missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))]
    Secrets {
        /// The missing Secrets.
        missing: Vec<SecretError>,
    },
    /// The data directory cannot be created.
    #[error("cannot create the data directory {}: {source}", path.display())]
    #[diagnostic(help("choose another directory with --data DIR"))]
    Data {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The embedded broker cannot be opened.
    #[error("cannot start the embedded broker: {0}")]
    #[diagnostic(help(
        "if another `herd up` is running on this data directory, stop it or choose another directory with --data DIR"
    ))]
    Bus(String),
    /// Kafka cannot be used.
    #[error("cannot use Kafka: {0}")]
    #[diagnostic(help(
        "check spec.kafka.bootstrapServers and that the brokers are running; without spec.kafka the embedded broker is used"
    ))]
    Kafka(String),
    /// A stage cannot run with this file.
    #[error(transparent)]
    #[diagnostic(help("correct the pipeline file"))]
    Stage(#[from] Unrunnable),
}

/// Checks that all Secrets can be read.
///
/// # Errors
/// [`UpError::Secrets`] with all missing Secrets.
pub fn check_secrets(plan: &Plan, secrets: &Secrets) -> Result<(), UpError> {
    let missing = herd_workers::secrets::missing(plan, secrets);
    if missing.is_empty() { Ok(()) } else { Err(UpError::Secrets { missing }) }
}

/// Creates missing topics and returns the number of events from earlier runs.
///
/// # Errors
/// If the bus fails.
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

/// Waits until all stages are ready, at most `within`; then returns why they are not.
pub async fn ready(addresses: &Addresses, within: Duration) -> Option<String> {
    let client = match herd_stage::http_client().build() {
        Ok(client) => client,
        Err(error) => return Some(error.to_string()),
    };
    let deadline = Instant::now() + within;
    loop {
        // Until both listeners respond, the health report is incomplete.
        let why = match health(&client, addresses).await {
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

/// The health of the stages, once collector and api respond.
async fn health(client: &reqwest::Client, addresses: &Addresses) -> Result<HealthReport, reqwest::Error> {
    let get = |url: String| client.get(url).timeout(Duration::from_secs(2)).send();
    get(addresses.collector_url()).await?;
    get(addresses.api_url()).await?;
    get(format!("{}/readyz", addresses.ops_url())).await?.json().await
}

/// Waits until fold and judge have read all records, so that the counts are complete; at most `within`.
pub async fn drain<B: Bus>(bus: &B, plan: &Plan, within: Duration) {
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
        // Watermarks are written even without events, so the lag of `parts` is never exactly 0.
        if let Ok(Ok(lag)) = lag.await
            && lag <= u64::from(plan.topics.events.partitions) * u64::from(plan.topics.parts.partitions)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// URL of the WebSocket, with the token if one is required.
#[must_use]
pub fn socket_url(plan: &Plan, secrets: &Secrets, addresses: &Addresses) -> String {
    let token = plan.api.token.as_ref().and_then(|reference| secrets.read(reference).ok());
    match token {
        Some(token) => format!("{}?token={}", addresses.socket_url(), token.reveal()),
        None => addresses.socket_url(),
    }
}

/// The start message.
#[must_use]
pub fn message(
    plan: &Plan,
    addresses: &Addresses,
    data: &Path,
    before: u64,
    demo: Option<&Demo>,
    length: Option<Span>,
) -> String {
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(text, "\n{} is running", plan.pipeline);
    let token = if plan.api.token.is_some() { "  (append ?token=…)" } else { "" };
    let _ = writeln!(text, "  dashboard  {}{token}", addresses.api_url());
    let _ = writeln!(text, "  collector  {}/track", addresses.collector_url());
    let _ = writeln!(text, "  metrics    {}/metrics", addresses.ops_url());
    let kept = match &plan.kafka {
        Some(kafka) => format!("Kafka at {}, {}", kafka.bootstrap_servers.join(","), data.display()),
        None => data.display().to_string(),
    };
    let found = if before > 0 { format!(", {before} events from earlier runs") } else { String::new() };
    let _ = writeln!(text, "  data       {kept}{found}");
    if plan.paused {
        let _ = writeln!(
            text,
            "  paused     events are accepted, but not counted or stored until `paused` is false"
        );
    }
    if let Some(demo) = demo {
        let _ = writeln!(text, "  load       {}", demo.description());
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
        Some(length) => write!(text, "\nStops after {length} or on Ctrl-C."),
        None => write!(text, "\nCtrl-C stops it; the next start continues from there."),
    };
    text
}

/// An example event that this pipeline accepts.
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

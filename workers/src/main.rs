//! The worker image: one binary, a subcommand for each stage. Runs until SIGTERM or SIGINT, finishes its work, and exits with 0;
//! with 1 and a reason if it could not go on. Whoever runs it starts it again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use herd_bus::Bus;
use herd_bus::kafka::KafkaBus;
use herd_spec::plan::Plan;
use herd_stage::{Secrets, Stage};
use herd_workers::{kafka, ops, signal::StopSignals, store};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs one stage of a pipeline.
#[derive(Parser)]
#[command(name = "herd-worker", version, about)]
struct Worker {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Takes events in over HTTP
    Collector(Surroundings),
    /// Counts events and watches the counts
    Detector(Surroundings),
    /// Writes to a store or receiver
    Sink {
        /// Which of the plan's sinks
        #[arg(long)]
        name: String,
        #[command(flatten)]
        surroundings: Surroundings,
    },
    /// Serves REST, WebSocket and the dashboard
    Api {
        /// The collector's address, for simulated bursts
        #[arg(long, value_name = "URL", env = "HERD_COLLECTOR_URL")]
        collector: Option<String>,
        #[command(flatten)]
        surroundings: Surroundings,
    },
}

#[derive(Args)]
struct Surroundings {
    /// The plan, as JSON (`herd plan FILE --json`)
    #[arg(long, value_name = "FILE", env = "HERD_PLAN")]
    plan: PathBuf,
    /// Where to serve: the stage's own HTTP, and /healthz, /readyz, /metrics
    #[arg(long, value_name = "ADDRESS", env = "HERD_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where Secrets are mounted, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR", env = "HERD_SECRETS")]
    secrets: Option<PathBuf>,
    /// Where files of its own may go
    #[arg(long, value_name = "DIR", env = "HERD_DATA", default_value = "/var/lib/herd")]
    data: PathBuf,
    /// What this member is called in its consumer groups; the same after a restart [default: the host's name]
    #[arg(long, value_name = "NAME", env = "HERD_MEMBER")]
    member: Option<String>,
    /// Creates the topics that are missing, where no operator does
    #[arg(long)]
    create_topics: bool,
    /// How logs look
    #[arg(long, value_enum, env = "HERD_LOG_FORMAT", default_value_t)]
    log: LogFormat,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum LogFormat {
    /// One JSON object a line
    #[default]
    Json,
    /// For people
    Pretty,
}

fn main() -> ExitCode {
    let worker = Worker::parse();
    let surroundings = match &worker.role {
        Role::Collector(surroundings) | Role::Detector(surroundings) => surroundings,
        Role::Sink { surroundings, .. } | Role::Api { surroundings, .. } => surroundings,
    };
    start_log(surroundings.log);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
        .and_then(|runtime| runtime.block_on(run(worker)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("stopped: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

/// To standard error; `RUST_LOG` decides what is said.
fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Pretty => log.init(),
    }
}

async fn run(worker: Worker) -> anyhow::Result<()> {
    let mut signals = StopSignals::listen().context("signals cannot be caught")?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        signals.next().await;
        info!("asked to stop: finishing");
        stop.cancel();
    });
    match worker.role {
        Role::Collector(surroundings) => {
            let Ready { plan, bus, stage, listener, .. } = surroundings.ready(shutdown).await?;
            Ok(herd_collector::run(plan, bus, stage, listener).await?)
        }
        Role::Detector(surroundings) => {
            let Ready { plan, bus, stage, listener, member, .. } = surroundings.ready(shutdown).await?;
            let paused = plan.paused;
            let work = herd_detector::run(plan, bus.clone(), stage.part(), member);
            beside_ops(stage, listener, bus, paused, work).await
        }
        Role::Sink { name, surroundings } => {
            let Ready { plan, bus, stage, listener, member, data } = surroundings.ready(shutdown).await?;
            let Some(sink) = plan.sinks.iter().find(|sink| sink.name == name).cloned() else {
                let names: Vec<&str> = plan.sinks.iter().map(|sink| sink.name.as_str()).collect();
                bail!("the plan has no sink `{name}`; its sinks are: {}", names.join(", "));
            };
            let paused = plan.paused;
            let work = herd_sink::run(plan, sink, bus.clone(), stage.part(), data, member);
            beside_ops(stage, listener, bus, paused, work).await
        }
        Role::Api { collector, surroundings } => {
            let Ready { plan, bus, stage, listener, data, .. } = surroundings.ready(shutdown).await?;
            let store = store::open(&plan, &stage.secrets, &data).await?;
            Ok(herd_api::run(plan, bus, store, stage, listener, collector).await?)
        }
    }
}

/// Runs a stage that has no HTTP of its own, with the operational endpoints beside it. A paused one only stands by.
async fn beside_ops<E: std::error::Error + Send + Sync + 'static>(
    stage: Stage,
    listener: TcpListener,
    bus: KafkaBus,
    paused: bool,
    work: impl Future<Output = Result<(), E>>,
) -> anyhow::Result<()> {
    let ended = CancellationToken::new();
    let served = tokio::spawn(ops::serve(stage.clone(), listener, ended.clone()));
    let watched = tokio::spawn(ops::watch_broker(bus, stage.health.clone()));
    let outcome = if paused {
        info!("the pipeline is paused: standing by");
        stage.shutdown.cancelled().await;
        Ok(())
    } else {
        work.await
    };
    ended.cancel();
    watched.abort();
    served
        .await
        .context("the operational endpoints stopped")?
        .context("the operational endpoints stopped")?;
    Ok(outcome?)
}

/// All that a stage needs.
struct Ready {
    plan: Arc<Plan>,
    bus: KafkaBus,
    stage: Stage,
    listener: TcpListener,
    member: String,
    data: PathBuf,
}

impl Surroundings {
    async fn ready(self, shutdown: CancellationToken) -> anyhow::Result<Ready> {
        let plan = read_plan(&self.plan)?;
        let secrets = Secrets::new(self.secrets.as_deref());
        let member = match self.member {
            Some(member) => member,
            None => host_name()?,
        };
        let Some(kafka) = &plan.kafka else {
            bail!(
                "the plan has no Kafka, and stages in processes of their own share nothing else: use `herd up`, or give spec.kafka"
            );
        };
        let bus = kafka::connect(kafka, &secrets, &member)?;
        if self.create_topics {
            let (bus, topics) = (bus.clone(), plan.topics.clone());
            tokio::task::spawn_blocking(move || bus.ensure_topics(&topics.all()))
                .await
                .context("topics cannot be created")?
                .context("topics cannot be created")?;
        }
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}: is another process there?", self.listen))?;
        info!(pipeline = plan.pipeline, member, listen = %listener.local_addr()?, "starting");
        let stage = Stage::new(shutdown, secrets);
        Ok(Ready { plan: Arc::new(plan), bus, stage, listener, member, data: self.data })
    }
}

fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the plan {} cannot be read", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no plan; `herd plan FILE --json` writes one", path.display()))
}

fn host_name() -> anyhow::Result<String> {
    if let Ok(name) = std::env::var("HOSTNAME") {
        return Ok(name);
    }
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        bail!("this host has no name: give one with --member");
    }
    Ok(name.to_owned())
}

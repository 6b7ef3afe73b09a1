//! The worker image: one binary, a subcommand for each stage. Runs until SIGTERM or SIGINT, finishes its work, and exits with 0;
//! with 1 and a reason if it could not go on. Whoever runs it starts it again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use herd_bus::kafka::KafkaBus;
use herd_spec::pipeline::Span;
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
    Collector {
        #[command(flatten)]
        door: Door,
        #[command(flatten)]
        surroundings: Surroundings,
    },
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
        door: Door,
        #[command(flatten)]
        surroundings: Surroundings,
    },
}

/// What a stage that serves clients has besides.
#[derive(Args)]
struct Door {
    /// Where clients are served
    #[arg(long, value_name = "ADDRESS", env = "HERD_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// How long requests are still answered once the stage is asked to stop: as long as routers need to learn that it leaves
    #[arg(long, value_name = "TIME", env = "HERD_DRAIN", default_value = "0s")]
    drain: Span,
}

#[derive(Args)]
struct Surroundings {
    /// The plan, as JSON (`herd plan FILE --json`)
    #[arg(long, value_name = "FILE", env = "HERD_PLAN")]
    plan: PathBuf,
    /// Where to serve /healthz, /readyz, /statusz and /metrics
    #[arg(long, value_name = "ADDRESS", env = "HERD_OPS_LISTEN", default_value = "0.0.0.0:9090")]
    ops_listen: SocketAddr,
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
        Role::Detector(surroundings) => surroundings,
        Role::Collector { surroundings, .. }
        | Role::Sink { surroundings, .. }
        | Role::Api { surroundings, .. } => surroundings,
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
            leave_word(&format!("{problem:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Where Kubernetes reads why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Leaves why this process ends where Kubernetes shows it. Elsewhere there is no such file, and none is made.
fn leave_word(why: &str) {
    use std::io::Write;
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(TERMINATION_LOG) {
        // The log has it too.
        let _ = file.write_all(why.as_bytes());
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
    let signals = StopSignals::listen().context("signals cannot be caught")?;
    match worker.role {
        Role::Collector { door, surroundings } => {
            let listener = listen(door.listen).await?;
            let ready = surroundings.ready(signals, door.drain)?;
            let Ready { plan, bus, stage, .. } = ready.clone();
            let work = async { Ok(herd_collector::run(plan, bus, stage.part(), listener).await?) };
            ready.run(work).await
        }
        Role::Detector(surroundings) => {
            let ready = surroundings.ready(signals, Span::secs(0))?;
            let Ready { plan, bus, stage, member, .. } = ready.clone();
            let work = async { Ok(herd_detector::run(plan, bus, stage.part(), member).await?) };
            ready.run_once_topics_are_there(work).await
        }
        Role::Sink { name, surroundings } => {
            let ready = surroundings.ready(signals, Span::secs(0))?;
            let Ready { plan, bus, stage, member, data, .. } = ready.clone();
            let Some(sink) = plan.sinks.iter().find(|sink| sink.name == name).cloned() else {
                let names: Vec<&str> = plan.sinks.iter().map(|sink| sink.name.as_str()).collect();
                bail!("the plan has no sink `{name}`; its sinks are: {}", names.join(", "));
            };
            let work = async { Ok(herd_sink::run(plan, sink, bus, stage.part(), data, member).await?) };
            ready.run_once_topics_are_there(work).await
        }
        Role::Api { collector, door, surroundings } => {
            let listener = listen(door.listen).await?;
            let ready = surroundings.ready(signals, door.drain)?;
            let Ready { plan, bus, stage, data, .. } = ready.clone();
            let store = store::of_api(&plan, &stage.secrets, &data)?;
            let work =
                async { Ok(herd_api::run(plan, bus, store, stage.part(), listener, collector).await?) };
            ready.run(work).await
        }
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: is another process there?"))
}

/// All that a stage needs.
#[derive(Clone)]
struct Ready {
    plan: Arc<Plan>,
    bus: KafkaBus,
    stage: Stage,
    member: String,
    data: PathBuf,
    ops_listen: SocketAddr,
    create_topics: bool,
}

impl Surroundings {
    /// From the arguments to what a stage needs. A signal ends the stage, `drain` after it has come.
    fn ready(self, mut signals: StopSignals, drain: Span) -> anyhow::Result<Ready> {
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
        let stage = Stage::new(CancellationToken::new(), secrets);
        let ended = stage.clone();
        tokio::spawn(async move {
            signals.next().await;
            info!("asked to stop: finishing");
            ended.end_after(drain.0).await;
        });
        info!(pipeline = %plan.pipeline, member, ops = %self.ops_listen, "starting");
        let (data, ops_listen, create_topics) = (self.data, self.ops_listen, self.create_topics);
        Ok(Ready { plan: Arc::new(plan), bus, stage, member, data, ops_listen, create_topics })
    }
}

impl Ready {
    /// Runs a stage with the operational endpoints beside it.
    async fn run(self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let listener = listen(self.ops_listen).await?;
        // The endpoints answer longer than the stage itself, which may have to finish.
        let ended = CancellationToken::new();
        let served = tokio::spawn(ops::serve(self.stage.clone(), listener, ended.clone()));
        let creating = self.create_topics.then(|| {
            let topics = self.plan.topics.all().into_iter().cloned().collect();
            self.stage.health.starting(ops::TOPICS, "the topics of the pipeline are being created");
            tokio::spawn(ops::create_topics(self.bus.clone(), topics, self.stage.health.clone()))
        });
        let outcome = work.await;
        if let Some(creating) = creating {
            creating.abort();
        }
        ended.cancel();
        served
            .await
            .context("the operational endpoints stopped")?
            .context("the operational endpoints stopped")?;
        outcome
    }

    /// The same for a stage that serves nobody: it waits for the broker and the topics, and says so. A paused one only stands by.
    async fn run_once_topics_are_there(
        self,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let (plan, bus, stage) = (Arc::clone(&self.plan), self.bus.clone(), self.stage.clone());
        self.run(async move {
            if plan.paused {
                info!("the pipeline is paused: standing by");
                stage.shutdown.cancelled().await;
                return Ok(());
            }
            let topics: Vec<String> = plan.topics.all().iter().map(|topic| topic.name.clone()).collect();
            tokio::select! {
                () = ops::await_topics(bus.clone(), topics, &stage.health) => {}
                () = stage.shutdown.cancelled() => return Ok(()),
            }
            let watched = tokio::spawn(ops::watch_broker(bus, stage.health.clone()));
            let outcome = work.await;
            watched.abort();
            outcome
        })
        .await
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

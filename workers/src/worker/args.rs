//! The arguments of the worker: which stage, and what it needs.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use herd_spec::pipeline::Span;

/// Runs one stage of a pipeline.
#[derive(Parser)]
#[command(name = "herd-worker", version, about)]
pub struct Worker {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Takes events in over HTTP
    Collector {
        #[command(flatten)]
        serve: ServeOptions,
        #[command(flatten)]
        stage: StageOptions,
    },
    /// Runs the detector stage: aggregates events into windows and raises alerts
    Detector(StageOptions),
    /// Writes to a store or receiver
    Sink {
        /// Which of the plan's sinks
        #[arg(long)]
        name: String,
        #[command(flatten)]
        stage: StageOptions,
    },
    /// Serves REST, WebSocket and the dashboard
    Api {
        /// The collector's address, for simulated bursts
        #[arg(long, value_name = "URL", env = "HERD_COLLECTOR_URL")]
        collector: Option<String>,
        #[command(flatten)]
        serve: ServeOptions,
        #[command(flatten)]
        stage: StageOptions,
    },
}

/// What a stage that serves clients has besides.
#[derive(Args)]
pub(super) struct ServeOptions {
    /// Where clients are served
    #[arg(long, value_name = "ADDRESS", env = "HERD_LISTEN", default_value = "0.0.0.0:8080")]
    pub(super) listen: SocketAddr,
    /// Time after SIGTERM during which requests are still answered, until routers stop sending them
    #[arg(long, value_name = "TIME", env = "HERD_DRAIN", default_value = "0s")]
    pub(super) drain: Span,
}

#[derive(Args)]
pub(super) struct StageOptions {
    /// The plan, as JSON (`herd plan FILE --json`)
    #[arg(long, value_name = "FILE", env = "HERD_PLAN")]
    pub(super) plan: PathBuf,
    /// Where to serve /healthz, /readyz, /statusz and /metrics
    #[arg(long, value_name = "ADDRESS", env = "HERD_OPS_LISTEN", default_value = "0.0.0.0:9090")]
    pub(super) ops_listen: SocketAddr,
    /// Where Secrets are mounted, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR", env = "HERD_SECRETS")]
    pub(super) secrets: Option<PathBuf>,
    /// Where files of its own may go
    #[arg(long, value_name = "DIR", env = "HERD_DATA", default_value = "/var/lib/herd")]
    pub(super) data: PathBuf,
    /// What this member is called in its consumer groups; the same after a restart [default: the host's name]
    #[arg(long, value_name = "NAME", env = "HERD_MEMBER")]
    pub(super) member: Option<String>,
    /// Creates the topics that are missing, where no operator does
    #[arg(long)]
    pub(super) create_topics: bool,
    /// How logs look
    #[arg(long, value_enum, env = "HERD_LOG_FORMAT", default_value_t)]
    pub(super) log: LogFormat,
}

#[derive(Clone, Copy, Default, ValueEnum)]
pub(super) enum LogFormat {
    /// One JSON object a line
    #[default]
    Json,
    /// For people
    Pretty,
}

impl Worker {
    pub(super) fn log(&self) -> LogFormat {
        match &self.command {
            Command::Collector { stage, .. }
            | Command::Detector(stage)
            | Command::Sink { stage, .. }
            | Command::Api { stage, .. } => stage.log,
        }
    }
}

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
    /// Receives events over HTTP
    Collector {
        #[command(flatten)]
        serve: ServeOptions,
        #[command(flatten)]
        stage: StageOptions,
    },
    /// Runs the detector stage: aggregates events into windows and raises alerts
    Detector(StageOptions),
    /// Writes to a store or sends to a webhook
    Sink {
        /// Name of the sink in the plan
        #[arg(long)]
        name: String,
        #[command(flatten)]
        stage: StageOptions,
    },
    /// Serves REST, WebSocket and the dashboard
    Api {
        /// URL of the collector, for simulated crowds
        #[arg(long, value_name = "URL", env = "HERD_COLLECTOR_URL")]
        collector: Option<String>,
        #[command(flatten)]
        serve: ServeOptions,
        #[command(flatten)]
        stage: StageOptions,
    },
}

/// Options of stages that serve clients.
#[derive(Args)]
pub(super) struct ServeOptions {
    /// Address on which clients are served
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
    /// Address of /healthz, /readyz, /statusz and /metrics
    #[arg(long, value_name = "ADDRESS", env = "HERD_OPS_LISTEN", default_value = "0.0.0.0:9090")]
    pub(super) ops_listen: SocketAddr,
    /// Directory in which Secrets are mounted, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR", env = "HERD_SECRETS")]
    pub(super) secrets: Option<PathBuf>,
    /// Directory for files of the stage
    #[arg(long, value_name = "DIR", env = "HERD_DATA", default_value = "/var/lib/herd")]
    pub(super) data: PathBuf,
    /// Name of this member in its consumer groups, which must be the same after a restart [default: the host name]
    #[arg(long, value_name = "NAME", env = "HERD_MEMBER")]
    pub(super) member: Option<String>,
    /// Creates missing topics; for use without an operator
    #[arg(long)]
    pub(super) create_topics: bool,
    /// Format of the logs
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

//! The operator as a program: `run` reconciles pipelines, `crd` prints the CustomResourceDefinition.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use herd_operator::run::run;
use herd_operator::settings::{LogFormat, Settings};
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// Runs HerdPipelines on Kubernetes.
#[derive(Parser)]
#[command(name = "herd-operator", version, about)]
struct Operator {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconciles HerdPipelines until SIGTERM or SIGINT
    Run(Settings),
    /// Prints the CustomResourceDefinition as YAML
    Crd,
}

fn main() -> ExitCode {
    let result = match Operator::parse().command {
        Command::Crd => print_crd(),
        Command::Run(settings) => {
            start_log(settings.log);
            start(settings)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("operator failed: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(herd_spec::crd::yaml()?.as_bytes())?)
}

/// Logs to standard error, filtered by `RUST_LOG`.
fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => log.json().with_span_list(false).init(),
        LogFormat::Pretty => log.init(),
    }
}

fn start(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("stop requested, finishing reconciles in progress");
            stop.cancel();
        });
        herd_operator::tls::install_provider();
        let client = Client::try_default().await.context("cannot load a Kubernetes client configuration")?;
        let listener = TcpListener::bind(settings.listen).await.with_context(|| {
            format!("cannot listen on {}: check that no other process uses this address", settings.listen)
        })?;
        Ok(run(settings, client, listener, shutdown).await?)
    });
    // A reconcile that waits for Kafka must not delay the exit.
    runtime.shutdown_background();
    result
}

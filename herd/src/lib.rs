//! The `herd` command line: runs, validates and loads pipelines. Each command is a module; they share [`load`] (sending to a
//! collector) and [`shoppers`] (generated events). No pipeline logic lives here: `up` starts the same stages as the worker image.

pub mod backtest;
pub mod cluster;
pub mod dlq;
pub mod generate;
pub mod load;
pub mod locate;
pub mod output;
pub mod pipeline;
pub mod plan;
pub mod ready;
pub mod replay;
pub mod shoppers;
pub mod up;
pub mod validate;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use herd_workers::signal::StopSignals;
use tokio_util::sync::CancellationToken;

use output::CommandResult;

/// Runs pipelines of user events: live metrics, trends and alerts.
#[derive(Parser, Debug)]
#[command(name = "herd", version, about, max_term_width = 110)]
pub struct Herd {
    /// kubectl passes these before the command: `kubectl herd -n shop status`.
    #[command(flatten)]
    cluster_args: cluster::ClusterArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Up(Box<up::Up>),
    Validate(validate::Validate),
    Plan(plan::PlanCommand),
    Generate(Box<generate::Generate>),
    Replay(Box<replay::Replay>),
    Backtest(Box<backtest::BacktestCommand>),
    Dlq(Box<dlq::Dlq>),
    Ready(ready::Ready),
    Status(cluster::Status),
    ExplainScaling(cluster::ExplainScaling),
    Pause(cluster::Pause),
    Resume(cluster::Resume),
    Top(cluster::Top),
    Load(cluster::Load),
    /// Prints a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

impl Command {
    /// Its name on the command line.
    fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Validate(_) => "validate",
            Self::Plan(_) => "plan",
            Self::Generate(_) => "generate",
            Self::Replay(_) => "replay",
            Self::Backtest(_) => "backtest",
            Self::Dlq(_) => "dlq",
            Self::Ready(_) => "ready",
            Self::Status(_) => "status",
            Self::ExplainScaling(_) => "explain-scaling",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Top(_) => "top",
            Self::Load(_) => "load",
            Self::Completion { .. } => "completion",
        }
    }

    /// The cluster options, for commands that work on a cluster.
    fn cluster_args(&mut self) -> Option<&mut cluster::ClusterArgs> {
        match self {
            Self::Status(command) => Some(&mut command.cluster_args),
            Self::ExplainScaling(command) => Some(&mut command.cluster_args),
            Self::Pause(command) => Some(&mut command.cluster_args),
            Self::Resume(command) => Some(&mut command.cluster_args),
            Self::Top(command) => Some(&mut command.cluster_args),
            Self::Load(command) => Some(&mut command.cluster_args),
            _ => None,
        }
    }
}

/// The signal handlers cannot be installed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot install the signal handlers: {0}")]
struct SignalError(std::io::Error);

impl Herd {
    /// Runs the command.
    ///
    /// # Errors
    /// The error of the command, ready to be printed.
    pub async fn run(self) -> CommandResult {
        let Self { cluster_args, command } = self;
        let name = command.name();
        let mut command = command;
        match command.cluster_args() {
            Some(own) => *own = std::mem::take(own).or(cluster_args),
            None => cluster_args.must_be_empty(name)?,
        }
        match command {
            Command::Up(command) => command.run().await,
            Command::Validate(command) => command.run(),
            Command::Plan(command) => command.run(),
            Command::Generate(command) => command.run(stop_on_signal()?).await,
            Command::Replay(command) => command.run(stop_on_signal()?).await,
            Command::Backtest(command) => command.run(),
            Command::Dlq(command) => command.run().await,
            Command::Ready(command) => command.run().await,
            Command::Status(command) => command.run().await,
            Command::ExplainScaling(command) => command.run().await,
            Command::Pause(command) => command.run().await,
            Command::Resume(command) => command.run().await,
            Command::Top(command) => command.run(stop_on_signal()?).await,
            Command::Load(command) => command.run().await,
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "herd", &mut script);
                Ok(output::line(&String::from_utf8_lossy(&script).trim_end())?)
            }
        }
    }
}

/// A token that the first signal cancels. The second signal ends the process.
fn stop_on_signal() -> Result<CancellationToken, SignalError> {
    let mut signals = StopSignals::listen().map_err(SignalError)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        token.cancel();
        signals.next().await;
        std::process::exit(130);
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["herd", "-n", "shop", "status"], "shop", None)]
    #[case(&["herd", "status", "-n", "shop"], "shop", None)]
    #[case(&["herd", "--context", "kind-herd", "-n", "shop", "top", "shop"], "shop", Some("kind-herd"))]
    #[case(&["herd", "-n", "other", "load", "shop", "--namespace=shop", "--context", "a"], "shop", Some("a"))]
    fn accepts_cluster_options_before_and_after_the_command(
        #[case] written: &[&str],
        #[case] namespace: &str,
        #[case] context: Option<&str>,
    ) {
        let Herd { cluster_args, mut command } = Herd::try_parse_from(written).unwrap();
        let cluster_args = std::mem::take(command.cluster_args().unwrap()).or(cluster_args);
        let expected = Herd::try_parse_from(
            ["herd", "status", "-n", namespace]
                .into_iter()
                .chain(context.iter().flat_map(|name| ["--context", *name])),
        );
        let mut expected = expected.unwrap().command;
        assert_eq!(&cluster_args, expected.cluster_args().unwrap());
    }
}

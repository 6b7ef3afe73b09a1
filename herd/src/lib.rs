//! The command line: run, check and drive a pipeline. Each command is a module; what they share is [`load`] (sending to a
//! collector) and [`shoppers`] (what generated people do). No pipeline logic lives here: `up` starts the same stages that run
//! in the worker image.

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

use output::Outcome;

/// Notices the herd while it moves: pipelines of user events with live counts, trends and alerts.
#[derive(Parser, Debug)]
#[command(name = "herd", version, about, max_term_width = 110)]
pub struct Herd {
    /// `kubectl herd -n shop status` says it before the command.
    #[command(flatten)]
    place: cluster::Place,
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
    /// As it is written.
    fn name(&self) -> &'static str {
        match self {
            Self::Up(_) => "up",
            Self::Validate(_) => "validate",
            Self::Plan(_) => "plan",
            Self::Generate(_) => "generate",
            Self::Replay(_) => "replay",
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

    /// Which cluster it is about, if it is about one.
    fn place(&mut self) -> Option<&mut cluster::Place> {
        match self {
            Self::Status(command) => Some(&mut command.place),
            Self::ExplainScaling(command) => Some(&mut command.place),
            Self::Pause(command) => Some(&mut command.place),
            Self::Resume(command) => Some(&mut command.place),
            Self::Top(command) => Some(&mut command.place),
            Self::Load(command) => Some(&mut command.place),
            _ => None,
        }
    }
}

/// The signals cannot be taken over.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("Ctrl-C cannot be caught: {0}")]
struct SignalError(std::io::Error);

impl Herd {
    /// Runs the command.
    ///
    /// # Errors
    /// What the command says, ready to be shown to a person.
    pub async fn run(self) -> Outcome {
        let Self { place, command } = self;
        let name = command.name();
        let mut command = command;
        match command.place() {
            Some(own) => *own = std::mem::take(own).after(place),
            None => place.must_be_open(name)?,
        }
        match command {
            Command::Up(command) => command.run().await,
            Command::Validate(command) => command.run(),
            Command::Plan(command) => command.run(),
            Command::Generate(command) => command.run(stop_on_signal()?).await,
            Command::Replay(command) => command.run(stop_on_signal()?).await,
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

/// Cancelled by the first signal; the second ends the process.
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
    fn flags_of_the_cluster_stand_before_the_command_or_after_it(
        #[case] written: &[&str],
        #[case] namespace: &str,
        #[case] context: Option<&str>,
    ) {
        let Herd { place, mut command } = Herd::try_parse_from(written).unwrap();
        let place = std::mem::take(command.place().unwrap()).after(place);
        let expected = Herd::try_parse_from(
            ["herd", "status", "-n", namespace]
                .into_iter()
                .chain(context.iter().flat_map(|name| ["--context", *name])),
        );
        let mut expected = expected.unwrap().command;
        assert_eq!(&place, expected.place().unwrap());
    }
}

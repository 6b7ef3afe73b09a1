//! `herd dlq`: what was refused: look at it, and send it again once the reason is gone.

pub mod letters;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use herd_bus::Bus;
use herd_bus::embedded::EmbeddedBus;
use herd_spec::pipeline::Span;
use herd_spec::plan::Plan;
use herd_stage::{Clock, Secrets, SystemClock};
use serde::Serialize;

use crate::load::{Outcome as Fate, Tally, Target};
use crate::output::{self, Outcome};
use crate::pipeline;
use letters::{Filter, Letter};

/// Looks at the events that were refused, and sends them again.
#[derive(Args, Debug)]
pub struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Lists what was refused, newest last
    Ls {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// A JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Shows one letter whole: its headers and its bytes
    Show {
        /// Which, as `ls` prints it: PARTITION/OFFSET
        letter: letters::Place,
        #[command(flatten)]
        source: Source,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Posts letters to a collector again, as they came. They stay in the dead-letter topic until they expire
    Replay {
        /// The collector, e.g. http://127.0.0.1:8080
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// A write key of the pipeline
        #[arg(long, env = "HERD_WRITE_KEY", hide_env_values = true)]
        key: Option<String>,
        /// Only says what would be sent
        #[arg(long)]
        dry_run: bool,
        /// The result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Source {
    /// The pipeline, YAML: its Kafka, or the data folder of `herd up`
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// The data folder of `herd up`, which must not be running [default: .herd/PIPELINE]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where Secrets are, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// Why letters cannot be had.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DlqError {
    /// Nothing was ever kept there.
    #[error("there is no data of this pipeline in {}", path.display())]
    #[diagnostic(help("give the folder that `herd up` uses with --data DIR"))]
    NoData {
        /// The folder.
        path: PathBuf,
    },
    /// The bus does not answer.
    #[error("the dead letters cannot be read: {why}")]
    #[diagnostic(help("{help}"))]
    Bus {
        /// What it says.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// No such letter.
    #[error("there is no letter {place}")]
    #[diagnostic(help("`herd dlq ls` lists them; old ones expire with the topic's retention"))]
    NoLetter {
        /// Which.
        place: letters::Place,
    },
}

#[derive(Serialize)]
struct ReplayReport {
    letters: usize,
    accepted: u64,
    refused: u64,
    failed: u64,
    problems: Vec<ReplayProblem>,
}

#[derive(Serialize)]
struct ReplayProblem {
    letter: String,
    problem: String,
}

/// Not everything was taken.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{refused} of {letters} letters were not accepted")]
#[diagnostic(help("each is back in the dead-letter topic with its new reason: `herd dlq ls`"))]
struct SomeRefused {
    refused: u64,
    letters: usize,
}

impl Dlq {
    /// Runs it.
    ///
    /// # Errors
    /// If the letters or the collector cannot be reached, or some letters are refused again.
    pub async fn run(self) -> Outcome {
        match self.command {
            Command::Ls { source, filter, json } => list(&source.letters(filter).await?, json),
            Command::Show { letter, source, json } => {
                let all = source.letters(Filter::at(letter)).await?;
                let found = all.first().ok_or(DlqError::NoLetter { place: letter })?;
                if json {
                    output::json(found)?
                } else {
                    output::line(&found.whole())?
                }
                Ok(())
            }
            Command::Replay { to, source, filter, key, dry_run, json } => {
                let target = Target::new(&to, key, 1)?;
                let all = source.letters(filter).await?;
                if dry_run {
                    return list(&all, json);
                }
                target.check().await?;
                replay(&target, &all, json).await
            }
        }
    }
}

fn list(all: &[Letter], json: bool) -> Outcome {
    for letter in all {
        if json {
            let text = serde_json::to_string(letter).unwrap_or_default();
            output::line(&text)?;
        } else {
            output::line(&letter.line())?;
        }
    }
    if !json {
        output::note(&match all.len() {
            0 => "no dead letters".to_owned(),
            1 => "1 dead letter".to_owned(),
            n => format!("{n} dead letters"),
        });
    }
    Ok(())
}

async fn replay(target: &Target, all: &[Letter], json: bool) -> Outcome {
    const ATTEMPTS: u32 = 10;
    let tally = Arc::new(Tally::default());
    let mut report =
        ReplayReport { letters: all.len(), accepted: 0, refused: 0, failed: 0, problems: Vec::new() };
    for letter in all {
        let content_type = letter.content_type.as_deref().unwrap_or("application/json");
        let headers =
            [("content-type", content_type)].into_iter().chain(letter.cloud_attributes()).collect::<Vec<_>>();
        let answer = target.post(letter.body(), &headers, ATTEMPTS, &tally).await?;
        match answer.outcome(0) {
            Fate::Accepted => report.accepted += 1,
            Fate::Refused => report.refused += 1,
            Fate::Failed => report.failed += 1,
        }
        if let Some(problem) = answer.problem {
            report.problems.push(ReplayProblem { letter: letter.place.to_string(), problem });
        }
    }
    if json {
        output::json(&report)?;
    } else {
        for ReplayProblem { letter, problem } in &report.problems {
            output::note(&format!("{letter}  {problem}"));
        }
        output::line(&format!(
            "{} letters sent: {} accepted, {} refused, {} failed",
            report.letters, report.accepted, report.refused, report.failed
        ))?;
    }
    match report.refused + report.failed {
        0 => Ok(()),
        refused => Err(SomeRefused { refused, letters: report.letters }.into()),
    }
}

impl Source {
    async fn letters(&self, filter: Filter) -> Result<Vec<Letter>, miette::Report> {
        let plan = pipeline::load(&self.pipeline)?;
        let bus = |why: String, help: &'static str| DlqError::Bus { why, help };
        const KAFKA: &str = "check spec.kafka.bootstrapServers and that a broker runs there";
        const EMBEDDED: &str = "if `herd up` is running on this folder, stop it first: one process has the broker open at a time";
        let outcome = if let Some(kafka) = &plan.kafka {
            let secrets = Secrets::new(self.secrets.as_deref());
            let kafka = herd_workers::kafka::connect(kafka, &secrets, "herd-dlq")
                .map_err(|error| bus(error.to_string(), KAFKA))?;
            read(kafka, &plan, filter).await.map_err(|why| bus(why, KAFKA))
        } else {
            let data = self
                .data
                .clone()
                .unwrap_or_else(|| PathBuf::from(".herd").join(plan.pipeline.as_str()))
                .join("bus");
            if !data.is_dir() {
                return Err(DlqError::NoData { path: data }.into());
            }
            match tokio::task::spawn_blocking(move || EmbeddedBus::open(&data)).await {
                Ok(Ok(embedded)) => read(embedded, &plan, filter).await.map_err(|why| bus(why, EMBEDDED)),
                Ok(Err(error)) => Err(bus(error.to_string(), EMBEDDED)),
                Err(broken) => Err(bus(broken.to_string(), EMBEDDED)),
            }
        };
        Ok(outcome?)
    }
}

async fn read<B: Bus>(bus: B, plan: &Plan, filter: Filter) -> Result<Vec<Letter>, String> {
    let topic = plan.topics.dead_letter.name.clone();
    let since = filter.since.map(|Span(span)| SystemClock.now().minus(span));
    tokio::task::spawn_blocking(move || letters::read(&bus, &topic, &filter, since))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

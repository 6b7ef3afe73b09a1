//! `herd dlq`: lists refused events and resends them.

pub mod records;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use herd_bus::Bus;
use herd_bus::embedded::EmbeddedBus;
use herd_spec::pipeline::Span;
use herd_spec::plan::Plan;
use herd_spec::wire::dead_letter;
use herd_stage::{Clock, Secrets, SystemClock};
use serde::Serialize;

use crate::load::{Counters, EventOutcome, Target};
use crate::output::{self, CommandResult};
use crate::pipeline;
use records::{DeadLetter, Filter};

/// Lists, shows and resends events of the dead-letter topic.
#[derive(Args, Debug)]
pub struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Lists the records of the dead-letter topic, newest last
    Ls {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// Prints one JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Shows one record with its headers and bytes
    Show {
        /// Position of the record as printed by `ls`: PARTITION/OFFSET
        #[arg(value_name = "PARTITION/OFFSET")]
        position: records::RecordPosition,
        #[command(flatten)]
        source: Source,
        /// Prints the record as JSON
        #[arg(long)]
        json: bool,
    },
    /// Sends records to a collector again. They stay in the dead-letter topic until its retention time expires
    Replay {
        /// URL of the collector, e.g. http://127.0.0.1:8080
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        filter: Filter,
        /// Write key of the pipeline
        #[arg(long, env = "HERD_WRITE_KEY", hide_env_values = true)]
        key: Option<String>,
        /// Lists the records that would be sent, without sending them
        #[arg(long)]
        dry_run: bool,
        /// Prints the result as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Source {
    /// Pipeline file (YAML), which selects the Kafka cluster or the data directory of `herd up`
    #[arg(long, value_name = "FILE")]
    pipeline: PathBuf,
    /// Data directory of `herd up`, which must not be running [default: .herd/PIPELINE]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Directory of the Secrets, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// Why the dead-letter topic cannot be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DlqError {
    /// The data directory does not exist.
    #[error("the data directory {} does not exist", path.display())]
    #[diagnostic(help("give the data directory of `herd up` with --data DIR"))]
    NoData {
        /// The directory.
        path: PathBuf,
    },
    /// The bus failed.
    #[error("cannot read the dead-letter topic: {why}")]
    #[diagnostic(help("{help}"))]
    Bus {
        /// The cause.
        why: String,
        /// The remedy.
        help: &'static str,
    },
    /// There is no record at this position.
    #[error("there is no dead-letter record at {position}")]
    #[diagnostic(help(
        "`herd dlq ls` lists the records; old records expire with the retention time of the topic"
    ))]
    NoRecord {
        /// The position.
        position: records::RecordPosition,
    },
}

#[derive(Serialize)]
struct ReplayReport {
    #[serde(rename = "letters")]
    records: usize,
    accepted: u64,
    refused: u64,
    failed: u64,
    problems: Vec<ReplayProblem>,
}

#[derive(Serialize)]
struct ReplayProblem {
    #[serde(rename = "letter")]
    record: String,
    problem: String,
}

/// Some records were refused again.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{refused} of {records} records were not accepted")]
#[diagnostic(help("refused records are in the dead-letter topic again, with the new reason: `herd dlq ls`"))]
struct SomeRefused {
    refused: u64,
    records: usize,
}

impl Dlq {
    /// Runs it.
    ///
    /// # Errors
    /// If the topic or the collector cannot be reached, or records are refused again.
    pub async fn run(self) -> CommandResult {
        match self.command {
            Command::Ls { source, filter, json } => list(&source.records(filter).await?, json),
            Command::Show { position, source, json } => {
                let all = source.records(Filter::at(position)).await?;
                let found = all.first().ok_or(DlqError::NoRecord { position })?;
                if json {
                    output::json(found)?
                } else {
                    output::line(&found.whole())?
                }
                Ok(())
            }
            Command::Replay { to, source, filter, key, dry_run, json } => {
                let target = Target::new(&to, key, 1)?;
                let all = source.records(filter).await?;
                if dry_run {
                    return list(&all, json);
                }
                target.check().await?;
                replay(&target, &all, json).await
            }
        }
    }
}

fn list(all: &[DeadLetter], json: bool) -> CommandResult {
    for record in all {
        if json {
            let text = serde_json::to_string(record).unwrap_or_default();
            output::line(&text)?;
        } else {
            output::line(&record.line())?;
        }
    }
    if !json {
        output::note(&match all.len() {
            0 => "no dead-letter records".to_owned(),
            1 => "1 dead-letter record".to_owned(),
            n => format!("{n} dead-letter records"),
        });
    }
    Ok(())
}

async fn replay(target: &Target, all: &[DeadLetter], json: bool) -> CommandResult {
    const ATTEMPTS: u32 = 10;
    let counters = Arc::new(Counters::default());
    let mut report =
        ReplayReport { records: all.len(), accepted: 0, refused: 0, failed: 0, problems: Vec::new() };
    for record in all {
        let content_type = record.content_type.as_deref().unwrap_or("application/json");
        let mut headers =
            [("content-type", content_type)].into_iter().chain(record.cloud_attributes()).collect::<Vec<_>>();
        let received = record.headers.get(dead_letter::RECEIVED);
        headers.extend(received.map(|received| (dead_letter::REQUEST_RECEIVED, received.as_str())));
        let segment = record.segment_path().map(|path| target.at(path));
        let target = segment.as_ref().unwrap_or(target);
        let answer = target.post(record.body(), &headers, ATTEMPTS, &counters).await?;
        match answer.outcome(0) {
            EventOutcome::Accepted => report.accepted += 1,
            EventOutcome::Refused => report.refused += 1,
            EventOutcome::Failed => report.failed += 1,
        }
        if let Some(problem) = answer.problem {
            report.problems.push(ReplayProblem { record: record.position.to_string(), problem });
        }
    }
    if json {
        output::json(&report)?;
    } else {
        for ReplayProblem { record, problem } in &report.problems {
            output::note(&format!("{record}  {problem}"));
        }
        output::line(&format!(
            "{} records sent: {} accepted, {} refused, {} failed",
            report.records, report.accepted, report.refused, report.failed
        ))?;
    }
    match report.refused + report.failed {
        0 => Ok(()),
        refused => Err(SomeRefused { refused, records: report.records }.into()),
    }
}

impl Source {
    async fn records(&self, filter: Filter) -> Result<Vec<DeadLetter>, miette::Report> {
        let plan = pipeline::load(&self.pipeline)?;
        let bus = |why: String, help: &'static str| DlqError::Bus { why, help };
        const KAFKA: &str = "check spec.kafka.bootstrapServers and that the broker is running";
        const EMBEDDED: &str = "if `herd up` is running on this directory, stop it first: only one process can open the embedded broker";
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

async fn read<B: Bus>(bus: B, plan: &Plan, filter: Filter) -> Result<Vec<DeadLetter>, String> {
    let topic = plan.topics.dead_letter.name.clone();
    let since = filter.since.map(|Span(span)| SystemClock.now().minus(span));
    tokio::task::spawn_blocking(move || records::read(&bus, &topic, &filter, since))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

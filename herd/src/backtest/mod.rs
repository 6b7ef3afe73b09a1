//! `herd backtest`: what a pipeline would have said about recorded events.

mod admission;
mod explain;
mod input;
mod plot;
mod report;
mod run;
mod time;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use herd_backtest::feedback::Opinion;
use herd_backtest::truth::Truth;
use herd_backtest::{properties_explained, properties_read, vary};
use herd_spec::pipeline::Span;
use herd_spec::plan::Plan;
use herd_spec::units::WallTime;
use herd_stage::{Clock, Secrets, SystemClock};
use herd_store::JudgedAlert;

use crate::output::{self, CommandResult};
use crate::pipeline;
use crate::replay::Mapping;

use input::{FileInput, Input, InputError, StoreInput, TopicInput};
use plot::Plot;
use report::Report;
use run::Ran;
use time::{Moment, TimeRange};

/// Computes the alerts that a pipeline would have raised for recorded events, in one process: nothing is sent or stored.
///
/// The events are those of a file (--events), of the table `user_events` that a sink of the pipeline writes (--store), or of the
/// `events` topic (--kafka). They are evaluated by the same code as in the running pipeline, in the order of the file or of the
/// partitions, so the alerts are the same. Only early alerts are omitted. All windows are closed at the end, unless a detector watches
/// drops: then the windows of the last event remain open, because they are incomplete.
///
/// With --since, earlier events are read as well, so that detectors know what is usual when it begins: all that there are, or those of
/// --warmup. Alerts that began before it are not reported. Without earlier events detectors start from nothing, as in a new pipeline.
///
/// The alerts that are listed are explained as in the running pipeline, for which the events are read a second time.
///
/// The format of a file is that of `herd replay`: CSV with a header, or NDJSON; either may be gzipped. Stored events were accepted by a
/// collector already: `spec.events` of the pipeline does not apply to them. A store keeps one event of each id.
#[derive(Args, Debug)]
#[command(name = "backtest")]
#[command(group = ArgGroup::new("source").required(true).args(["events", "store", "kafka"]))]
pub struct BacktestCommand {
    /// Pipeline file (YAML); `-` is standard input
    pub pipeline: PathBuf,
    /// File of events: .csv, .tsv, .ndjson or .jsonl, with .gz if it is gzipped
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Reads the events of the pipeline's PostgreSQL or SQLite sink, or of the tables at this postgres:// URL or in this SQLite file
    #[arg(long, value_name = "URL", num_args = 0..=1)]
    pub store: Option<Option<String>>,
    /// Reads the `events` topic of the pipeline, from Kafka as spec.kafka says, or without it from the embedded broker of `herd up`,
    /// which must not be running
    #[arg(long)]
    pub kafka: bool,
    /// Reports alerts from this time on: 2026-01-31T08:00:00Z, or how long ago, e.g. 7d. Earlier events are read to learn what is usual
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Reads events before this time only
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// How much before --since is read to learn what is usual [default: everything]
    #[arg(long, value_name = "DURATION", requires = "since")]
    pub warmup: Option<Span>,
    /// Data directory of `herd up`, for its SQLite file and its embedded broker [default: .herd/PIPELINE]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Directory of the Secrets, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// Mapping of event fields to columns: item=product,user=customer,type=event,time=ts_ms,id=order. `item=` means that the
    /// file has no such column. Other columns become properties
    #[arg(long, value_name = "FIELD=COLUMN,…", default_value = "")]
    pub map: Mapping,
    /// Type of events without one, e.g. if the file has no column for the type
    #[arg(long, value_name = "TYPE")]
    pub event_type: Option<String>,
    /// Maximum number of events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Compares values of a detector field side by side, e.g. probability=1e-6,1e-9. The field is set in all detectors that have it
    #[arg(long, value_name = "FIELD=VALUE,…", conflicts_with_all = ["alerts", "plot"])]
    pub sweep: Option<Sweep>,
    /// Compares the pipeline with another one
    #[arg(long, value_name = "PIPELINE")]
    pub compare: Option<PathBuf>,
    /// File of labels (JSON): prints how many crowds each detector found, and how many alerts are false
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Writes the final state of each alert to a file (NDJSON), as in the `alerts` topic; the first 1,000 with their explanations
    #[arg(long, value_name = "FILE")]
    pub alerts: Option<PathBuf>,
    /// Draws the windows of a key with the expected range and the alerts
    #[arg(long, value_name = "KEY")]
    pub plot: Option<String>,
    /// Metric of the plot [default: the first metric with a detector]
    #[arg(long, value_name = "NAME", requires = "plot")]
    pub metric: Option<String>,
    /// File of the plot (SVG)
    #[arg(long, value_name = "FILE", requires = "plot", default_value = "backtest.svg")]
    pub out: PathBuf,
    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// A field of detectors and the values to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    field: String,
    values: Vec<String>,
}

/// Alerts in a file that are explained: each takes some hundred kilobytes until all events are read.
const EXPLAINED: usize = 1_000;
/// Values of a sweep at most: each is a pipeline that runs beside the others.
const MAX_SWEEP: usize = 20;

impl std::str::FromStr for Sweep {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let help = "write FIELD=VALUE,VALUE,…, e.g. probability=1e-6,1e-9";
        let (field, values) = written.split_once('=').ok_or_else(|| help.to_owned())?;
        let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        if field.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(help.to_owned());
        }
        if values.len() > MAX_SWEEP {
            return Err(format!("{} values are given, but at most {MAX_SWEEP} are compared", values.len()));
        }
        Ok(Self { field: field.trim().to_owned(), values })
    }
}

/// Why a backtest is not possible.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BacktestCommandError {
    /// The events cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Input(#[from] InputError),
    /// A value cannot be set.
    #[error("--sweep: {0}")]
    #[diagnostic(help(
        "a sweep sets a field of all detectors that have it, e.g. --sweep probability=1e-6,1e-9"
    ))]
    Sweep(#[from] vary::VaryError),
    /// The labels cannot be used.
    #[error("--truth: {0}")]
    #[diagnostic(help(
        "labels are JSON: {{\"scenario\":\"a\",\"base\":1700000000000,\"window\":10000,\"windows\":900,\"truth\":[{{\"item\":\"item-1\",\"from\":…,\"to\":…,\"why\":\"new\"}}],\"global\":[]}}"
    ))]
    Truth(#[from] herd_backtest::truth::TruthError),
    /// The labels are of another time than the events.
    #[error("--truth: the labels are of {labels}, the events of {events}")]
    #[diagnostic(help("give the labels that belong to the events"))]
    OtherTime {
        /// Time of the labels.
        labels: String,
        /// Time of the events.
        events: String,
    },
    /// The detectors raise too many alerts.
    #[error(transparent)]
    Backtest(#[from] herd_backtest::BacktestError),
    /// The events section of the pipeline is unusable.
    #[error("{0}")]
    Events(String),
    /// There is no event.
    #[error("{source_name}: {why}")]
    #[diagnostic(help("{help}"))]
    NoEvents {
        /// Where the events should be.
        source_name: String,
        /// What was found instead.
        why: String,
        /// The remedy.
        help: &'static str,
    },
    /// There are events, but of another time.
    #[error("{source_name}: there is no event {asked}; the events are of {held}")]
    #[diagnostic(help("{help}"))]
    NothingThen {
        /// Where the events are.
        source_name: String,
        /// The time that was asked for.
        asked: String,
        /// The time of the events.
        held: String,
        /// The remedy.
        help: String,
    },
    /// The time ends before it begins.
    #[error("--until is not after --since")]
    #[diagnostic(help("--since 14d --until 7d is the week before the last one"))]
    NoTime,
    /// The metric of the plot does not exist.
    #[error("--metric: the pipeline has no metric `{name}`; its metrics are {known}")]
    Metric {
        /// The argument.
        name: String,
        /// The metrics.
        known: String,
    },
    /// The key of the plot has no window.
    #[error("--plot: no window of the metric `{metric}` has the key `{key}`")]
    #[diagnostic(help("keys with alerts: {known}"))]
    Key {
        /// The argument.
        key: String,
        /// The metric.
        metric: String,
        /// Keys that exist.
        known: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// A pipeline that takes part.
pub(crate) struct Variant {
    /// Its name in the report.
    pub(crate) name: String,
    /// Its plan.
    pub(crate) plan: Plan,
}

impl BacktestCommand {
    /// Runs it.
    ///
    /// # Errors
    /// If a file cannot be read or written, or an argument is invalid.
    pub fn run(self) -> CommandResult {
        let variants = self.variants()?;
        let truth = self.truth.as_deref().map(Truth::read).transpose().map_err(BacktestCommandError::from)?;
        let plot = self.plot.as_ref().map(|key| Plot::new(key, self.metric.as_deref(), &variants[0].plan));
        let mut plot = plot.transpose()?;
        let range = self.range(SystemClock.now())?;
        // Sources are read by this thread, whether by calls that block or by tasks of the runtime.
        let (ran, opinions) = tokio::task::block_in_place(|| {
            let input = self.input(&variants, properties_read)?;
            let mut ran = run::run(&self, &input, &range, &variants, plot.as_mut())?;
            let opinions = opinions(&input, &ran)?;
            if let Some(most) = self.explained(&variants) {
                // Of a file, the first pass reads no more fields than it needs; a broker can be opened only once.
                let input = match input {
                    Input::File(_) => self.input(&variants, properties_explained)?,
                    Input::Store(_) | Input::Topic(_) => input,
                };
                let alerts = &mut ran.results[0].alerts;
                explain::explain(&input, &range, self.limit, &variants[0].plan, alerts, most)?;
            }
            Ok::<_, BacktestCommandError>((ran, opinions))
        })?;
        let report = Report::of(&variants, &ran, truth.as_ref(), opinions.as_deref())?;
        if let Some(path) = &self.alerts {
            report::write_alerts(path, &ran.results[0].alerts)?;
        }
        if let Some(plot) = &plot {
            plot.write(&self.out, &ran.results[0].alerts, ran.results[0].span)?;
        }
        if self.json {
            output::json(&report)?;
        } else {
            output::line(&report.text(&self, &ran))?;
        }
        Ok(())
    }

    fn range(&self, now: WallTime) -> Result<TimeRange, BacktestCommandError> {
        let range = TimeRange {
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
            warmup: self.warmup.map(|warmup| warmup.0),
        };
        match (range.since, range.until) {
            (Some(since), Some(until)) if until <= since => Err(BacktestCommandError::NoTime),
            _ => Ok(range),
        }
    }

    /// How many alerts are explained: those that the report lists, or more of them in a file; none if no alert is listed.
    fn explained(&self, variants: &[Variant]) -> Option<usize> {
        match (&self.alerts, variants) {
            (Some(_), _) => Some(EXPLAINED),
            (None, [_]) if !self.json => Some(report::ALERTS),
            _ => None,
        }
    }

    /// The events, of a file with the properties that `read` names.
    fn input(
        &self,
        variants: &[Variant],
        read: impl Fn(&Plan) -> BTreeSet<String>,
    ) -> Result<Input<'_>, InputError> {
        let plan = &variants[0].plan;
        let plans = || variants.iter().map(|variant| &variant.plan);
        if let Some(path) = &self.events {
            let is_direct = plans().all(admission::is_direct);
            return Ok(Input::File(FileInput {
                path,
                map: &self.map,
                event_type: self.event_type.as_deref(),
                properties: is_direct.then(|| plans().flat_map(&read).collect()),
                alternatives: admission::alternatives(plans()),
            }));
        }
        let secrets = Secrets::new(self.secrets.as_deref());
        let data = self.data.clone().unwrap_or_else(|| PathBuf::from(".herd").join(plan.pipeline.as_str()));
        match &self.store {
            Some(url) => StoreInput::new(plan, url.as_deref(), &secrets, &data).map(Input::Store),
            None => TopicInput::new(plan, &secrets, &data).map(Input::Topic),
        }
    }

    fn variants(&self) -> miette::Result<Vec<Variant>> {
        let name = |path: &PathBuf| path.display().to_string();
        let mut variants = Vec::new();
        match &self.sweep {
            None => {
                variants.push(Variant { name: name(&self.pipeline), plan: pipeline::load(&self.pipeline)? });
            }
            Some(Sweep { field, values }) => {
                let pipeline = pipeline::read(&self.pipeline)?;
                for value in values {
                    let plan = vary::vary(&pipeline, field, value).map_err(BacktestCommandError::from)?;
                    variants.push(Variant { name: format!("{field}={value}"), plan });
                }
            }
        }
        if let Some(path) = &self.compare {
            variants.push(Variant { name: name(path), plan: pipeline::load(path)? });
        }
        Ok(variants)
    }
}

/// What people said of the alerts that the running pipeline raised in the time that is reported; none if that is not stored.
fn opinions(input: &Input<'_>, ran: &Ran) -> Result<Option<Vec<Opinion>>, BacktestCommandError> {
    let span = ran.results.iter().filter_map(|result| result.span).next();
    let (Input::Store(store), Some((first, last))) = (input, span) else { return Ok(None) };
    let opinion = |judged: JudgedAlert| Opinion {
        id: judged.id,
        metric: judged.metric,
        key: judged.key,
        from: judged.from,
        until: judged.until,
        useful: judged.useful,
    };
    Ok(Some(store.judged(first, last)?.into_iter().map(opinion).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("probability=1e-6,1e-9", Some(("probability", 2)))]
    #[case("budget=5", Some(("budget", 1)))]
    #[case("budget=", None)]
    #[case("budget=1,,2", None)]
    #[case("budget", None)]
    #[case("=1", None)]
    #[case("n=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21", None)]
    fn parses_sweeps(#[case] written: &str, #[case] expected: Option<(&str, usize)>) {
        let sweep = written.parse::<Sweep>().ok();
        let seen = sweep.as_ref().map(|sweep| (sweep.field.as_str(), sweep.values.len()));
        assert_eq!(seen, expected);
    }
}

//! `herd plan`: the plan of a pipeline, as a tree or as the JSON that workers read.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use herd_spec::change::{self, Change, Meaning};
use herd_spec::pipeline::{Direction, Span};
use herd_spec::plan::{AggregatePlan, Condition, DetectorPlan, MetricPlan, Plan, StagePlan, Test, TopicPlan};
use herd_spec::wire::FieldPath;

use crate::output::{self, CommandResult};
use crate::pipeline;

/// Shows the plan of a pipeline, or the effect of a change, without running anything.
#[derive(Args, Debug)]
pub struct PlanCommand {
    /// Pipeline file (YAML); `-` is standard input
    pub file: PathBuf,
    /// Compares with this file (`-`: standard input) and shows the effect of each changed field on open windows, baselines and alerts
    #[arg(long, value_name = "OLD")]
    pub against: Option<PathBuf>,
    /// Prints the plan as JSON, as workers read it, or the differences as JSON
    #[arg(long)]
    pub json: bool,
}

impl PlanCommand {
    /// Runs it.
    ///
    /// # Errors
    /// If the file is not a valid pipeline.
    pub fn run(self) -> CommandResult {
        if let Some(old) = &self.against {
            return self.compare(old);
        }
        let plan = pipeline::load(&self.file)?;
        if self.json {
            output::json(&plan)?
        } else {
            output::line(&tree(&plan).trim_end())?
        }
        Ok(())
    }
}

impl PlanCommand {
    fn compare(&self, old: &Path) -> CommandResult {
        let changes = change::changes(&pipeline::read(old)?, &pipeline::read(&self.file)?);
        if self.json {
            let output: Vec<ChangeOutput<'_>> = changes.iter().map(ChangeOutput::of).collect();
            return Ok(output::json(&output)?);
        }
        let (new, old) = (display_name(&self.file), display_name(old));
        let head = match changes.len() {
            0 => format!("{new} and {old} do not differ"),
            number => format!(
                "{new} differs from {old} in {}",
                count(u32::try_from(number).unwrap_or(u32::MAX), "field")
            ),
        };
        let changes: String = changes.iter().map(|change| format!("\n\n{}", render_change(change))).collect();
        Ok(output::line(&format!("{head}{changes}"))?)
    }
}

/// Name of a file in messages.
fn display_name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// A change in the JSON output.
#[derive(serde::Serialize)]
struct ChangeOutput<'c> {
    #[serde(flatten)]
    change: &'c Change,
    meaning: Meaning,
}

impl<'c> ChangeOutput<'c> {
    fn of(change: &'c Change) -> Self {
        Self { change, meaning: change.effect.meaning() }
    }
}

/// A change in the text output.
fn render_change(change: &Change) -> String {
    let Change { path, before, after, effect } = change;
    let shown = |value: &Option<serde_json::Value>| match value {
        None => "omitted".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let from_to = match (before, after) {
        (Some(serde_json::Value::Object(_)), None) => "removed".to_owned(),
        (None, Some(serde_json::Value::Object(_))) => "added".to_owned(),
        _ => format!("{} → {}", shown(before), shown(after)),
    };
    let Meaning { what, windows, baselines, alerts } = effect.meaning();
    let mut text = format!("{path}: {from_to}\n  {what}");
    for (label, effect) in [("Open windows", windows), ("Baselines", baselines), ("Open alerts", alerts)] {
        if !effect.is_empty() {
            // Writing into a String does not fail.
            let _ = write!(text, "\n  {label}: {effect}");
        }
    }
    text
}

/// A node of the tree: its line and its children.
struct Branch(String, Vec<Branch>);

fn leaf(text: impl Into<String>) -> Branch {
    Branch(text.into(), Vec::new())
}

impl Branch {
    fn draw(&self, out: &mut String, before: &str) {
        for (index, child) in self.1.iter().enumerate() {
            let last = index + 1 == self.1.len();
            let (tick, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            // Writing into a String does not fail.
            let _ = writeln!(out, "{before}{tick}{}", child.0);
            child.draw(out, &format!("{before}{below}"));
        }
    }
}

/// The plan as a tree.
#[must_use]
pub fn tree(plan: &Plan) -> String {
    let kafka = match &plan.kafka {
        None => "embedded broker".to_owned(),
        Some(kafka) => {
            let tls = if kafka.tls.is_some() { ", TLS" } else { "" };
            let sasl = if kafka.sasl.is_some() { ", SASL" } else { "" };
            format!("Kafka at {}{tls}{sasl}", kafka.bootstrap_servers.join(", "))
        }
    };
    let mut stages = vec![Branch(
        format!("collector  {}", size(&plan.collector.stage)),
        vec![leaf(match plan.collector.keys.as_slice() {
            [] => "no authentication".to_owned(),
            keys => format!("write keys: {}", names(keys.iter().map(|key| key.name.as_str()))),
        })],
    )];
    stages.push(Branch(
        format!("detector  {}", size(&plan.detection)),
        vec![
            leaf(format!("fold reads {} as consumer group {}", plan.topics.events.name, plan.groups.fold)),
            leaf(format!("judge reads {} as consumer group {}", plan.topics.parts.name, plan.groups.judge)),
            leaf(format!(
                "explain reads {} as consumer group {}",
                plan.topics.alerts.name, plan.groups.explain
            )),
        ],
    ));
    for sink in &plan.sinks {
        stages.push(Branch(
            format!("sink {}  {}", sink.name, size(&sink.stage)),
            vec![leaf(sink.kind.to_string()), leaf(format!("consumer group {}", sink.group))],
        ));
    }
    stages.push(Branch(
        format!("api  {}", size(&plan.api.stage)),
        vec![leaf(match &plan.api.store {
            Some(store) => format!("history from sink {store}"),
            None => "no store: live data only".to_owned(),
        })],
    ));
    let events = &plan.events;
    let accepted = if events.types.is_empty() { "all".to_owned() } else { events.types.join(", ") };
    let all = [
        Branch(
            "events".into(),
            vec![
                leaf(format!("types: {accepted}")),
                leaf(format!(
                    "maximum lateness {}, clock skew {}, age {}; partitioned by {}",
                    span(events.max_lateness),
                    span(events.max_clock_skew),
                    events.max_age.map_or_else(|| "unlimited".to_owned(), span),
                    field(&events.key)
                )),
            ],
        ),
        Branch("topics".into(), plan.topics.all().into_iter().map(topic).collect()),
        Branch("stages".into(), stages),
        Branch("metrics".into(), plan.metrics.iter().map(metric).collect()),
        Branch("detectors".into(), plan.detectors.iter().map(detector).collect()),
    ];
    let mut out = format!("{}  on {kafka}{}\n", plan.pipeline, if plan.paused { ", paused" } else { "" });
    let shown = all.into_iter().filter(|branch| !branch.1.is_empty()).collect();
    Branch(String::new(), shown).draw(&mut out, "");
    out
}

fn topic(topic: &TopicPlan) -> Branch {
    let settings: Vec<String> = topic.config.iter().map(|(name, value)| format!("{name}={value}")).collect();
    leaf(format!(
        "{}  {}, replication {}  {}",
        topic.name,
        count(topic.partitions, "partition"),
        topic.replication,
        settings.join(" ")
    ))
}

fn metric(metric: &MetricPlan) -> Branch {
    let what = match &metric.aggregate {
        AggregatePlan::Count => "count".to_owned(),
        AggregatePlan::Sum(path) => format!("sum of {}", field(path)),
        AggregatePlan::Mean(path) => format!("mean of {}", field(path)),
        AggregatePlan::Unique(path) => format!("unique {}", field(path)),
    };
    let of = if metric.types.is_empty() { "all events".to_owned() } else { metric.types.join(", ") };
    let keys = names(metric.key.iter().map(field).collect::<Vec<_>>().iter().map(String::as_str));
    let sooner = if metric.early_parts { ", sooner of keys that grow fastest" } else { "" };
    let mut inside = vec![leaf(format!(
        "windows of {}, provisional values every {}{sooner}",
        span(metric.window),
        span(metric.emit)
    ))];
    inside.extend(metric.conditions.iter().map(|condition| leaf(format!("where {}", test(condition)))));
    Branch(format!("{}  {what} of {of} by {keys}", metric.name), inside)
}

fn test(condition: &Condition) -> String {
    let field = field(&condition.field);
    match &condition.test {
        Test::In(values) => format!("{field} is one of {}", values.join(", ")),
        Test::NotIn(values) => format!("{field} is none of {}", values.join(", ")),
        Test::AtLeast(number) => format!("{field} ≥ {number}"),
        Test::AtMost(number) => format!("{field} ≤ {number}"),
        Test::Exists(true) => format!("{field} exists"),
        Test::Exists(false) => format!("{field} does not exist"),
    }
}

fn detector(detector: &DetectorPlan) -> Branch {
    let direction = match detector.direction {
        Direction::Up => "above",
        Direction::Down => "below",
        Direction::Both => "above and below",
    };
    let severity = format!("{:?}", detector.severity).to_lowercase();
    let users =
        if detector.min_users > 0 { format!(" and {} users", detector.min_users) } else { String::new() };
    Branch(
        format!("{}  on {}, {direction}, {severity}", detector.name, detector.metric),
        vec![
            leaf(detector.algorithm.to_string()),
            leaf(format!(
                "minimum {} events{users}, cooldown {}",
                detector.min_count,
                span(detector.cooldown)
            )),
        ],
    )
}

fn size(stage: &StagePlan) -> String {
    match &stage.scaling {
        Some(scaling) => {
            let scaling = scaling.spec();
            format!("{} to {} replicas, {:?}", scaling.min, scaling.max, scaling.mode).to_lowercase()
        }
        None => count(stage.replicas, "replica"),
    }
}

fn count(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    all.collect::<Vec<_>>().join(", ")
}

fn span(duration: Duration) -> String {
    Span(duration).to_string()
}

/// A field as written in a pipeline.
fn field(path: &FieldPath) -> String {
    let written = path.to_string();
    written.strip_prefix("properties.").map(str::to_owned).unwrap_or(written)
}

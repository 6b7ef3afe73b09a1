//! The report of a backtest, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use herd_backtest::feedback::{Feedback, Opinion};
use herd_backtest::truth::{Found, Truth};
use herd_backtest::{Counts, Summary};
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertState};
use serde::Serialize;

use super::run::Ran;
use super::{BacktestCommand, BacktestCommandError, Variant};

/// Keys that are listed.
const KEYS: usize = 10;
/// Alerts that are listed.
pub(super) const ALERTS: usize = 10;
/// Days with alerts that are listed. If there are more, months are listed instead.
const DAYS: usize = 31;

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Events that were read, with those of the warmup.
    rows: u64,
    /// Of these, events before the time that is reported.
    warmup: u64,
    /// Records that are no events.
    unreadable: u64,
    /// Seconds that reading and evaluation took.
    seconds: f64,
    /// Time of the first event, RFC 3339.
    first: Option<String>,
    /// Time of the last event.
    last: Option<String>,
    /// The pipelines.
    pipelines: Vec<PipelineReport>,
}

#[derive(Debug, Serialize)]
struct PipelineReport {
    name: String,
    /// Events that the collector would refuse.
    refused: u64,
    /// Why the first of them is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    counts: Counts,
    #[serde(flatten)]
    summary: Summary,
    /// Comparison with labels, by detector.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Vec<Found>>,
    /// Comparison with what people said of the stored alerts.
    #[serde(skip_serializing_if = "Option::is_none")]
    feedback: Option<Feedback>,
}

impl Report {
    /// The report of a run.
    pub(super) fn of(
        variants: &[Variant],
        ran: &Ran,
        truth: Option<&Truth>,
        opinions: Option<&[Opinion]>,
    ) -> Result<Self, BacktestCommandError> {
        let span =
            ran.results.iter().filter_map(|result| result.span).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        if let (Some(truth), Some((first, last))) = (truth, span) {
            let end = truth.base.saturating_add(truth.windows.saturating_mul(truth.window));
            if last.0 < truth.base || first.0 > end {
                return Err(BacktestCommandError::OtherTime {
                    labels: format!("{} to {}", minute(EventTime(truth.base)), minute(EventTime(end))),
                    events: format!("{} to {}", minute(first), minute(last)),
                });
            }
        }
        let report = |((variant, result), (refused, reason)): ((&Variant, _), &(u64, Option<String>))| {
            let result: &herd_backtest::BacktestResult = result;
            let detectors: Vec<String> =
                variant.plan.detectors.iter().map(|detector| detector.name.to_string()).collect();
            PipelineReport {
                name: variant.name.clone(),
                refused: *refused,
                reason: reason.clone(),
                counts: result.counts,
                summary: Summary::of(&result.alerts, &detectors, result.span, KEYS),
                found: truth.map(|truth| truth.compare(&result.alerts, &detectors)),
                feedback: opinions.map(|opinions| Feedback::of(opinions, &result.alerts)),
            }
        };
        Ok(Self {
            rows: ran.rows,
            warmup: ran.warmup,
            unreadable: ran.unreadable,
            seconds: ran.took.as_secs_f64(),
            first: span.map(|(first, _)| first.rfc3339()),
            last: span.map(|(_, last)| last.rfc3339()),
            pipelines: variants.iter().zip(&ran.results).zip(&ran.refused).map(report).collect(),
        })
    }

    /// The report for a person.
    pub(super) fn text(&self, command: &BacktestCommand, ran: &Ran) -> String {
        // Writing into a String does not fail, here and below.
        let mut text = String::new();
        let rate = ran.seen as f64 / self.seconds.max(1e-9);
        let span = ran.results.iter().filter_map(|result| result.span).next();
        if let Some((first, last)) = span {
            let days = last.since(first).as_secs_f64() / 86_400.0;
            let _ = writeln!(
                text,
                "{} events from {} to {} UTC ({days:.1} days), {:.1} s, {} events/s",
                thousands(self.rows),
                minute(first),
                minute(last),
                self.seconds,
                thousands(rate as u64)
            );
        }
        if self.warmup > 0 {
            let _ = writeln!(text, "{} of them are earlier, for the warmup", thousands(self.warmup));
        }
        if self.unreadable > 0 {
            let _ = writeln!(text, "{} records are no events", thousands(self.unreadable));
        }
        for pipeline in &self.pipelines {
            pipeline.notes(self.pipelines.len() > 1, &mut text);
        }
        if let [pipeline] = self.pipelines.as_slice() {
            pipeline.write(&mut text);
            first_alerts(&ran.results[0].alerts, &mut text);
        } else {
            self.side_by_side(&mut text);
        }
        self.feedback(&mut text);
        if let Some(path) = &command.alerts {
            let _ = writeln!(text, "\n{} alerts written to {}", ran.results[0].alerts.len(), path.display());
        }
        if command.plot.is_some() {
            let _ = writeln!(text, "\nplot written to {}", command.out.display());
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// How many of the alerts on which there is feedback would have been raised, with each pipeline.
    fn feedback(&self, text: &mut String) {
        let said = |feedback: &Feedback| {
            let Feedback { useful, not_useful } = feedback;
            (useful.raised + useful.missing, not_useful.raised + not_useful.missing)
        };
        let Some((useful, not_useful)) =
            self.pipelines.iter().filter_map(|pipeline| pipeline.feedback.as_ref()).map(said).next()
        else {
            return;
        };
        if useful + not_useful == 0 {
            let _ = writeln!(text, "\nno feedback on the stored alerts of this time");
            return;
        }
        let head = [
            "feedback".to_owned(),
            format!("raised of {} useful", thousands(useful)),
            format!("raised of {} not useful", thousands(not_useful)),
        ];
        let mut rows = vec![head.to_vec()];
        for pipeline in &self.pipelines {
            let Some(feedback) = &pipeline.feedback else { continue };
            let numbers = [feedback.useful.raised, feedback.not_useful.raised].map(thousands);
            rows.push(std::iter::once(pipeline.name.clone()).chain(numbers).collect());
        }
        let _ = write!(text, "\n{}", table(&rows, 1));
    }

    fn side_by_side(&self, text: &mut String) {
        let mut detectors: Vec<&str> = Vec::new();
        for summary in self.pipelines.iter().flat_map(|pipeline| &pipeline.summary.detectors) {
            if !detectors.contains(&summary.detector.as_str()) {
                detectors.push(&summary.detector);
            }
        }
        let labels = self.pipelines.iter().any(|pipeline| pipeline.found.is_some());
        let mut head =
            vec!["detector".to_owned(), "pipeline".into(), "alerts".into(), "a day".into(), "open".into()];
        if labels {
            head.extend(["found".to_owned(), "false".into()]);
        }
        let mut rows = vec![head];
        for detector in detectors {
            for pipeline in &self.pipelines {
                let Some(summary) =
                    pipeline.summary.detectors.iter().find(|known| known.detector == detector)
                else {
                    continue;
                };
                let mut row = vec![
                    detector.to_owned(),
                    pipeline.name.clone(),
                    thousands(summary.alerts),
                    summary.per_day.map_or_else(String::new, |rate| format!("{rate:.2}")),
                    thousands(summary.open),
                ];
                let found = pipeline.found.iter().flatten().find(|found| found.detector == detector);
                if let Some(found) = found {
                    row.push(format!("{}/{}", found.found, found.crowds));
                    row.push(found.false_alerts.to_string());
                }
                rows.push(row);
            }
        }
        let _ = write!(text, "\n{}", table(&rows, 2));
    }
}

impl PipelineReport {
    /// What keeps events from being counted.
    fn notes(&self, named: bool, text: &mut String) {
        let name = if named { format!("{}: ", self.name) } else { String::new() };
        let Counts { late, duplicates, too_large, late_parts, .. } = self.counts;
        let mut note = |number: u64, what: &dyn Display| {
            if number > 0 {
                let _ = writeln!(text, "{name}{} {what}", thousands(number));
            }
        };
        let reason = self.reason.as_deref().unwrap_or_default();
        note(
            self.refused,
            &format!("events would be refused by the collector, the first one because {reason}"),
        );
        note(late, &"events were late: their windows were closed; see spec.events.maxLateness");
        note(duplicates, &"events were duplicates");
        note(too_large, &"events have a number too large to be added");
        note(
            late_parts,
            &"parts of windows were late: events of one user are an hour behind those of others",
        );
    }

    fn write(&self, text: &mut String) {
        if self.summary.detectors.is_empty() {
            text.push_str("\nThe pipeline has no detectors, so there are no alerts.\n");
            return;
        }
        let mut rows = vec![["detector", "alerts", "a day", "open"].map(str::to_owned).to_vec()];
        for summary in &self.summary.detectors {
            rows.push(vec![
                summary.detector.clone(),
                thousands(summary.alerts),
                summary.per_day.map_or_else(String::new, |rate| format!("{rate:.2}")),
                thousands(summary.open),
            ]);
        }
        let _ = write!(text, "\n{}", table(&rows, 1));
        if let Some(found) = &self.found {
            text.push('\n');
            found.iter().for_each(|found| _ = writeln!(text, "{}", found_line(found)));
        }
        self.days(text);
        if !self.summary.keys.is_empty() {
            let mut rows = vec![vec!["key".to_owned(), "alerts".into()]];
            rows.extend(self.summary.keys.iter().map(|(key, count)| vec![key.clone(), thousands(*count)]));
            let _ = write!(text, "\n{}", table(&rows, 1));
        }
    }

    fn days(&self, text: &mut String) {
        if self.summary.days.is_empty() {
            return;
        }
        let (label, length) = if self.summary.days.len() > DAYS { ("month", 7) } else { ("day", 10) };
        let mut periods: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for (day, detectors) in &self.summary.days {
            let period = periods.entry(day.get(..length).unwrap_or(day)).or_default();
            detectors.iter().for_each(|(detector, count)| *period.entry(detector).or_default() += count);
        }
        let detectors = || self.summary.detectors.iter().map(|summary| summary.detector.as_str());
        let mut rows = vec![std::iter::once(label).chain(detectors()).map(str::to_owned).collect::<Vec<_>>()];
        for (period, counts) in periods {
            let numbers = detectors().map(|detector| thousands(counts.get(detector).copied().unwrap_or(0)));
            rows.push(std::iter::once(period.to_owned()).chain(numbers).collect());
        }
        let _ = write!(text, "\n{}", table(&rows, 1));
    }
}

/// What a detector found, in a line.
fn found_line(found: &Found) -> String {
    let unit = if found.in_days { "a day" } else { "an hour" };
    let kinds = found.kinds.iter().map(|(kind, (hit, all))| format!("  {kind}: {hit}/{all}"));
    format!(
        "{:24} found {}/{} {:.3}  false {} ({:.2} {unit}){}",
        found.detector,
        found.found,
        found.crowds,
        found.share(),
        found.false_alerts,
        found.false_rate(),
        kinds.collect::<String>()
    )
}

/// The first alerts that a person would have seen.
fn first_alerts(alerts: &[Alert], text: &mut String) {
    let shown = || alerts.iter().filter(|alert| alert.state != AlertState::Withdrawn);
    if shown().next().is_some() {
        text.push('\n');
    }
    for alert in shown().take(ALERTS) {
        let at = alert.start.rfc3339().get(..19).unwrap_or_default().replace('T', " ");
        let _ = writeln!(text, "{at}  {}  {}", alert.detector, alert.summary);
        let why = alert.explanation.as_ref().map(|why| why.summary.as_str()).filter(|why| !why.is_empty());
        if let Some(why) = why {
            let _ = writeln!(text, "{:1$}{why}", "", at.len() + 2);
        }
    }
    let more = shown().count().saturating_sub(ALERTS);
    if more > 0 {
        let _ = writeln!(text, "and {} more; --alerts FILE writes all of them", thousands(more as u64));
    }
}

/// Writes alerts as the `alerts` topic has them, one a line.
pub(super) fn write_alerts(path: &Path, alerts: &[Alert]) -> Result<(), BacktestCommandError> {
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut line = Vec::new();
        for alert in alerts {
            line.clear();
            alert.write(&mut line);
            line.push(b'\n');
            file.write_all(&line)?;
        }
        file.flush()
    };
    write().map_err(|source| BacktestCommandError::Write { path: path.to_owned(), source })
}

/// A time to the minute.
fn minute(time: EventTime) -> String {
    time.rfc3339().get(..16).unwrap_or_default().replace('T', " ")
}

/// Digits in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// Rows in columns, the first `texts` of them flush left and the others flush right.
fn table(rows: &[Vec<String>], texts: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column > 0 { "  " } else { "" };
            let _ = if column < texts {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0")]
    #[case(999, "999")]
    #[case(1_040_572, "1,040,572")]
    fn groups_digits(#[case] number: u64, #[case] written: &str) {
        assert_eq!(thousands(number), written);
    }

    #[test]
    fn aligns_columns() {
        let rows = [vec!["key".to_owned(), "n".into()], vec!["a".into(), "10".into()]];
        assert_eq!(table(&rows, 1), "key   n\na    10\n");
    }
}

//! Reading the events once for all pipelines that take part.

use std::time::{Duration, Instant};

use herd_backtest::{Backtest, BacktestResult};
use herd_spec::units::EventTime;
use herd_spec::wire::Window;

use super::admission::Admission;
use super::input::{Events, Input, InputEvent};
use super::plot::Plot;
use super::time::TimeRange;
use super::{BacktestCommand, BacktestCommandError, Variant};
use crate::{load, output};

/// Events between two updates of the progress bar.
const PROGRESS: u64 = 4_096;

/// What was found.
pub(super) struct Ran {
    /// Events that the source gave, also those of other times.
    pub(super) seen: u64,
    /// Events that were read, with those of the warmup.
    pub(super) rows: u64,
    /// Of these, events before the time that is reported.
    pub(super) warmup: u64,
    /// Records that are no events.
    pub(super) unreadable: u64,
    /// By pipeline: the alerts that began in the time that is reported.
    pub(super) results: Vec<BacktestResult>,
    /// By pipeline: events that the collector would refuse, and why the first one.
    pub(super) refused: Vec<(u64, Option<String>)>,
    /// Reading and evaluation together.
    pub(super) took: Duration,
}

/// What is called with each closed window.
type Observer<'p> = Box<dyn FnMut(&Window<'_>) + 'p>;

/// What was read.
#[derive(Default)]
struct Read {
    seen: u64,
    rows: u64,
    warmup: u64,
    /// Times of the earliest and the latest event, also of those outside the time that is asked for.
    held: Option<(EventTime, EventTime)>,
}

/// Runs all pipelines over the events.
pub(super) fn run(
    command: &BacktestCommand,
    input: &Input<'_>,
    range: &TimeRange,
    variants: &[Variant],
    mut plot: Option<&mut Plot>,
) -> Result<Ran, BacktestCommandError> {
    let began = Instant::now();
    let plans = || variants.iter().map(|variant| &variant.plan);
    let mut opened = input.open(range)?;
    let mut admissions =
        plans().map(Admission::new).collect::<Result<Vec<_>, _>>().map_err(BacktestCommandError::Events)?;
    let mut backtests: Vec<Backtest<Observer<'_>>> = Vec::with_capacity(variants.len());
    for plan in plans() {
        // The plot is of the first pipeline.
        let windows: Observer<'_> = match plot.take() {
            Some(plot) => Box::new(|window: &Window<'_>| {
                if range.reports(window.start) {
                    plot.take(window);
                }
            }),
            None => Box::new(|_: &Window<'_>| {}),
        };
        let partitions = opened.partitions.max(plan.topics.events.partitions);
        backtests.push(Backtest::with_partitions(plan, partitions, windows));
    }
    let bar = load::progress(opened.total, command.json);
    let mut read = Read::default();
    read_all(command, opened.events.as_mut(), range, &mut read, &bar, &mut admissions, &mut backtests)?;
    bar.finish_and_clear();
    let mut results = Vec::with_capacity(variants.len());
    for backtest in backtests {
        let end = backtest.end();
        let mut result = backtest.finish(end)?.0;
        result.alerts.retain(|alert| range.reports(alert.start));
        result.span =
            result.span.map(|(first, last)| (range.since.map_or(first, |since| since.max(first)), last));
        results.push(result);
    }
    let refused = admissions.into_iter().map(|admission| (admission.refused, admission.reason)).collect();
    let unreadable = opened.events.unreadable();
    let ran = Ran {
        seen: read.seen,
        rows: read.rows,
        warmup: read.warmup,
        unreadable,
        results,
        refused,
        took: began.elapsed(),
    };
    check(input, range, &read, &ran, opened.has_expired)?;
    Ok(ran)
}

fn read_all(
    command: &BacktestCommand,
    events: &mut dyn Events,
    range: &TimeRange,
    read: &mut Read,
    bar: &indicatif::ProgressBar,
    admissions: &mut [Admission],
    backtests: &mut [Backtest<Observer<'_>>],
) -> Result<(), BacktestCommandError> {
    let limit = command.limit.unwrap_or(u64::MAX);
    while read.rows < limit
        && let Some(event) = events.next_event()
    {
        let event = event?;
        read.seen += 1;
        let time = event.time();
        let (first, last) = read.held.unwrap_or((time, time));
        read.held = Some((first.min(time), last.max(time)));
        if !range.reads(time) {
            continue;
        }
        read.rows += 1;
        read.warmup += u64::from(!range.reports(time));
        if read.rows.is_multiple_of(PROGRESS) {
            bar.set_position(read.rows);
        }
        match event {
            InputEvent::Recorded(event) => {
                for (admission, backtest) in admissions.iter_mut().zip(&mut *backtests) {
                    admission.push(&event, &mut |key, event| backtest.push(key, event))?;
                }
            }
            InputEvent::Accepted { partition, event } => {
                for backtest in &mut *backtests {
                    backtest.push_to(partition, &event)?;
                }
            }
        }
    }
    Ok(())
}

/// Refuses to report on nothing, and says where less is known than was asked for.
fn check(
    input: &Input<'_>,
    range: &TimeRange,
    read: &Read,
    ran: &Ran,
    has_expired: bool,
) -> Result<(), BacktestCommandError> {
    let keeps = || input.keeps().filter(|_| has_expired);
    if read.rows == read.warmup && (range.since.is_some() || range.until.is_some()) {
        let held = match (input, read.held) {
            // Those that were not asked for were not read.
            (Input::Store(store), _) => store.times()?.map(|times| (times.first, times.last)),
            (_, held) => held,
        };
        if let Some((first, last)) = held {
            return Err(BacktestCommandError::NothingThen {
                source_name: input.name(),
                asked: range.to_string(),
                held: format!("{} to {}", first.rfc3339(), last.rfc3339()),
                help: keeps().unwrap_or_else(|| "change --since or --until".to_owned()),
            });
        }
    }
    if ran.results.iter().all(|result| result.counts.events == 0) {
        let why = match ran.refused.iter().find_map(|(_, reason)| reason.as_ref()) {
            Some(reason) => {
                format!("the collector would refuse all {} events, the first one because {reason}", read.rows)
            }
            None if ran.unreadable > 0 => {
                format!("none of its {} records is an event", ran.unreadable)
            }
            None if matches!(input, Input::File(_)) => "the file contains no events".to_owned(),
            None => match keeps() {
                Some(keeps) => format!("all events have expired ({keeps})"),
                None => "there are no events".to_owned(),
            },
        };
        let help = match input {
            Input::File(_) => "check --map, --event-type and spec.events.types",
            Input::Store(_) => {
                "events are stored by the sink of the running pipeline, if it subscribes to `events`"
            }
            Input::Topic(_) => "events are accepted by the collector of the running pipeline",
        };
        return Err(BacktestCommandError::NoEvents { source_name: input.name(), why, help });
    }
    if let (Some(since), Some((first, _))) = (range.since, read.held)
        && first > since
    {
        let reason = keeps().map(|keeps| format!("; {keeps}")).unwrap_or_default();
        output::note(&format!(
            "the earliest event is of {}, so nothing is known of the time from {} until then{reason}",
            first.rfc3339(),
            since.rfc3339(),
        ));
    }
    Ok(())
}

//! Reading the events once for all pipelines that take part.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use herd_backtest::{Backtest, BacktestResult, properties_read};
use herd_spec::wire::Window;

use super::admission::{self, Admission};
use super::plot::Plot;
use super::{BacktestCommand, BacktestCommandError, Variant};
use crate::replay::EventReader;

/// What was found.
pub(super) struct Ran {
    /// Rows of the file.
    pub(super) rows: u64,
    /// By pipeline.
    pub(super) results: Vec<BacktestResult>,
    /// By pipeline: events that the collector would refuse, and why the first one.
    pub(super) refused: Vec<(u64, Option<String>)>,
    /// Reading and evaluation together.
    pub(super) took: Duration,
}

/// What is called with each closed window.
type Observer<'p> = Box<dyn FnMut(&Window<'_>) + 'p>;

/// Runs all pipelines over the events of the file.
pub(super) fn run(
    command: &BacktestCommand,
    variants: &[Variant],
    mut plot: Option<&mut Plot>,
) -> Result<Ran, BacktestCommandError> {
    let began = Instant::now();
    let plans = || variants.iter().map(|variant| &variant.plan);
    let properties: Option<BTreeSet<String>> =
        plans().all(admission::is_direct).then(|| plans().flat_map(properties_read).collect());
    let mut reader = EventReader::open(
        &command.events,
        &command.map,
        command.event_type.as_deref(),
        properties,
        admission::alternatives(plans()),
    )?;
    let mut admissions =
        plans().map(Admission::new).collect::<Result<Vec<_>, _>>().map_err(BacktestCommandError::Events)?;
    let mut backtests: Vec<Backtest<Observer<'_>>> = Vec::with_capacity(variants.len());
    for plan in plans() {
        // The plot is of the first pipeline.
        let windows: Observer<'_> = match plot.take() {
            Some(plot) => Box::new(|window: &Window<'_>| plot.take(window)),
            None => Box::new(|_: &Window<'_>| {}),
        };
        backtests.push(Backtest::new(plan, windows));
    }
    let limit = command.limit.unwrap_or(u64::MAX);
    let mut rows = 0;
    while rows < limit
        && let Some(event) = reader.next_event()
    {
        let event = event?;
        rows += 1;
        for (admission, backtest) in admissions.iter_mut().zip(&mut backtests) {
            admission.push(&event, backtest)?;
        }
    }
    let mut results = Vec::with_capacity(variants.len());
    for backtest in backtests {
        let end = backtest.end();
        results.push(backtest.finish(end)?.0);
    }
    let refused = admissions.into_iter().map(|admission| (admission.refused, admission.reason)).collect();
    let ran = Ran { rows, results, refused, took: began.elapsed() };
    if ran.results.iter().all(|result| result.counts.events == 0) {
        let why = match ran.refused.iter().find_map(|(_, reason)| reason.as_ref()) {
            Some(reason) => {
                format!("the collector would refuse all {rows} events, the first one because {reason}")
            }
            None => "the file contains no events".to_owned(),
        };
        return Err(BacktestCommandError::NoEvents { path: command.events.clone(), why });
    }
    Ok(ran)
}

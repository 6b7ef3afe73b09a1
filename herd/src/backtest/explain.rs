//! A second pass over the events, for the alerts that are shown or written: why they were raised.

use std::time::Duration;

use herd_backtest::Explainer;
use herd_spec::plan::Plan;
use herd_spec::wire::Alert;

use super::BacktestCommandError;
use super::admission::Admission;
use super::input::{Input, InputEvent};
use super::time::TimeRange;

/// Adds the explanations of the first `most` alerts that are explained. `input` has the fields by which they are, and gives the same
/// events as for the alerts: those of the time `read`, the first `limit` of them.
pub(super) fn explain(
    input: &Input<'_>,
    read: &TimeRange,
    limit: Option<u64>,
    plan: &Plan,
    alerts: &mut [Alert],
    most: usize,
) -> Result<(), BacktestCommandError> {
    let mut explainer = Explainer::new(plan, alerts, most);
    let Some((begin, end)) = explainer.range() else { return Ok(()) };
    let needed = TimeRange { since: Some(begin), until: Some(end), warmup: Some(Duration::ZERO) };
    // Which events are the first ones is not known from a part of the time.
    let mut opened = input.open(if limit.is_some() { read } else { &needed })?;
    let mut admission = Admission::new(plan).map_err(BacktestCommandError::Events)?;
    let mut rest = limit.unwrap_or(u64::MAX);
    while rest > 0
        && let Some(event) = opened.events.next_event()
    {
        let event = event?;
        if !read.reads(event.time()) {
            continue;
        }
        rest -= 1;
        if !needed.reads(event.time()) {
            continue;
        }
        match event {
            InputEvent::Recorded(event) => admission.push(&event, &mut |_, event| {
                explainer.add(event);
                Ok(())
            })?,
            InputEvent::Accepted { event, .. } => explainer.add(&event),
        }
    }
    for (place, explanation) in explainer.finish() {
        alerts[place].explanation = Some(explanation);
    }
    Ok(())
}

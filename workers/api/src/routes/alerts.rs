//! Alerts, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use herd_spec::units::EventTime;
use herd_spec::wire::{AlertState, Severity};
use herd_store::AlertFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::live::PAGE_ALERTS;
use crate::problem::{Ask, Problem, ProblemShape, limit};
use crate::shapes::{AlertShape, AlertsShape};

const MOST_ALERTS: u32 = 1_000;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertsQuery {
    /// `firing` (going on, also while the window is open) or `resolved`. Left out: both.
    state: Option<String>,
    /// Of this detector.
    detector: Option<String>,
    /// Of this metric.
    metric: Option<String>,
    /// Of this key.
    key: Option<String>,
    /// `info`, `warning` or `critical`.
    severity: Option<String>,
    /// Whose window starts at or after this time.
    from: Option<i64>,
    /// Whose window starts before this time.
    to: Option<i64>,
    /// So many, 1 to 1000. Left out: 100. The first page may be longer by alerts that are on their way to the store.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl AlertsQuery {
    fn filter(self) -> Result<AlertFilter, Problem> {
        let states = match self.state.as_deref() {
            None => Vec::new(),
            Some("firing") => vec![AlertState::Early, AlertState::Firing],
            Some("resolved") => vec![AlertState::Resolved],
            Some(other) => {
                return Err(Problem::invalid(format!("state: `{other}` is none: write firing or resolved")));
            }
        };
        let severity = match self.severity.as_deref() {
            None => None,
            Some("info") => Some(Severity::Info),
            Some("warning") => Some(Severity::Warning),
            Some("critical") => Some(Severity::Critical),
            Some(other) => {
                let detail = format!("severity: `{other}` is none: write info, warning or critical");
                return Err(Problem::invalid(detail));
            }
        };
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Problem::invalid(format!("from: {from} is not before to, {to}")));
        }
        if let Some(cursor) = &self.cursor {
            place(cursor)?;
        }
        Ok(AlertFilter {
            states,
            detector: self.detector,
            metric: self.metric,
            key: self.key,
            severity,
            from: self.from.map(EventTime),
            to: self.to.map(EventTime),
            limit: limit(self.limit, PAGE_ALERTS, MOST_ALERTS)?,
            cursor: self.cursor,
        })
    }
}

/// Alerts, newest window first
///
/// Without a store: those seen since this stage started, and the latest before it. So it is while the store does not answer, and
/// `missing` says so.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "live", params(AlertsQuery),
    responses(
        (status = OK, body = AlertsShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn alerts(
    State(app): State<Arc<App>>,
    Ask(query): Ask<AlertsQuery>,
) -> Result<Json<AlertsShape>, Problem> {
    let filter = query.filter()?;
    let live = |missing| {
        let all = app.live.lock().live_alerts(&filter);
        live_page(all, &filter).map(|page| Json(AlertsShape { missing, ..page }))
    };
    if app.history.is_none() {
        return live(None);
    }
    match stored_alerts(&app, &filter).await {
        Ok(stored) => Ok(Json(app.live.lock().alerts(&filter, stored))),
        Err(problem) if problem.is_unavailable() => live(Some(problem.detail)),
        Err(problem) => Err(problem),
    }
}

/// A page of the store; empty without a store.
///
/// # Errors
/// 503 if it does not answer, 400 if the cursor is none of its own.
pub(crate) async fn stored_alerts(app: &App, filter: &AlertFilter) -> Result<AlertsShape, Problem> {
    let Some(history) = &app.history else { return Ok(AlertsShape::default()) };
    let page = history.answer(history.store()?.alerts(filter)).await?;
    Ok(AlertsShape {
        alerts: page.alerts.into_iter().map(|stored| AlertShape::of(stored.alert, stored.raised)).collect(),
        next_cursor: page.next_cursor,
        missing: None,
    })
}

/// Where a page ended: `START.ID` of its last alert, in the store's pages and in live ones.
fn place(cursor: &str) -> Result<(i64, &str), Problem> {
    cursor
        .split_once('.')
        .and_then(|(start, id)| Some((start.parse::<i64>().ok()?, id)))
        .ok_or_else(|| Problem::invalid(format!("cursor: `{cursor}` is none of ours")))
}

/// A page of live alerts.
fn live_page(all: Vec<AlertShape>, filter: &AlertFilter) -> Result<AlertsShape, Problem> {
    let after = filter.cursor.as_deref().map(place).transpose()?;
    let rest =
        all.into_iter().filter(|alert| after.is_none_or(|after| (alert.start, alert.id.as_str()) < after));
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut alerts: Vec<AlertShape> = rest.take(limit.saturating_add(1)).collect();
    let more = alerts.len() > limit;
    alerts.truncate(limit);
    let next_cursor = alerts.last().filter(|_| more).map(|last| format!("{}.{}", last.start, last.id));
    Ok(AlertsShape { alerts, next_cursor, missing: None })
}

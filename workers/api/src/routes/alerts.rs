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
use crate::problem::{ProblemShape, QueryParams, limit};
use crate::shapes::{AlertShape, AlertsShape};
use herd_stage::Problem;

const MOST_ALERTS: u32 = 1_000;

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AlertsQuery {
    /// `firing` (open alerts, including early ones) or `resolved`. Omitted: both.
    state: Option<String>,
    /// Only alerts of this detector.
    detector: Option<String>,
    /// Only alerts of this metric.
    metric: Option<String>,
    /// Only alerts of this key.
    key: Option<String>,
    /// Only alerts of this severity: `info`, `warning` or `critical`.
    severity: Option<String>,
    /// Only alerts whose window starts at or after this time.
    from: Option<i64>,
    /// Only alerts whose window starts before this time.
    to: Option<i64>,
    /// Page size, 1 to 1000. Omitted: 100. The first page may be longer by alerts that are not in the store yet.
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

impl AlertsQuery {
    fn filter(self) -> Result<AlertFilter, Problem> {
        let states = match self.state.as_deref() {
            None => Vec::new(),
            Some("firing") => vec![AlertState::Early, AlertState::Firing],
            Some("resolved") => vec![AlertState::Resolved],
            Some(other) => {
                return Err(Problem::invalid(format!(
                    "state: `{other}` is not a state; use firing or resolved"
                )));
            }
        };
        let severity = match self.severity.as_deref() {
            None => None,
            Some("info") => Some(Severity::Info),
            Some("warning") => Some(Severity::Warning),
            Some("critical") => Some(Severity::Critical),
            Some(other) => {
                let detail = format!("severity: `{other}` is not a severity; use info, warning or critical");
                return Err(Problem::invalid(detail));
            }
        };
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from >= to
        {
            return Err(Problem::invalid(format!("from: {from} is not before `to` ({to})")));
        }
        if let Some(cursor) = &self.cursor {
            parse_cursor(cursor)?;
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
/// Without a store, or while it is unavailable (then with `missing`), only alerts since the start of this stage and the latest before
/// it are returned.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "live", params(AlertsQuery),
    responses(
        (status = OK, body = AlertsShape),
        (status = BAD_REQUEST, body = ProblemShape, content_type = "application/problem+json")
    )
)]
pub(crate) async fn alerts(
    State(app): State<Arc<App>>,
    QueryParams(query): QueryParams<AlertsQuery>,
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

/// A page of alerts of the store; empty without a store.
///
/// # Errors
/// 503 if the store is unavailable, 400 if the cursor is invalid.
pub(crate) async fn stored_alerts(app: &App, filter: &AlertFilter) -> Result<AlertsShape, Problem> {
    let Some(history) = &app.history else { return Ok(AlertsShape::default()) };
    let page = history.query(history.store()?.alerts(filter)).await?;
    Ok(AlertsShape {
        alerts: page.alerts.into_iter().map(AlertShape::from).collect(),
        next_cursor: page.next_cursor,
        missing: None,
    })
}

/// Parses a cursor: `START.ID` of the last alert of a page.
fn parse_cursor(cursor: &str) -> Result<(i64, &str), Problem> {
    cursor.split_once('.').and_then(|(start, id)| Some((start.parse::<i64>().ok()?, id))).ok_or_else(|| {
        Problem::invalid(format!("cursor: `{cursor}` is not valid; use next_cursor of the previous page"))
    })
}

/// A page of live alerts.
fn live_page(all: Vec<AlertShape>, filter: &AlertFilter) -> Result<AlertsShape, Problem> {
    let after = filter.cursor.as_deref().map(parse_cursor).transpose()?;
    let rest =
        all.into_iter().filter(|alert| after.is_none_or(|after| (alert.start, alert.id.as_str()) < after));
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut alerts: Vec<AlertShape> = rest.take(limit.saturating_add(1)).collect();
    let more = alerts.len() > limit;
    alerts.truncate(limit);
    let next_cursor = alerts.last().filter(|_| more).map(|last| format!("{}.{}", last.start, last.id));
    Ok(AlertsShape { alerts, next_cursor, missing: None })
}

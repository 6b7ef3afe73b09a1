//! Alerts: reads of the api stage, and what people say of them.

use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState, Ending, Episode, Fingerprint, Severity, VERSION};
use serde::Serialize;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::error::sort;
use crate::read::{capped, fetch, row};
use crate::{Dialect, Store, StoreError};

/// Filter of alerts. The default selects the newest 100; withdrawn alerts are never returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertFilter {
    /// Only these states; empty: all.
    pub states: Vec<AlertState>,
    /// Only this detector.
    pub detector: Option<String>,
    /// Only this metric.
    pub metric: Option<String>,
    /// Only this key.
    pub key: Option<String>,
    /// Only this severity.
    pub severity: Option<Severity>,
    /// Only windows that start at or after this time.
    pub from: Option<EventTime>,
    /// Only windows that start before this time.
    pub to: Option<EventTime>,
    /// Page size, at most [`crate::MAX_ROWS`].
    pub limit: u32,
    /// [`AlertPage::next_cursor`] of the previous page.
    pub cursor: Option<String>,
}

impl Default for AlertFilter {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            detector: None,
            metric: None,
            key: None,
            severity: None,
            from: None,
            to: None,
            limit: 100,
            cursor: None,
        }
    }
}

/// An alert in the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredAlert {
    /// Its newest record: the highest state, and in it the latest end of the episode; with the latest explanation of all records.
    #[serde(flatten)]
    pub alert: Alert,
    /// Time at which it was first raised, by the clock of the detector.
    pub raised: WallTime,
    /// When it first was in each state that was stored, in the order of states; empty in rows from before this was recorded.
    pub history: Vec<StateChange>,
    /// Whether people found it useful: their last word. None: nobody said.
    pub useful: Option<bool>,
}

/// The first record of an alert in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// The state.
    pub state: AlertState,
    /// When the earliest record of it was sent, by the clock of the detector.
    pub at: WallTime,
}

/// A page of alerts, newest window first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<StoredAlert>,
    /// [`AlertFilter::cursor`] of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

row! {
    struct AlertRow {
        id: String,
        pipeline: String,
        detector: String,
        metric: String,
        key: String,
        severity: String,
        state: String,
        start: i64,
        size_ms: i64,
        span_ms: Option<i64>,
        count: i64,
        value: f64,
        expected: f64,
        spread: f64,
        score: f64,
        summary: String,
        resolved: Option<i64>,
        since: Option<i64>,
        until: Option<i64>,
        peak: Option<f64>,
        peak_start: Option<i64>,
        excess: Option<f64>,
        ending: Option<String>,
        level: Option<f64>,
        raised: i64,
        early_at: Option<i64>,
        firing_at: Option<i64>,
        resolved_at: Option<i64>,
        withdrawn_at: Option<i64>,
        useful: Option<bool>,
        explanation: Option<String>,
    }
}

row! {
    struct KnownRow {
        known: bool,
    }
}

impl AlertRow {
    fn episode(&self) -> Option<Episode> {
        Some(Episode {
            since: EventTime(self.since?),
            until: EventTime(self.until?),
            peak: self.peak?,
            peak_start: EventTime(self.peak_start?),
            excess: self.excess?,
            ending: match (self.ending.as_deref(), self.level) {
                (Some(USUAL), _) => Some(Ending::Usual),
                (Some(NEW_LEVEL), Some(level)) => Some(Ending::NewLevel(level)),
                _ => None,
            },
        })
    }

    fn history(&self) -> Vec<StateChange> {
        [
            (AlertState::Early, self.early_at),
            (AlertState::Firing, self.firing_at),
            (AlertState::Resolved, self.resolved_at),
            (AlertState::Withdrawn, self.withdrawn_at),
        ]
        .into_iter()
        .filter_map(|(state, at)| Some(StateChange { state, at: WallTime(at?) }))
        .collect()
    }

    fn into_alert(self) -> Option<StoredAlert> {
        // Enums were stored with their serializer and are parsed with it.
        let word = |text: String| serde_json::Value::String(text);
        Some(StoredAlert {
            history: self.history(),
            useful: self.useful,
            raised: WallTime(self.raised),
            alert: Alert {
                v: VERSION,
                episode: self.episode(),
                // Stored with its serializer as well.
                explanation: self.explanation.and_then(|json| serde_json::from_str(&json).ok()),
                id: AlertId(self.id),
                pipeline: self.pipeline,
                detector: self.detector,
                metric: self.metric,
                rule: Fingerprint::default(),
                key: self.key,
                severity: serde_json::from_value(word(self.severity)).ok()?,
                state: serde_json::from_value(word(self.state)).ok()?,
                start: EventTime(self.start),
                size_ms: self.size_ms.unsigned_abs(),
                span_ms: self.span_ms.unwrap_or(self.size_ms).unsigned_abs(),
                count: self.count.unsigned_abs(),
                value: self.value,
                expected: self.expected,
                spread: self.spread,
                score: self.score,
                summary: self.summary,
                resolved: self.resolved.map(EventTime),
            },
        })
    }
}

/// What the column `ending` holds.
pub(crate) const USUAL: &str = "usual";
pub(crate) const NEW_LEVEL: &str = "new_level";

/// Parses a cursor: `start`, a dot, `id`.
fn parse_cursor(written: &str) -> Option<(i64, String)> {
    let (start, id) = written.split_once('.')?;
    Some((start.parse().ok()?, id.to_owned()))
}

impl Store {
    /// Alerts, newest window first, page by page.
    ///
    /// # Errors
    /// If the database is unavailable, or the cursor is invalid ([`StoreError::Refused`]).
    pub async fn alerts(&self, filter: &AlertFilter) -> Result<AlertPage, StoreError> {
        let after = match &filter.cursor {
            None => None,
            Some(written) => Some(parse_cursor(written).ok_or_else(|| {
                let why = format!("`{written}` is not a cursor: use `next_cursor` of the previous page");
                StoreError::refused("reading alerts", why)
            })?),
        };
        let any = [AlertState::Early, AlertState::Firing, AlertState::Resolved];
        let states: &[AlertState] = if filter.states.is_empty() { &any } else { &filter.states };
        let names: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        let limit = capped(filter.limit);
        let mut rows: Vec<AlertRow> = fetch!(
            self,
            "reading alerts",
            AlertRow,
            fetch_all,
            "alerts_read",
            [
                states.iter().all(|state| state.is_firing()),
                serde_json::to_string(&names).unwrap_or_default(),
                filter.detector.as_deref(),
                filter.metric.as_deref(),
                filter.key.as_deref(),
                filter.severity.map(severity_word),
                filter.from.map(|time| time.0),
                filter.to.map(|time| time.0),
                after.as_ref().map(|(start, _)| *start),
                after.as_ref().map(|(_, id)| id.as_str()),
                limit + 1,
            ]
        )?;
        let more = rows.len() as i64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next_cursor = rows.last().filter(|_| more).map(|last| format!("{}.{}", last.start, last.id));
        Ok(AlertPage { alerts: rows.into_iter().filter_map(AlertRow::into_alert).collect(), next_cursor })
    }

    /// Whether an alert is stored and not withdrawn.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn has_alert(&self, id: &AlertId) -> Result<bool, StoreError> {
        let row: KnownRow =
            fetch!(self, "looking up an alert", KnownRow, fetch_one, "alert_known", [id.0.as_str()])?;
        Ok(row.known)
    }

    /// Stores whether people found an alert useful, as said at `time`: of several words, the latest counts. The alert need not be
    /// stored yet; one row an alert is kept.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn set_feedback(&self, id: &AlertId, useful: bool, time: WallTime) -> Result<(), StoreError> {
        let written = match &self.0 {
            Dialect::Postgres(store) => sqlx::query(include_str!("../sql/feedback_write.postgres.sql"))
                .bind(&id.0)
                .bind(useful)
                .bind(time.0)
                .execute(&store.pool)
                .await
                .map(drop),
            Dialect::Sqlite(store) => sqlx::query(include_str!("../sql/feedback_write.sqlite.sql"))
                .bind(&id.0)
                .bind(useful)
                .bind(time.0)
                .execute(&store.writer)
                .await
                .map(drop),
        };
        written.map_err(|error| sort("storing feedback on an alert", error))
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

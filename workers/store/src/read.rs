//! Reads: the queries of the api stage.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState, Definition, Event, Severity, VERSION, Window};
use serde::Serialize;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::error::sort;
use crate::{Dialect, Store, StoreError};

/// Maximum number of rows of any read.
pub const MAX_ROWS: u32 = 10_000;

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
    /// Page size, at most [`MAX_ROWS`].
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
    /// Its record with the highest state.
    #[serde(flatten)]
    pub alert: Alert,
    /// Time at which it was first raised, by the clock of the detector.
    pub raised: WallTime,
}

/// A page of alerts, newest window first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlertPage {
    /// The alerts.
    pub alerts: Vec<StoredAlert>,
    /// [`AlertFilter::cursor`] of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// Statistics of a user.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UserStats {
    /// The user.
    pub user_id: String,
    /// Number of events.
    pub events: i64,
    /// Number of events of type `purchase` or `order`.
    pub purchases: i64,
    /// Revenue, exact to a millionth in the store.
    pub revenue: f64,
    /// Number of sessions: sequences of events without a gap of more than 30 minutes.
    pub sessions: i64,
    /// Time of the earliest event.
    pub first_seen: EventTime,
    /// Time of the latest event.
    pub last_seen: EventTime,
}

/// Order of users, descending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserOrder {
    /// By revenue.
    #[default]
    Revenue,
    /// By number of events.
    Events,
    /// By the time of their latest event.
    LastSeen,
}

impl UserOrder {
    /// Its name, which is also the column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revenue => "revenue",
            Self::Events => "events",
            Self::LastSeen => "last_seen",
        }
    }
}

impl fmt::Display for UserOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for UserOrder {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        [Self::Revenue, Self::Events, Self::LastSeen]
            .into_iter()
            .find(|order| order.as_str() == written)
            .ok_or_else(|| {
                format!("`{written}` is not an order of users; use `revenue`, `events` or `last_seen`")
            })
    }
}

/// Numbers of stored rows. Cheap, because writers maintain them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events.
    pub events: i64,
    /// Closed windows.
    pub windows: i64,
    /// Alerts, including withdrawn ones.
    pub alerts: i64,
    /// Open alerts.
    pub alerts_firing: i64,
}

/// Runs the statement of the store's dialect: `fetch!(store, "doing what", Row, fetch_all, "file", [binds])`.
macro_rules! fetch {
    ($store:expr, $doing:literal, $row:ty, $how:ident, $file:literal, [$($bind:expr),* $(,)?]) => {
        match &$store.0 {
            Dialect::Postgres(store) => {
                sqlx::query_as::<_, $row>(include_str!(concat!("../sql/", $file, ".postgres.sql")))
                    $(.bind($bind))*
                    .$how(&store.pool)
                    .await
            }
            Dialect::Sqlite(store) => {
                sqlx::query_as::<_, $row>(include_str!(concat!("../sql/", $file, ".sqlite.sql")))
                    $(.bind($bind))*
                    .$how(&store.pool)
                    .await
            }
        }
        .map_err(|error| sort($doing, error))
    };
}

/// A row of either database, its columns named like its fields. By hand, because sqlx's derive compiles sqlx and both its
/// databases once more, for the compiler.
macro_rules! row {
    (struct $name:ident { $($field:ident: $type:ty,)* }) => {
        struct $name {
            $($field: $type,)*
        }

        impl<'r, R: Row> FromRow<'r, R> for $name
        where
            &'static str: ColumnIndex<R>,
            $($type: Decode<'r, R::Database> + Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                Ok(Self { $($field: row.try_get(stringify!($field))?,)* })
            }
        }
    };
}

row! {
    struct WindowRow {
        start: i64,
        size_ms: i64,
        count: i64,
        value: f64,
        bands: String,
    }
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
        count: i64,
        value: f64,
        expected: f64,
        spread: f64,
        score: f64,
        summary: String,
        resolved: Option<i64>,
        raised: i64,
    }
}

row! {
    struct EventRow {
        event_id: String,
        event_type: String,
        user_id: Option<String>,
        item_id: Option<String>,
        time: i64,
        received: i64,
        properties: String,
    }
}

row! {
    struct StatsRow {
        user_id: String,
        events: i64,
        purchases: i64,
        revenue: f64,
        sessions: i64,
        first_seen: i64,
        last_seen: i64,
    }
}

row! {
    struct CountsRow {
        events: i64,
        windows: i64,
        alerts: i64,
        alerts_firing: i64,
    }
}

impl From<StatsRow> for UserStats {
    fn from(row: StatsRow) -> Self {
        Self {
            user_id: row.user_id,
            events: row.events,
            purchases: row.purchases,
            revenue: row.revenue,
            sessions: row.sessions,
            first_seen: EventTime(row.first_seen),
            last_seen: EventTime(row.last_seen),
        }
    }
}

impl AlertRow {
    fn into_alert(self) -> Option<StoredAlert> {
        // Enums were stored with their serializer and are parsed with it.
        let word = |text: String| serde_json::Value::String(text);
        Some(StoredAlert {
            alert: Alert {
                v: VERSION,
                id: AlertId(self.id),
                pipeline: self.pipeline,
                detector: self.detector,
                metric: self.metric,
                rule: Definition::default(),
                key: self.key,
                severity: serde_json::from_value(word(self.severity)).ok()?,
                state: serde_json::from_value(word(self.state)).ok()?,
                start: EventTime(self.start),
                size_ms: self.size_ms.unsigned_abs(),
                span_ms: self.size_ms.unsigned_abs(),
                count: self.count.unsigned_abs(),
                value: self.value,
                expected: self.expected,
                spread: self.spread,
                score: self.score,
                summary: self.summary,
                resolved: self.resolved.map(EventTime),
                episode: None,
            },
            raised: WallTime(self.raised),
        })
    }
}

/// Parses a cursor: `start`, a dot, `id`.
fn parse_cursor(written: &str) -> Option<(i64, String)> {
    let (start, id) = written.split_once('.')?;
    Some((start.parse().ok()?, id.to_owned()))
}

fn capped(limit: u32) -> i64 {
    i64::from(limit.clamp(1, MAX_ROWS))
}

impl Store {
    /// Closed windows of a key that start in `[from, to)`, oldest first; above `limit`, the newest ones. Only windows of this
    /// definition of the metric, and windows stored before definitions were recorded.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn windows(
        &self,
        metric: &str,
        definition: Definition,
        key: &str,
        from: Option<EventTime>,
        to: Option<EventTime>,
        limit: u32,
    ) -> Result<Vec<Window<'static>>, StoreError> {
        let written = definition.to_string();
        let rows: Vec<WindowRow> = fetch!(
            self,
            "reading windows",
            WindowRow,
            fetch_all,
            "windows_read",
            [metric, key, from.map(|time| time.0), to.map(|time| time.0), capped(limit), &written]
        )?;
        let window = |row: WindowRow| Window {
            v: VERSION,
            metric: Cow::Owned(metric.to_owned()),
            definition,
            key: Cow::Owned(key.to_owned()),
            start: EventTime(row.start),
            size_ms: row.size_ms.unsigned_abs(),
            count: row.count.unsigned_abs(),
            value: row.value,
            is_final: true,
            bands: serde_json::from_str(&row.bands).unwrap_or_default(),
        };
        Ok(rows.into_iter().rev().map(window).collect())
    }

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

    /// Events of a user before a time, newest first. Events of the same millisecond are not split, so a page may be longer than
    /// `limit` (by at most [`MAX_ROWS`]); the next page is the one before the time of its last event.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn user_events(
        &self,
        user: &str,
        before: Option<EventTime>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let limit = capped(limit);
        let rows: Vec<EventRow> = fetch!(
            self,
            "reading a user's events",
            EventRow,
            fetch_all,
            "user_events_read",
            [user, before.map(|time| time.0), limit, limit + i64::from(MAX_ROWS)]
        )?;
        let event = |row: EventRow| Event {
            v: VERSION,
            event_id: row.event_id,
            event_type: row.event_type,
            user_id: row.user_id,
            item_id: row.item_id,
            time: EventTime(row.time),
            received: WallTime(row.received),
            properties: serde_json::from_str(&row.properties).unwrap_or_default(),
        };
        Ok(rows.into_iter().map(event).collect())
    }

    /// Statistics of a user; `None` if the user is unknown.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn user_stats(&self, user: &str) -> Result<Option<UserStats>, StoreError> {
        let row: Option<StatsRow> =
            fetch!(self, "reading a user's statistics", StatsRow, fetch_optional, "user_stats_read", [user])?;
        Ok(row.map(UserStats::from))
    }

    /// The first `limit` users in an order. Reads all users, so it must not be called frequently.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn top_users(&self, order: UserOrder, limit: u32) -> Result<Vec<UserStats>, StoreError> {
        let rows: Vec<StatsRow> = fetch!(
            self,
            "ranking users",
            StatsRow,
            fetch_all,
            "user_stats_top",
            [order.as_str(), capped(limit)]
        )?;
        Ok(rows.into_iter().map(UserStats::from).collect())
    }

    /// Checks that the database responds.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let doing = "health check of the database";
        let asked = match &self.0 {
            Dialect::Postgres(store) => sqlx::query("SELECT 1").execute(&store.pool).await.map(drop),
            Dialect::Sqlite(store) => sqlx::query("SELECT 1").execute(&store.pool).await.map(drop),
        };
        asked.map_err(|error| sort(doing, error))
    }

    /// Numbers of stored rows.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let row: CountsRow = fetch!(self, "counting", CountsRow, fetch_one, "counts", [])?;
        Ok(Counts {
            events: row.events,
            windows: row.windows,
            alerts: row.alerts,
            alerts_firing: row.alerts_firing,
        })
    }
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

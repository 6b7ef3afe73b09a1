//! Reads: the queries of the api stage.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use herd_spec::units::{EventTime, WallTime};
use herd_spec::wire::{Event, Fingerprint, VERSION, Window};
use serde::Serialize;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use crate::error::sort;
use crate::{Dialect, Store, StoreError};

/// Maximum number of rows of any read.
pub const MAX_ROWS: u32 = 10_000;

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
pub(crate) use fetch;

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
pub(crate) use row;

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

pub(crate) fn capped(limit: u32) -> i64 {
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
        definition: Fingerprint,
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

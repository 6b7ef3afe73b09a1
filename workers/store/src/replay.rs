//! All events again, and what people said of the alerts: the reads of `herd backtest`.

use futures_util::TryStreamExt as _;
use herd_spec::units::{EventTime, Partition, WallTime};
use herd_spec::wire::{AlertId, EventRef, VERSION};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use tokio::sync::mpsc::Sender;

use crate::error::sort;
use crate::fault::Place;
use crate::read::{fetch, row};
use crate::{Dialect, Store, StoreError};

/// Events of a message, so that a message costs little beside them.
const BATCH: usize = 1_024;

/// A stored event with its place in the `events` topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The partition that it was read from.
    pub partition: Partition,
    event_id: String,
    event_type: String,
    user_id: Option<String>,
    item_id: Option<String>,
    time: EventTime,
    received: WallTime,
    properties: String,
}

impl StoredEvent {
    /// The event as its record had it.
    ///
    /// # Errors
    /// If the stored properties are not JSON.
    pub fn event(&self) -> Result<EventRef<'_>, serde_json::Error> {
        let properties = match self.properties.as_str() {
            "{}" => None,
            written => Some(serde_json::from_str(written)?),
        };
        Ok(EventRef {
            v: VERSION,
            event_id: self.event_id.as_str().into(),
            event_type: self.event_type.as_str().into(),
            user_id: self.user_id.as_deref().map(Into::into),
            item_id: self.item_id.as_deref().map(Into::into),
            time: self.time,
            received: self.received,
            properties,
        })
    }
}

/// Which events there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTimes {
    /// Time of the earliest event.
    pub first: EventTime,
    /// Time of the latest event.
    pub last: EventTime,
}

/// A stored alert of which somebody said whether it was useful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedAlert {
    /// Its id.
    pub id: AlertId,
    /// Its metric.
    pub metric: String,
    /// Its key.
    pub key: String,
    /// When it began.
    pub from: EventTime,
    /// When it was over, or the end of its latest window.
    pub until: EventTime,
    /// Whether it was useful.
    pub useful: bool,
}

row! {
    struct ReplayRow {
        source_partition: i32,
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
    struct TimesRow {
        first: Option<i64>,
        last: Option<i64>,
    }
}

row! {
    struct PartitionsRow {
        newest: Option<i32>,
    }
}

row! {
    struct JudgedRow {
        id: String,
        metric: String,
        alert_key: String,
        began: i64,
        ended: i64,
        useful: bool,
    }
}

impl From<ReplayRow> for StoredEvent {
    fn from(row: ReplayRow) -> Self {
        Self {
            partition: Partition(row.source_partition.unsigned_abs()),
            event_id: row.event_id,
            event_type: row.event_type,
            user_id: row.user_id,
            item_id: row.item_id,
            time: EventTime(row.time),
            received: WallTime(row.received),
            properties: row.properties,
        }
    }
}

impl Store {
    /// Sends all events with times from `since` to before `until` into `to`, one statement's snapshot of them: those of a partition
    /// in the order of their offsets, and of several partitions first the one whose latest event so far is the earliest, so that
    /// windows can be closed soon. The database sorts them; here only a few batches are held. Ends when `to` is closed.
    ///
    /// # Errors
    /// If the database is unavailable or has no such tables.
    pub async fn replay(
        &self,
        since: Option<EventTime>,
        until: Option<EventTime>,
        to: &Sender<Vec<StoredEvent>>,
    ) -> Result<(), StoreError> {
        let (since, until) = (since.map(|time| time.0), until.map(|time| time.0));
        let sent = match &self.0 {
            Dialect::Postgres(store) => {
                let query = sqlx::query_as::<_, ReplayRow>(include_str!("../sql/replay.postgres.sql"));
                send(query.bind(since).bind(until).fetch(&store.pool), to).await
            }
            Dialect::Sqlite(store) => {
                let query = sqlx::query_as::<_, ReplayRow>(include_str!("../sql/replay.sqlite.sql"));
                send(query.bind(since).bind(until).fetch(&store.pool), to).await
            }
        };
        sent.map_err(|error| sort("reading the events", error).at(self.place()))
    }

    /// The times of the events; none if there are none. Reads all of them.
    ///
    /// # Errors
    /// If the database is unavailable or has no such tables.
    pub async fn event_times(&self) -> Result<Option<EventTimes>, StoreError> {
        let row: Result<TimesRow, StoreError> =
            fetch!(self, "looking for the times of events", TimesRow, fetch_one, "event_times", []);
        let row = row.map_err(|error| error.at(self.place()))?;
        let times = row.first.zip(row.last);
        Ok(times.map(|(first, last)| EventTimes { first: EventTime(first), last: EventTime(last) }))
    }

    /// Alerts of which somebody said whether they were useful, newest first, at most `limit` of them, from those that began in the
    /// given time.
    ///
    /// # Errors
    /// If the database is unavailable or has no such tables.
    pub async fn judged_alerts(
        &self,
        since: Option<EventTime>,
        until: Option<EventTime>,
        limit: u32,
    ) -> Result<Vec<JudgedAlert>, StoreError> {
        let (since, until) = (since.map(|time| time.0), until.map(|time| time.0));
        let rows: Result<Vec<JudgedRow>, StoreError> = fetch!(
            self,
            "reading the feedback on alerts",
            JudgedRow,
            fetch_all,
            "judged_alerts",
            [since, until, i64::from(limit)]
        );
        let rows = rows.map_err(|error| error.at(self.place()))?;
        let judged = |row: JudgedRow| JudgedAlert {
            id: AlertId(row.id),
            metric: row.metric,
            key: row.alert_key,
            from: EventTime(row.began),
            until: EventTime(row.ended),
            useful: row.useful,
        };
        Ok(rows.into_iter().map(judged).collect())
    }

    /// The number of partitions from which events were stored. Cheap.
    ///
    /// # Errors
    /// If the database is unavailable or has no such tables.
    pub async fn event_partitions(&self) -> Result<u32, StoreError> {
        let row: Result<PartitionsRow, StoreError> = fetch!(
            self,
            "looking for the partitions of events",
            PartitionsRow,
            fetch_one,
            "event_partitions",
            []
        );
        let row = row.map_err(|error| error.at(self.place()))?;
        Ok(row.newest.map_or(0, |newest| newest.unsigned_abs().saturating_add(1)))
    }

    fn place(&self) -> &Place {
        match &self.0 {
            Dialect::Postgres(store) => &store.place,
            Dialect::Sqlite(store) => &store.place,
        }
    }
}

async fn send(
    mut rows: impl futures_util::Stream<Item = sqlx::Result<ReplayRow>> + Unpin,
    to: &Sender<Vec<StoredEvent>>,
) -> sqlx::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(row) = rows.try_next().await? {
        batch.push(row.into());
        if batch.len() == BATCH
            && to.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await.is_err()
        {
            return Ok(()); // nobody reads any more
        }
    }
    if !batch.is_empty() {
        let _ = to.send(batch).await; // as above
    }
    Ok(())
}

//! The store under the sinks, with failures before, in and after a transaction. For most seeds it is in memory, with the
//! fence and the conflict rules of the SQL and a memory of what was done to it; for some it is SQLite itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use herd_bus::simulated::{Dice, SimulatedBus};
use herd_spec::units::{Offset, Partition, WallTime};
use herd_store::{Advance, Rows, Store, StoreError, Table, Tables, Writer, Written};
use parking_lot::Mutex;
use serde_json::Value;
use sqlx::Row;
use tempfile::TempDir;

#[derive(Clone)]
pub(crate) enum Database {
    Memory(Arc<Mutex<Contents>>),
    Sqlite(Arc<TempDir>, Store),
}

#[derive(Clone, Default)]
pub(crate) struct Contents {
    pub(crate) offsets: BTreeMap<(String, Partition), Offset>,
    /// By id: where the event was found.
    pub(crate) events: BTreeMap<String, (i64, i64)>,
    /// By metric, key and start: count and value.
    pub(crate) windows: BTreeMap<(String, String, i64), (u64, f64)>,
    /// Ids and ranks.
    pub(crate) alerts: BTreeMap<String, u64>,
    /// Only SQL works these out.
    pub(crate) users: Option<BTreeMap<String, User>>,
    /// Moves of a position from where it did not stand.
    pub(crate) jumps: Vec<String>,
}

/// A row of `user_stats`; times and money as they are stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct User {
    pub(crate) events: i64,
    pub(crate) purchases: i64,
    pub(crate) revenue_micros: i64,
    pub(crate) sessions: i64,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
}

impl Database {
    pub(crate) async fn new(sqlite: bool) -> Self {
        if !sqlite {
            return Self::Memory(Arc::default());
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::sqlite(&folder.path().join("herd.db")).await.unwrap();
        Self::Sqlite(Arc::new(folder), store)
    }

    pub(crate) async fn contents(&self) -> Contents {
        match self {
            Self::Memory(contents) => contents.lock().clone(),
            Self::Sqlite(folder, _) => Contents::of_file(folder).await,
        }
    }

    /// What a feed writes with; none in memory.
    pub(crate) fn writer(&self) -> Option<Writer> {
        match self {
            Self::Memory(_) => None,
            Self::Sqlite(_, store) => Some(store.writer()),
        }
    }
}

/// One feed's way to the database.
pub(crate) struct Connection {
    pub(crate) database: Database,
    pub(crate) writer: Option<Writer>,
    pub(crate) bus: SimulatedBus,
    pub(crate) dice: Dice,
    pub(crate) failures: f64,
    pub(crate) until: WallTime,
    /// Whether positions are moved without looking where they are.
    pub(crate) unfenced: bool,
}

impl Connection {
    fn fails(&mut self) -> Result<(), StoreError> {
        if self.bus.now() < self.until && self.dice.chance(self.failures) {
            return Err(StoreError::Unavailable { doing: "simulating", why: "it is faulty".into() });
        }
        Ok(())
    }
}

impl Tables for Connection {
    fn rows(&self, table: Table) -> Rows {
        self.writer.as_ref().map_or_else(|| Rows::in_json(table), |writer| writer.rows(table))
    }

    async fn positions(
        &mut self,
        topic: &str,
        table: Table,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Offset)>, StoreError> {
        self.fails()?;
        let contents = match (&self.database, &mut self.writer) {
            (_, Some(writer)) => return writer.positions(topic, table, partitions).await,
            (Database::Memory(contents), None) => contents.lock(),
            (Database::Sqlite(..), None) => unreachable!("a feed of SQLite has a writer"),
        };
        let at = |of: &Partition| contents.offsets.get(&(topic.to_owned(), *of)).copied().unwrap_or_default();
        Ok(partitions.iter().map(|of| (*of, at(of))).collect())
    }

    async fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<Written, StoreError> {
        self.fails()?;
        let inserted = match (&self.database, &mut self.writer) {
            (_, Some(writer)) => writer.write(advances, rows, range).await?.inserted,
            (Database::Memory(contents), None) => {
                contents.lock().write(advances, rows, range, self.unfenced)?
            }
            (Database::Sqlite(..), None) => unreachable!("a feed of SQLite has a writer"),
        };
        // The transaction is through, and nobody hears of it.
        self.fails()?;
        Ok(Written { inserted })
    }
}

impl Contents {
    fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: Range<usize>,
        unfenced: bool,
    ) -> Result<u64, StoreError> {
        for advance in advances {
            let Advance { topic, partition, expected, next } = *advance;
            let stands = self.offsets.get(&(topic.to_owned(), partition)).copied().unwrap_or_default();
            if stands != expected && !unfenced {
                return Err(StoreError::Fenced { topic: topic.into(), partition, expected });
            }
            if stands != expected {
                let jump =
                    format!("{topic}/{partition} from {stands} to {next} by one that stood at {expected}");
                self.jumps.push(jump);
            }
        }
        let places = advances.iter().map(|of| ((of.topic.to_owned(), of.partition), of.next));
        self.offsets.extend(places);
        Ok(self.take(rows, range))
    }

    fn take(&mut self, rows: &Rows, range: Range<usize>) -> u64 {
        let all: Vec<Value> = serde_json::from_str(&rows.json(&range)).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut new = 0;
        for row in &all {
            new += u64::from(match rows.table() {
                Table::UserEvents => {
                    let found = (row[7].as_i64().unwrap(), row[8].as_i64().unwrap());
                    let before = self.events.len();
                    self.events.entry(text(&row[0])).or_insert(found);
                    self.events.len() > before
                }
                Table::Windows => {
                    let name = (text(&row[0]), text(&row[1]), row[2].as_i64().unwrap());
                    let before = self.windows.len();
                    self.windows.entry(name).or_insert((row[4].as_u64().unwrap(), row[5].as_f64().unwrap()));
                    self.windows.len() > before
                }
                Table::Alerts => {
                    let (id, rank) = (text(&row["id"]), row["rank"].as_u64().unwrap());
                    let higher = self.alerts.get(&id).is_none_or(|known| *known < rank);
                    if higher {
                        self.alerts.insert(id, rank);
                    }
                    higher
                }
            });
        }
        new
    }

    async fn of_file(folder: &TempDir) -> Self {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join("herd.db"));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let mut contents = Self { users: Some(BTreeMap::new()), ..Self::default() };
        let all = async |sql: &'static str| sqlx::query(sql).fetch_all(&pool).await.unwrap();
        for row in all("SELECT topic, partition, next_offset FROM offsets").await {
            let place = (row.get(0), Partition(row.get(1)));
            contents.offsets.insert(place, Offset(row.get(2)));
        }
        for row in all("SELECT event_id, source_partition, source_offset FROM user_events").await {
            contents.events.insert(row.get(0), (row.get(1), row.get(2)));
        }
        for row in all("SELECT metric, key, start, count, value FROM windows").await {
            let count: i64 = row.get(3);
            contents.windows.insert((row.get(0), row.get(1), row.get(2)), (count.unsigned_abs(), row.get(4)));
        }
        for row in all("SELECT id, rank FROM alerts").await {
            let rank: i64 = row.get(1);
            contents.alerts.insert(row.get(0), rank.unsigned_abs());
        }
        let users = "SELECT user_id, events, purchases, revenue_micros, sessions, first_seen, last_seen FROM user_stats";
        for row in all(users).await {
            let user = User {
                events: row.get(1),
                purchases: row.get(2),
                revenue_micros: row.get(3),
                sessions: row.get(4),
                first_seen: row.get(5),
                last_seen: row.get(6),
            };
            contents.users.get_or_insert_default().insert(row.get(0), user);
        }
        pool.close().await;
        contents
    }
}

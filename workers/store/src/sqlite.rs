//! SQLite: one file, one writer at a time, many readers (WAL), with the same tables and transactions as PostgreSQL.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use herd_spec::units::{Offset, Partition};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::advance::{Advance, Written};
use crate::error::{sort, sort_migration};
use crate::{Place, Rows, StoreError, Table};

#[derive(Clone, Debug)]
pub(crate) struct Sqlite {
    /// A pool of one connection, by which writers wait for each other.
    pub(crate) writer: SqlitePool,
    pub(crate) place: Place,
    pub(crate) pool: SqlitePool,
}

impl Sqlite {
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let doing = "opening the SQLite file";
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| {
                StoreError::refused(
                    doing,
                    format!("cannot create the directory {}: {error}", folder.display()),
                )
            })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode a power failure may lose the last transactions completely: rows and positions, so the records are read again.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(30))
            .pragma("temp_store", "memory")
            .disable_statement_logging();
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(60))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(include_str!("../sql/staging.sqlite.sql")).await?;
                    Ok(())
                })
            })
            .connect_with(options.clone())
            .await
            .map_err(|error| sort(doing, error))?;
        let store = Self {
            writer,
            place: Place::File(path.display().to_string()),
            pool: SqlitePoolOptions::new()
                .max_connections(4)
                .acquire_timeout(Duration::from_secs(10))
                .connect_lazy_with(options.pragma("query_only", "on")),
        };
        store.migrate().await?;
        Ok(store)
    }

    /// Tables that exist, without a connection yet. Sorting all events takes a temporary file, not memory.
    pub(crate) fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            let why = format!("the file {} does not exist", path.display());
            return Err(StoreError::refused("opening the SQLite file", why));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(30))
            .pragma("temp_store", "file")
            .pragma("query_only", "on")
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(10));
        let pool = pool.connect_lazy_with(options);
        Ok(Self { writer: pool.clone(), place: Place::File(path.display().to_string()), pool })
    }

    /// Creates or upgrades the tables in one transaction that locks from its start, so that processes opening the file at the same time
    /// wait for each other (the lock of sqlx has no effect in SQLite).
    async fn migrate(&self) -> Result<(), StoreError> {
        let doing = "creating or upgrading the tables in SQLite";
        let failed = |error| sort(doing, error);
        let mut connection = self.writer.acquire().await.map_err(failed)?;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        crate::migrations::sqlite()
            .run_direct(None, &mut *tx, false)
            .await
            .map_err(|error| sort_migration(doing, error))?;
        tx.commit().await.map_err(failed)
    }
}

#[derive(Debug)]
pub(crate) struct SqliteWriter {
    store: Sqlite,
}

impl SqliteWriter {
    pub(crate) fn new(store: Sqlite) -> Self {
        Self { store }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.store.place
    }

    pub(crate) async fn positions(
        &mut self,
        topic: &str,
        table: Table,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Offset)>, StoreError> {
        let doing = "reading the stored positions";
        let mut connection = self.store.writer.acquire().await.map_err(|error| sort(doing, error))?;
        let positions = positions(&mut connection, topic, table, partitions).await;
        if positions.is_err() {
            connection.close_on_drop();
        }
        positions.map_err(|error| sort(doing, error))
    }

    pub(crate) async fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: &Range<usize>,
    ) -> Result<Written, StoreError> {
        let acquired = self.store.writer.acquire().await;
        let mut connection = acquired.map_err(|error| sort("storing a batch", error))?;
        let written = transaction(&mut connection, advances, rows, range).await;
        // After these two errors the transaction has been rolled back. After others (a full disk) SQLite has rolled it back by
        // itself, and the connection could not begin another one.
        if !matches!(written, Ok(_) | Err(StoreError::Fenced { .. } | StoreError::Poison { .. })) {
            connection.close_on_drop();
        }
        written
    }
}

async fn positions(
    connection: &mut SqliteConnection,
    topic: &str,
    table: Table,
    partitions: &[Partition],
) -> sqlx::Result<Vec<(Partition, Offset)>> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut positions = Vec::with_capacity(partitions.len());
    for partition in partitions {
        sqlx::query(
            "INSERT INTO offsets (topic, partition, next_offset, feeds) VALUES (?1, ?2, 0, ?3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(topic)
        .bind(partition.0)
        .bind(table.as_str())
        .execute(&mut *tx)
        .await?;
        let next: i64 =
            sqlx::query_scalar("SELECT next_offset FROM offsets WHERE topic = ?1 AND partition = ?2")
                .bind(topic)
                .bind(partition.0)
                .fetch_one(&mut *tx)
                .await?;
        positions.push((*partition, Offset(next)));
    }
    tx.commit().await?;
    Ok(positions)
}

async fn transaction(
    connection: &mut SqliteConnection,
    advances: &[Advance<'_>],
    rows: &Rows,
    range: &Range<usize>,
) -> Result<Written, StoreError> {
    let failed = |error| sort("storing a batch", error);
    // Rolled back on drop, after any error.
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    for advance in advances {
        let moved = sqlx::query(include_str!("../sql/fence.sqlite.sql"))
            .bind(advance.topic)
            .bind(advance.partition.0)
            .bind(advance.expected.0)
            .bind(advance.next.0)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        if moved.rows_affected() != 1 {
            return Err(Advance::fenced(std::slice::from_ref(advance)));
        }
    }
    let mut inserted = 0;
    if !range.is_empty() {
        inserted = match rows.table() {
            Table::UserEvents => events(&mut tx, rows.json(range)).await,
            Table::Windows => {
                run(&mut tx, include_str!("../sql/windows_insert.sqlite.sql"), rows.json(range)).await
            }
            Table::Alerts => alerts(&mut tx, rows.json(range)).await,
        }
        .map_err(failed)?;
    }
    if let (Some(first), true) = (advances.first(), inserted > 0) {
        sqlx::query("UPDATE offsets SET stored = stored + ?3 WHERE topic = ?1 AND partition = ?2")
            .bind(first.topic)
            .bind(first.partition.0)
            .bind(i64::try_from(inserted).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
    }
    tx.commit().await.map_err(failed)?;
    Ok(Written { inserted })
}

async fn run(tx: &mut SqliteConnection, sql: &'static str, json: String) -> sqlx::Result<u64> {
    Ok(sqlx::query(sql).bind(json).execute(tx).await?.rows_affected())
}

async fn alerts(tx: &mut SqliteConnection, json: String) -> sqlx::Result<u64> {
    let changed = run(tx, include_str!("../sql/alerts_upsert.sqlite.sql"), json.clone()).await?;
    run(tx, include_str!("../sql/alerts_history.sqlite.sql"), json.clone()).await?;
    run(tx, include_str!("../sql/alerts_explanation.sqlite.sql"), json).await?;
    Ok(changed)
}

async fn events(tx: &mut SqliteConnection, json: String) -> sqlx::Result<u64> {
    sqlx::query("DELETE FROM temp.staging_events").execute(&mut *tx).await?;
    run(tx, include_str!("../sql/events_stage.sqlite.sql"), json).await?;
    let inserted =
        sqlx::query(include_str!("../sql/events_insert.sqlite.sql")).execute(&mut *tx).await?.rows_affected();
    sqlx::query(include_str!("../sql/events_stats.sqlite.sql")).execute(&mut *tx).await?;
    let recount: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM user_stats WHERE sessions < 0 \
         AND user_id IN (SELECT user_id FROM temp.staging_events))",
    )
    .fetch_one(&mut *tx)
    .await?;
    if recount {
        sqlx::query(include_str!("../sql/sessions_recount.sqlite.sql")).execute(tx).await?;
    }
    Ok(inserted)
}

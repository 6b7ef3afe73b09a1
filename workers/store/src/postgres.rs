//! PostgreSQL: connections, migrations, and batches by COPY.

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use herd_spec::units::{Offset, Partition};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::advance::{Advance, Written};
use crate::copy::{HEADER, TRAILER};
use crate::error::{sort, sort_migration};
use crate::{Place, Rows, StoreError, Table};

/// Maximum size of a message to the server: the client copies each one into its buffer.
const CHUNK: usize = 256 * 1024;

/// Session settings: timeouts of statements and locks.
const SETTINGS: &str = "SET statement_timeout = '120s'; SET lock_timeout = '60s'; \
                        SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'";

#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    options: PgConnectOptions,
    search_path: String,
    pub(crate) place: Place,
    pub(crate) pool: PgPool,
}

impl Postgres {
    pub(crate) async fn open(url: &str, schema: &str) -> Result<Self, StoreError> {
        let doing = "connecting to PostgreSQL";
        let options = options(url)?;
        let search_path = path_to(schema);
        let mut connection = connect(&options, &search_path).await.map_err(|error| sort(doing, error))?;
        migrate(&mut connection, schema).await?;
        connection.close().await.map_err(|error| sort(doing, error))?;
        Ok(Self::of(options, search_path, schema))
    }

    /// Tables that exist, without a connection yet. Statements may take as long as they need: all events are read by one of them.
    pub(crate) fn open_to_read(url: &str, schema: &str) -> Result<Self, StoreError> {
        let session =
            format!("SET default_transaction_read_only = on; SET statement_timeout = 0; {}", path_to(schema));
        Ok(Self::of(options(url)?, session, schema))
    }

    fn of(options: PgConnectOptions, search_path: String, schema: &str) -> Self {
        let session = search_path.clone();
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(5))
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { prepare(connection, &session).await })
            })
            .connect_lazy_with(options.clone());
        Self { options, search_path, place: Place::Schema(schema.to_owned()), pool }
    }
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| {
        // The URL contains a password, so the message of the parser is not forwarded.
        let form = "the URL is not of the form postgres://user:password@host:5432/database";
        StoreError::refused("connecting to PostgreSQL", form)
    })?;
    Ok(options.application_name("herd").disable_statement_logging())
}

fn path_to(schema: &str) -> String {
    format!("SET search_path TO {}", quoted(schema))
}

async fn connect(options: &PgConnectOptions, search_path: &str) -> sqlx::Result<PgConnection> {
    let mut connection = options.connect().await?;
    prepare(&mut connection, search_path).await?;
    Ok(connection)
}

async fn prepare(connection: &mut PgConnection, search_path: &str) -> sqlx::Result<()> {
    connection.execute(AssertSqlSafe(format!("{SETTINGS}; {search_path}"))).await?;
    Ok(())
}

/// A name as an SQL identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Creates or upgrades the tables. sqlx holds an advisory lock meanwhile and creates the schema under it, so replicas that start at
/// the same time wait for each other.
async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<(), StoreError> {
    let doing = "creating or upgrading the tables in PostgreSQL";
    // Even `IF NOT EXISTS` requires the privilege to create schemas, which the user of an existing schema may not have.
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| sort(doing, error))?;
    let mut migrator = crate::migrations::postgres();
    if !exists {
        migrator.create_schema(quoted(schema));
    }
    migrator.run_direct(None, connection, false).await.map_err(|error| sort_migration(doing, error))
}

/// A writer with its connection, which is opened on demand and dropped after any failure that leaves its state unknown.
#[derive(Debug)]
pub(crate) struct PostgresWriter {
    store: Postgres,
    connection: Option<PgConnection>,
}

impl PostgresWriter {
    pub(crate) fn new(store: Postgres) -> Self {
        Self { store, connection: None }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.store.place
    }

    /// Takes the connection. If it is not put back (after an error or a cancelled future), it is closed, and its transaction is rolled
    /// back.
    async fn take(&mut self) -> Result<PgConnection, StoreError> {
        let doing = "connecting to PostgreSQL";
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let fresh = async {
            let mut connection = connect(&self.store.options, &self.store.search_path).await?;
            connection.execute("SET work_mem = '64MB'").await?;
            connection.execute(include_str!("../sql/staging.postgres.sql")).await?;
            Ok(connection)
        };
        fresh.await.map_err(|error| sort(doing, error))
    }

    pub(crate) async fn positions(
        &mut self,
        topic: &str,
        table: Table,
        partitions: &[Partition],
    ) -> Result<Vec<(Partition, Offset)>, StoreError> {
        let mut connection = self.take().await?;
        let ids: Vec<i32> = partitions.iter().map(|partition| int4(*partition)).collect();
        let read = async {
            let mut tx = connection.begin().await?;
            sqlx::query(
                "INSERT INTO offsets (topic, partition, next_offset, feeds) \
                 SELECT $1, p, 0, $3 FROM unnest($2::integer[]) AS p ORDER BY p ON CONFLICT DO NOTHING",
            )
            .bind(topic)
            .bind(&ids)
            .bind(table.as_str())
            .execute(&mut *tx)
            .await?;
            // The lock waits for an open transaction of the previous member.
            let rows: Vec<(i32, i64)> = sqlx::query_as(
                "SELECT partition, next_offset FROM offsets WHERE topic = $1 AND partition = ANY ($2) \
                 ORDER BY partition FOR UPDATE",
            )
            .bind(topic)
            .bind(&ids)
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(rows)
        };
        let rows = read.await.map_err(|error| sort("reading the stored positions", error))?;
        self.connection = Some(connection);
        Ok(rows.into_iter().map(|(id, next)| (Partition(id.unsigned_abs()), Offset(next))).collect())
    }

    pub(crate) async fn write(
        &mut self,
        advances: &[Advance<'_>],
        rows: &Rows,
        range: &Range<usize>,
    ) -> Result<Written, StoreError> {
        let mut connection = self.take().await?;
        let written = transaction(&mut connection, advances, rows, range).await;
        // After these two errors the transaction has been rolled back and the connection can be reused.
        if matches!(written, Ok(_) | Err(StoreError::Fenced { .. } | StoreError::Poison { .. })) {
            self.connection = Some(connection);
        }
        written
    }
}

async fn transaction(
    connection: &mut PgConnection,
    advances: &[Advance<'_>],
    rows: &Rows,
    range: &Range<usize>,
) -> Result<Written, StoreError> {
    let doing = "advancing the stored positions";
    let mut tx = connection.begin().await.map_err(|error| sort("beginning a transaction", error))?;
    let outcome = async {
        if !fence(&mut tx, advances).await.map_err(|error| sort(doing, error))? {
            return Err(Advance::fenced(advances));
        }
        if range.is_empty() {
            return Ok(Written::default());
        }
        let written = match rows.table() {
            Table::UserEvents => events(&mut tx, rows, range).await,
            Table::Windows => windows(&mut tx, rows, range).await,
            Table::Alerts => alerts(&mut tx, rows, range).await,
        }
        .map_err(|error| sort("storing a batch", error))?;
        if let (Some(first), true) = (advances.first(), written.inserted > 0) {
            sqlx::query("UPDATE offsets SET stored = stored + $3 WHERE topic = $1 AND partition = $2")
                .bind(first.topic)
                .bind(int4(first.partition))
                .bind(i64::try_from(written.inserted).unwrap_or(i64::MAX))
                .execute(&mut *tx)
                .await
                .map_err(|error| sort(doing, error))?;
        }
        Ok(written)
    }
    .await;
    match outcome {
        Ok(written) => {
            tx.commit().await.map_err(|error| sort("committing a batch", error))?;
            Ok(written)
        }
        Err(error) => {
            tx.rollback().await.map_err(|error| sort("rolling a batch back", error))?;
            Err(error)
        }
    }
}

async fn fence(tx: &mut PgConnection, advances: &[Advance<'_>]) -> sqlx::Result<bool> {
    let topics: Vec<&str> = advances.iter().map(|advance| advance.topic).collect();
    let partitions: Vec<i32> = advances.iter().map(|advance| int4(advance.partition)).collect();
    let expected: Vec<i64> = advances.iter().map(|advance| advance.expected.0).collect();
    let next: Vec<i64> = advances.iter().map(|advance| advance.next.0).collect();
    let moved = sqlx::query(include_str!("../sql/fence.postgres.sql"))
        .bind(topics)
        .bind(partitions)
        .bind(expected)
        .bind(next)
        .execute(tx)
        .await?;
    Ok(moved.rows_affected() == advances.len() as u64)
}

async fn copy(tx: &mut PgConnection, statement: &str, rows: &[u8]) -> sqlx::Result<()> {
    let mut copy = tx.copy_in_raw(statement).await?;
    copy.send(HEADER).await?;
    for chunk in rows.chunks(CHUNK) {
        copy.send(chunk).await?;
    }
    copy.send(TRAILER).await?;
    copy.finish().await?;
    Ok(())
}

async fn events(tx: &mut PgConnection, rows: &Rows, range: &Range<usize>) -> sqlx::Result<Written> {
    copy(tx, "COPY staging_events FROM STDIN (FORMAT binary)", rows.bytes(range)).await?;
    let (inserted, recount): (i64, Vec<String>) =
        sqlx::query_as(include_str!("../sql/events_insert.postgres.sql")).fetch_one(&mut *tx).await?;
    if !recount.is_empty() {
        sqlx::query(include_str!("../sql/sessions_recount.postgres.sql")).bind(recount).execute(tx).await?;
    }
    Ok(Written { inserted: inserted.unsigned_abs() })
}

async fn windows(tx: &mut PgConnection, rows: &Rows, range: &Range<usize>) -> sqlx::Result<Written> {
    copy(tx, "COPY staging_windows FROM STDIN (FORMAT binary)", rows.bytes(range)).await?;
    let done = sqlx::query(include_str!("../sql/windows_insert.postgres.sql")).execute(tx).await?;
    Ok(Written { inserted: done.rows_affected() })
}

async fn alerts(tx: &mut PgConnection, rows: &Rows, range: &Range<usize>) -> sqlx::Result<Written> {
    let json = rows.json(range);
    let done =
        sqlx::query(include_str!("../sql/alerts_upsert.postgres.sql")).bind(&json).execute(&mut *tx).await?;
    sqlx::query(include_str!("../sql/alerts_history.postgres.sql")).bind(&json).execute(&mut *tx).await?;
    sqlx::query(include_str!("../sql/alerts_explanation.postgres.sql")).bind(&json).execute(tx).await?;
    Ok(Written { inserted: done.rows_affected() })
}

fn int4(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

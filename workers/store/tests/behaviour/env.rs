//! A store to test on, and records to put into it.

use std::path::PathBuf;
use std::sync::Arc;

use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState, EventRef, Fingerprint, Severity, Window};
use herd_store::{Advance, Store, StoreError, Table, Writer, Written};
use sqlx::{AssertSqlSafe, Connection, Executor};

pub(crate) const TOPIC: &str = "shop.events";

pub(crate) struct StoreEnv {
    pub(crate) store: Store,
    pub(crate) schema: String,
    pub(crate) file: PathBuf,
    pub(crate) _folder: Option<Arc<tempfile::TempDir>>,
}

pub(crate) fn server() -> String {
    std::env::var("HERD_TEST_POSTGRES").expect("HERD_TEST_POSTGRES: postgres://user@host:port/database")
}

pub(crate) async fn drop_schema(schema: &str) {
    let mut connection = sqlx::PgConnection::connect(&server()).await.unwrap();
    connection.execute(AssertSqlSafe(format!("DROP SCHEMA \"{schema}\" CASCADE"))).await.unwrap();
}

impl StoreEnv {
    pub(crate) async fn sqlite() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let file = folder.path().join("new folder/shop.db");
        let store = Store::sqlite(&file).await.unwrap();
        Self { store, schema: String::new(), file, _folder: Some(folder) }
    }

    pub(crate) async fn postgres() -> Self {
        // A name that needs quotes, so that they are seen to be there.
        let schema = format!("herd-Test {}", uuid::Uuid::now_v7().simple());
        let store = Store::postgres(&server(), &schema).await.unwrap();
        Self { store, schema, file: PathBuf::new(), _folder: None }
    }

    /// Another opening of the same tables, as another process would.
    pub(crate) async fn again(&self) -> Result<Store, StoreError> {
        if self.schema.is_empty() {
            Store::sqlite(&self.file).await
        } else {
            Store::postgres(&server(), &self.schema).await
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        !self.schema.is_empty()
    }
}

/// Runs SQL as another client of the database.
pub(crate) async fn execute_directly(env: &StoreEnv, sql: &str) {
    if env.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&server()).await.unwrap();
        let sql = format!("SET search_path TO \"{}\"; {sql}", env.schema);
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    } else {
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite://{}", env.file.display())).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }
}

/// An event, written as the collector writes it.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) id: String,
    pub(crate) user: Option<String>,
    pub(crate) kind: &'static str,
    pub(crate) time: i64,
    pub(crate) properties: String,
}

impl Raw {
    pub(crate) fn view(id: &str, user: &str, time: i64) -> Self {
        Self {
            id: id.to_owned(),
            user: Some(user.to_owned()),
            kind: "view",
            time,
            properties: r#"{"page":"/shop"}"#.to_owned(),
        }
    }

    pub(crate) fn purchase(id: &str, user: &str, time: i64, properties: &str) -> Self {
        Self { kind: "purchase", properties: properties.to_owned(), ..Self::view(id, user, time) }
    }

    pub(crate) fn json(&self) -> String {
        let user = self.user.as_ref().map_or_else(String::new, |user| format!(r#""user_id":"{user}","#));
        format!(
            r#"{{"v":1,"event_id":"{}","type":"{}",{user}"item_id":"mug","time":{},"received":{},"properties":{}}}"#,
            self.id,
            self.kind,
            self.time,
            self.time + 100,
            self.properties
        )
    }
}

/// Writes events as one batch of a partition, the first at `expected`.
pub(crate) async fn write_events(
    writer: &mut Writer,
    partition: u32,
    expected: i64,
    events: &[Raw],
) -> Result<Written, StoreError> {
    write_events_of(writer, TOPIC, partition, expected, events).await
}

pub(crate) async fn write_events_of(
    writer: &mut Writer,
    topic: &str,
    partition: u32,
    expected: i64,
    events: &[Raw],
) -> Result<Written, StoreError> {
    let mut rows = writer.rows(Table::UserEvents);
    for (offset, event) in (expected..).zip(events) {
        let json = event.json();
        rows.push_event(Partition(partition), Offset(offset), &EventRef::parse(json.as_bytes()).unwrap())
            .unwrap();
    }
    let next = Offset(expected + i64::try_from(events.len()).unwrap());
    let advance = Advance { topic, partition: Partition(partition), expected: Offset(expected), next };
    writer.write(&[advance], &rows, 0..rows.len()).await
}

/// A writer that has taken these partitions over.
pub(crate) async fn writer_of(store: &Store, topic: &str, table: Table, partitions: u32) -> Writer {
    let mut writer = store.writer();
    let all: Vec<Partition> = (0..partitions).map(Partition).collect();
    writer.positions(topic, table, &all).await.unwrap();
    writer
}

pub(crate) fn window(key: &str, start: i64, count: u64) -> Window<'static> {
    Window {
        v: 1,
        metric: "views".into(),
        definition: Fingerprint::of_hash(7),
        key: key.to_owned().into(),
        start: EventTime(start),
        size_ms: 10_000,
        count,
        value: count as f64 + 0.1,
        is_final: true,
        bands: vec![herd_spec::wire::Band {
            detector: "rush".into(),
            expected: 35.0,
            lower: 17.0,
            upper: 53.3,
            score: -0.25,
        }],
    }
}

pub(crate) fn alert(key: &str, start: i64, state: AlertState) -> Alert {
    Alert {
        v: 1,
        id: AlertId::of("shop", "rush", key, EventTime(start)),
        pipeline: "shop".into(),
        detector: "rush".into(),
        metric: "views".into(),
        rule: Fingerprint::default(),
        key: key.into(),
        severity: Severity::Warning,
        state,
        start: EventTime(start),
        size_ms: 10_000,
        span_ms: 10_000,
        count: 400 + u64::from(state.rank()),
        value: 412.5,
        expected: 35.0,
        spread: 6.0,
        score: 62.9,
        summary: format!("{key}: 412 views in 10 s, expected about 35 ± 6"),
        resolved: (state == AlertState::Resolved).then_some(EventTime(start + 20_000)),
        episode: None,
        explanation: None,
    }
}

/// Writes alert records as one batch of partition 0.
pub(crate) async fn write_alerts(writer: &mut Writer, topic: &str, expected: i64, records: &[(Alert, i64)]) {
    let mut rows = writer.rows(Table::Alerts);
    for (alert, sent) in records {
        rows.push_alert(alert, WallTime(*sent)).unwrap();
    }
    let next = Offset(expected + i64::try_from(records.len()).unwrap());
    let advance = Advance { topic, partition: Partition(0), expected: Offset(expected), next };
    writer.write(&[advance], &rows, 0..rows.len()).await.unwrap();
}

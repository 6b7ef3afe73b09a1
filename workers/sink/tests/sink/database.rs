//! From topics to tables.

use herd_bus::Change;
use herd_spec::plan::{SinkKind, StorePlan};
use herd_spec::units::Partition;
use herd_spec::wire::{AlertState, dead_letter};
use herd_store::{AlertFilter, Store};

use crate::bus::MemoryBus;
use crate::scene::{
    ALERTS, DEAD, EVENTS, GROUP, WINDOWS, alert, header, memory_bus, put_alert, secret, start, until,
};

fn sqlite() -> SinkKind {
    SinkKind::Store(StorePlan::Sqlite { path: "shop.db".into() })
}

fn event(id: usize, user: &str, properties: &str) -> String {
    format!(
        r#"{{"v":1,"event_id":"e-{id}","type":"view","user_id":"{user}","item_id":"mug","time":{},"received":1,"properties":{properties}}}"#,
        1_700_000_000_000_usize + id
    )
}

fn put_events(bus: &MemoryBus, ids: std::ops::Range<usize>) {
    for id in ids {
        bus.put(EVENTS, id % 2, 7, event(id, "ann", "{}"));
    }
}

async fn is_through(bus: &MemoryBus) {
    until("the group has committed all", async || {
        [EVENTS, WINDOWS, ALERTS].iter().all(|topic| bus.is_committed(topic, GROUP))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_every_record_once_over_restarts() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    put_events(&bus, 0..3_000);
    put_events(&bus, 100..200);
    let window = |start: u64, is_final: bool| {
        format!(
            r#"{{"v":1,"metric":"views","key":"mug","start":{start},"size_ms":10000,"count":3,"value":3,"final":{is_final}}}"#
        )
    };
    for (start, is_final) in [(0, false), (0, true), (0, true), (10_000, false)] {
        bus.put(WINDOWS, 0, 7, window(start, is_final));
    }
    put_alert(&bus, &alert("mug", AlertState::Resolved));
    put_alert(&bus, &alert("mug", AlertState::Early));
    bus.put(EVENTS, 1, 9, "no JSON \u{1}");

    let sink = start(sqlite(), &bus, folder.path());
    is_through(&bus).await;
    assert!(sink.stage.health.complaints().is_empty());
    assert!(sink.metrics().contains(r#"herd_sink_rows_total{sink="main",table="user_events"} 3000"#));
    sink.stop().await.unwrap();

    // The group forgets; the database does not.
    put_events(&bus, 2_900..3_100);
    let sink = start(sqlite(), &bus, folder.path());
    is_through(&bus).await;
    sink.stop().await.unwrap();

    let store = Store::sqlite(&folder.path().join("shop.db")).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.events, counts.windows, counts.alerts, counts.alerts_firing), (3_100, 1, 1, 0));
    assert_eq!(store.user_stats("ann").await.unwrap().unwrap().events, 3_100);
    let alerts = store.alerts(&AlertFilter::default()).await.unwrap().alerts;
    assert_eq!(alerts[0].alert.state, AlertState::Resolved);

    let letters = bus.log(DEAD);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value.as_deref(), Some("no JSON \u{1}".as_bytes()));
    assert_eq!(letters[0].key.as_deref(), Some(b"key".as_slice()));
    assert_eq!(header(&letters[0], dead_letter::TOPIC), EVENTS);
    assert_eq!(header(&letters[0], dead_letter::PARTITION), "1");
    assert_eq!(header(&letters[0], dead_letter::OFFSET), "1550");
    assert_eq!(header(&letters[0], dead_letter::CONNECTOR), "sink.main");
    assert_eq!(header(&letters[0], dead_letter::ERROR_CLASS), "malformed");
    assert_eq!(header(&letters[0], dead_letter::RECEIVED), "9");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_every_record_once_while_partitions_come_and_go() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let sink = start(sqlite(), &bus, folder.path());
    for round in 0..10 {
        put_events(&bus, round * 500..(round + 1) * 500);
        let gone = vec![Partition(u32::try_from(round % 2).unwrap())];
        let change = if round % 3 == 0 { Change::Lost(gone) } else { Change::Revoked(gone) };
        bus.take_away(EVENTS, change);
    }
    is_through(&bus).await;
    let store = Store::sqlite(&folder.path().join("shop.db")).await.unwrap();
    until("all is stored", async || store.counts().await.unwrap().events == 5_000).await;
    sink.stop().await.unwrap();
    assert_eq!(store.user_stats("ann").await.unwrap().unwrap().events, 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_a_recreated_topic_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    for (ids, expected) in [(0..50, 50), (40..60, 60)] {
        let bus = memory_bus();
        put_events(&bus, ids);
        let sink = start(sqlite(), &bus, folder.path());
        is_through(&bus).await;
        sink.stop().await.unwrap();
        let store = Store::sqlite(&folder.path().join("shop.db")).await.unwrap();
        assert_eq!(store.counts().await.unwrap().events, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_a_database_that_does_not_answer_and_reports_it() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let kind = SinkKind::Store(StorePlan::Postgres {
        url: secret(folder.path(), "db", &format!("postgres://ann:hush@127.0.0.1:{port}/shop\n")),
        schema: "shop".into(),
        batch_rows: 100,
        batch_wait: std::time::Duration::from_millis(50),
    });
    let sink = start(kind, &bus, folder.path());
    until("readiness complains", async || !sink.stage.health.complaints().is_empty()).await;
    let complaints = sink.stage.health.complaints();
    assert!(complaints["sink.main.store"].contains("the database is unavailable"), "{complaints:?}");
    assert!(!complaints["sink.main.store"].contains("hush"));
    sink.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stops_when_a_secret_is_missing() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let kind = SinkKind::Store(StorePlan::Postgres {
        url: herd_spec::pipeline::SecretRef { name: "nowhere".into(), key: "url".into() },
        schema: "shop".into(),
        batch_rows: 100,
        batch_wait: std::time::Duration::from_millis(50),
    });
    let error = start(kind, &bus, folder.path()).stop().await.unwrap_err();
    assert!(error.to_string().starts_with("sink main: the secret `nowhere` has no key `url`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
async fn sends_poison_records_to_the_dead_letter_topic_and_goes_on() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let server =
        std::env::var("HERD_TEST_POSTGRES").expect("HERD_TEST_POSTGRES: postgres://user@host:port/database");
    let schema = format!("herd_sink_{}", std::process::id());
    // Told apart in three ways: by the database only, when encoded, when read.
    let poison =
        [(7, r#"{"n":1e200000}"#), (300, r#"{"n":-1e200000}"#), (555, r#"{"s":"\u0000"}"#), (700, "[broken")];
    for id in 0..1_000 {
        let properties = poison.iter().find(|(of, _)| *of == id).map_or("{}", |(_, properties)| properties);
        bus.put(EVENTS, id % 2, 7, event(id, "ann", properties));
    }
    let kind = SinkKind::Store(StorePlan::Postgres {
        url: secret(folder.path(), "db", &server),
        schema: schema.clone(),
        batch_rows: 400,
        batch_wait: std::time::Duration::from_millis(50),
    });
    let sink = start(kind, &bus, folder.path());
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let store = Store::postgres(&server, &schema).await.unwrap();
    assert_eq!(store.counts().await.unwrap().events, 996);
    let mut refused: Vec<(Vec<u8>, String)> = bus
        .log(DEAD)
        .iter()
        .map(|kept| (kept.value.clone().unwrap(), header(kept, dead_letter::ERROR_CLASS)))
        .collect();
    refused.sort();
    let class = ["database-refused", "database-refused", "unstorable", "malformed"];
    let mut expected: Vec<(Vec<u8>, String)> = poison
        .iter()
        .zip(class)
        .map(|((id, properties), class)| (event(*id, "ann", properties).into_bytes(), class.to_owned()))
        .collect();
    expected.sort();
    assert_eq!(refused, expected);
}

fn put_window(bus: &MemoryBus, number: usize) {
    let start = number * 10_000;
    let value = format!(
        r#"{{"v":1,"metric":"views","key":"mug","start":{start},"size_ms":10000,"count":3,"value":3,"final":true}}"#
    );
    bus.put(WINDOWS, 0, 7, value);
}

/// A table is taken away from a sink that runs, and given back: it says so and goes on, the others meanwhile.
async fn loses_a_table(kind: SinkKind, folder: &std::path::Path, store: &Store, sql: impl AsyncFn(&str)) {
    let bus = memory_bus();
    put_window(&bus, 0);
    let sink = start(kind, &bus, folder);
    is_through(&bus).await;
    sql("ALTER TABLE windows RENAME TO elsewhere").await;
    put_window(&bus, 1);
    until("it says that the table is missing", async || {
        let complaints = sink.stage.health.complaints();
        complaints.get("sink.main.windows").is_some_and(|said| said.contains("a table is missing in "))
    })
    .await;
    put_events(&bus, 0..100);
    until("events are stored all the same", async || {
        store.counts().await.is_ok_and(|counts| counts.events == 100)
    })
    .await;
    assert_eq!(sink.stage.health.complaints().len(), 1, "{:?}", sink.stage.health.complaints());
    sql("ALTER TABLE elsewhere RENAME TO windows").await;
    until("it goes on", async || sink.stage.health.complaints().is_empty()).await;
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.events, counts.windows), (100, 2));
    assert!(bus.log(DEAD).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_for_a_dropped_sqlite_table_and_fills_the_others() {
    use sqlx::{AssertSqlSafe, Connection, Executor};
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = Store::sqlite(&file).await.unwrap();
    let sql = async |sql: &str| {
        let mut connection =
            sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    };
    loses_a_table(sqlite(), folder.path(), &store, sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
async fn waits_for_a_dropped_postgresql_table_and_fills_the_others() {
    use sqlx::{AssertSqlSafe, Connection, Executor};
    let folder = tempfile::tempdir().unwrap();
    let server =
        std::env::var("HERD_TEST_POSTGRES").expect("HERD_TEST_POSTGRES: postgres://user@host:port/database");
    let schema = format!("herd_mend_{}", std::process::id());
    let store = Store::postgres(&server, &schema).await.unwrap();
    let kind = SinkKind::Store(StorePlan::Postgres {
        url: secret(folder.path(), "db", &server),
        schema: schema.clone(),
        batch_rows: 400,
        batch_wait: std::time::Duration::from_millis(50),
    });
    let sql = async |sql: &str| {
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        let sql = format!("SET search_path TO {schema}; {sql}");
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
    };
    loses_a_table(kind, folder.path(), &store, &sql).await;
    sql(&format!("DROP SCHEMA {schema} CASCADE")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
async fn creates_a_dropped_schema_again_and_fills_it_from_the_topics() {
    use sqlx::{AssertSqlSafe, Connection, Executor};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let server =
        std::env::var("HERD_TEST_POSTGRES").expect("HERD_TEST_POSTGRES: postgres://user@host:port/database");
    let schema = format!("herd_anew_{}", std::process::id());
    let kind = SinkKind::Store(StorePlan::Postgres {
        url: secret(folder.path(), "db", &server),
        schema: schema.clone(),
        batch_rows: 400,
        batch_wait: std::time::Duration::from_millis(50),
    });
    put_events(&bus, 0..100);
    let sink = start(kind, &bus, folder.path());
    is_through(&bus).await;
    let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
    connection.execute(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).await.unwrap();
    put_events(&bus, 100..150);
    until("the events are stored again, all of them", async || {
        let sql = format!("SELECT count(*) FROM {schema}.user_events");
        let counted: Result<i64, _> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await;
        counted.is_ok_and(|count| count == 150)
    })
    .await;
    sink.stop().await.unwrap();
    connection.execute(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).await.unwrap();
}

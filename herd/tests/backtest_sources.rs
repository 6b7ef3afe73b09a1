//! `herd backtest` over the same events from a file, from SQLite, from PostgreSQL, from the embedded broker and from Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use herd_bus::embedded::EmbeddedBus;
use herd_bus::partitioner::partition_of;
use herd_bus::{Acks, Bus, Outgoing, Producer};
use herd_spec::plan::Plan;
use herd_spec::units::{EventTime, Offset, Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, AlertState, EventRef};
use herd_store::{Advance, AlertFilter, Store, StoreLocation, Table};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rstest::rstest;
use serde_json::Value;
use sqlx::Connection as _;
use support::{herd, json, stderr, stdout};

const BASE: i64 = 1_700_000_000_000;
const SECONDS: i64 = 3_600;

/// The pipeline, with `spec.kafka` and the sink of a test. Its detectors have an algorithm of each kind.
fn pipeline(name: &str, kafka: &str, sink: &str) -> String {
    format!(
        "apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {{name: {name}}}
spec:
{kafka}  sinks: [{sink}]
  metrics:
    - {{name: views, window: 10s}}
    - {{name: revenue, events: {{types: [purchase]}}, aggregate: {{function: sum, field: price}}, window: 60s}}
    - {{name: countries, key: [country], window: 30s}}
  detectors:
    - {{name: herd, metric: views}}
    - {{name: money, metric: revenue, alerts: {{probability: 0.001}}}}
    - {{name: many, metric: countries, algorithm: {{zscore: {{sigmas: 2, history: 20, warmup: 5}}}}, cooldown: 60s}}
"
    )
}

const SQLITE: &str = "{name: db, sqlite: {path: shop.db}}";

/// An event: the key of its record, the record, and its row in a file.
struct Sent {
    key: String,
    record: String,
    row: String,
}

/// An hour of traffic with two crowds, events out of order, some of them too late, and events that were sent twice.
fn events() -> Vec<Sent> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut sent = Vec::new();
    for second in 0..SECONDS {
        let crowd = match second {
            1_500..1_560 => 20,
            3_000..3_050 => 30,
            _ => 0,
        };
        for number in 0..random.random_range(2..8) + crowd {
            let item = if number < crowd { 7 } else { random.random_range(0..40) };
            let delay = match random.random_range(0..100) {
                0 => random.random_range(60_000..200_000),
                1..20 => random.random_range(0..3_000),
                _ => 0,
            };
            let time = BASE + second * 1_000 + i64::from(number) * 17 - delay;
            let (user, price) = (random.random_range(0..300), random.random_range(100..10_000));
            let price = format!("{}.{:02}", price / 100, price % 100);
            let event_type = if random.random_bool(0.3) { "purchase" } else { "view" };
            let country = ["DE", "FR", "BR"][random.random_range(0..3)];
            let (id, key) = (format!("{second}-{number}"), format!("u{user}"));
            let record = format!(
                r#"{{"v":1,"event_id":"{id}","type":"{event_type}","user_id":"{key}","item_id":"item-{item}","time":{time},"received":{},"properties":{{"price":{price},"country":"{country}"}}}}"#,
                BASE + second * 1_000
            );
            let row = format!("{time},{event_type},item-{item},{key},{id},{price},{country}\n");
            for _ in 0..if random.random_bool(0.02) { 2 } else { 1 } {
                sent.push(Sent { key: key.clone(), record: record.clone(), row: row.clone() });
            }
        }
    }
    sent
}

fn plan(pipeline: &str) -> Plan {
    Plan::parse(&herd_spec::document::parse(pipeline).unwrap()).unwrap()
}

/// A folder with the pipeline and the events as a file.
fn folder(pipeline: &str, events: &[Sent]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), pipeline).unwrap();
    let mut csv = String::from("ts,event,item,user,event_id,price,country\n");
    events.iter().for_each(|event| csv.write_str(&event.row).unwrap());
    std::fs::write(folder.path().join("events.csv"), csv).unwrap();
    folder
}

/// The alerts that a backtest writes, and its report without the name and the speed of the source.
fn run(folder: &Path, options: &[&str]) -> (String, Value) {
    let arguments = [&["backtest", "shop.yaml", "--json", "--alerts", "alerts.ndjson"], options].concat();
    let mut report = json(&herd(folder, &arguments));
    report.as_object_mut().unwrap().remove("seconds");
    (std::fs::read_to_string(folder.join("alerts.ndjson")).unwrap(), report)
}

/// Asserts that a source gives what the file gives, of everything and of a part of the time.
fn assert_same(folder: &Path, source: &[&str], keeps_duplicates: bool) {
    let halves: [&[&str]; 3] = [
        &[],
        &["--since", "2023-11-14T22:50:00Z", "--until", "2023-11-14T23:10:00Z"],
        &["--since", "2023-11-14T22:50:00Z", "--warmup", "20m"],
    ];
    for half in halves {
        let (expected, mut expected_report) = run(folder, &[&["--events", "events.csv"], half].concat());
        let (alerts, mut report) = run(folder, &[source, half].concat());
        assert!(expected.lines().count() > 2, "{half:?} proves little: {expected}");
        assert_eq!(alerts, expected, "{source:?} {half:?}");
        for report in [&mut expected_report, &mut report] {
            let pipeline = report["pipelines"][0].as_object_mut().unwrap();
            pipeline.remove("feedback");
            if !keeps_duplicates {
                ["events", "duplicates", "late"]
                    .iter()
                    .for_each(|count| _ = pipeline["counts"].as_object_mut().unwrap().remove(*count));
            }
        }
        if !keeps_duplicates {
            ["rows", "warmup"].iter().for_each(|count| {
                assert!(report[*count].as_u64() <= expected_report[*count].as_u64());
                report[*count] = expected_report[*count].clone();
            });
        }
        assert_eq!(report, expected_report, "{source:?} {half:?}");
    }
}

/// Stores events as the sink does, each at the offset of its record.
fn store(runtime: &tokio::runtime::Runtime, store: &Store, plan: &Plan, events: &[Sent]) {
    let topic = &plan.topics.events;
    runtime.block_on(async {
        let mut writer = store.writer();
        for partition in (0..topic.partitions).map(Partition) {
            let from = writer.positions(&topic.name, Table::UserEvents, &[partition]).await.unwrap()[0].1;
            let mut rows = writer.rows(Table::UserEvents);
            let of_partition =
                |sent: &&Sent| partition_of(sent.key.as_bytes(), topic.partitions) == partition;
            for (offset, sent) in (from.0..).zip(events.iter().filter(of_partition)) {
                let event = EventRef::parse(sent.record.as_bytes()).unwrap();
                rows.push_event(partition, Offset(offset), &event).unwrap();
            }
            let next = Offset(from.0 + rows.len() as i64);
            let advance = Advance { topic: &topic.name, partition, expected: from, next };
            writer.write(&[advance], &rows, 0..rows.len()).await.unwrap();
        }
    });
}

/// Sends events as the collector does.
fn send<B: Bus>(bus: &B, plan: &Plan, events: &[Sent]) {
    bus.ensure_topics(&plan.topics.all()).unwrap();
    let producer = bus.producer("collector").unwrap();
    let acks = Acks::new();
    let send = |key: &str, value: &str| {
        let record = Outgoing {
            topic: &plan.topics.events.name,
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            timestamp: WallTime(BASE),
            headers: &[],
        };
        producer.send(&record, acks.expect(0)).unwrap();
    };
    events.iter().for_each(|event| send(&event.key, &event.record));
    assert_eq!(producer.flush(Duration::from_secs(60)), 0);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn sqlite_gives_the_alerts_of_the_file() {
    let (pipeline, events, runtime) = (pipeline("shop", "", SQLITE), events(), runtime());
    let folder = folder(&pipeline, &events);
    let file = folder.path().join(".herd/shop/shop.db");
    let tables = runtime.block_on(Store::sqlite(&file)).unwrap();
    store(&runtime, &tables, &plan(&pipeline), &events);
    assert_same(folder.path(), &["--store"], false);
    let (by_path, _) = run(folder.path(), &["--store", ".herd/shop/shop.db"]);
    assert_eq!(by_path, run(folder.path(), &["--store"]).0);
}

#[test]
fn embedded_broker_gives_the_alerts_of_the_file() {
    let (pipeline, events) = (pipeline("shop", "", SQLITE), events());
    let folder = folder(&pipeline, &events);
    {
        let bus = EmbeddedBus::open(&folder.path().join(".herd/shop/bus")).unwrap();
        send(&bus, &plan(&pipeline), &events);
    }
    assert_same(folder.path(), &["--kafka"], true);
}

#[test]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
fn postgres_gives_the_alerts_of_the_file() {
    let server =
        std::env::var("HERD_TEST_POSTGRES").expect("HERD_TEST_POSTGRES: postgres://user@host:port/database");
    let schema = format!("herd_backtest_{}", uuid::Uuid::now_v7().simple());
    let sink = format!("{{name: db, postgres: {{url: {{name: db, key: url}}, schema: {schema}}}}}");
    let (pipeline, events, runtime) = (pipeline("shop", "", &sink), events(), runtime());
    let folder = folder(&pipeline, &events);
    std::fs::create_dir_all(folder.path().join("secrets/db")).unwrap();
    std::fs::write(folder.path().join("secrets/db/url"), &server).unwrap();
    let tables = runtime.block_on(Store::postgres(&server, &schema)).unwrap();
    store(&runtime, &tables, &plan(&pipeline), &events);
    assert_same(folder.path(), &["--store", "--secrets", "secrets"], false);
    // The URL alone is enough: the schema is the sink's.
    assert_same(folder.path(), &["--store", &server], false);
    runtime.block_on(async {
        let mut connection = sqlx::PgConnection::connect(&server).await.unwrap();
        let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA \"{schema}\" CASCADE"));
        sqlx::Executor::execute(&mut connection, drop).await.unwrap();
    });
}

#[test]
#[ignore = "needs HERD_TEST_KAFKA: make test sets it"]
fn kafka_gives_the_alerts_of_the_file() {
    let servers = std::env::var("HERD_TEST_KAFKA").expect("HERD_TEST_KAFKA=host:port");
    let name = format!("backtest-{}", &uuid::Uuid::now_v7().simple().to_string()[20..]);
    let kafka = format!("  kafka: {{bootstrapServers: ['{servers}'], partitions: 5, replication: 1}}\n");
    // Events of the past are not to expire while they are read.
    let kafka = kafka.replace("replication: 1", "replication: 1, retention: 3650d");
    let (pipeline, events) = (pipeline(&name, &kafka, SQLITE), events());
    let folder = folder(&pipeline, &events);
    let plan = plan(&pipeline);
    let secrets = herd_stage::Secrets::default();
    let bus = herd_workers::kafka::connect(plan.kafka.as_ref().unwrap(), &secrets, "backtest-test").unwrap();
    send(&bus, &plan, &events);
    assert_same(folder.path(), &["--kafka"], true);
}

/// `herd up`, killed at the end of the test.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Up {
    /// Starts it; with the URL of its collector.
    fn start(folder: &Path) -> (Self, String) {
        let any = "127.0.0.1:0";
        let mut up = Command::new(env!("CARGO_BIN_EXE_herd"))
            .args(["up", "shop.yaml", "--listen", any, "--api-listen", any, "--ops-listen", any])
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(up.stderr.take().unwrap()).lines();
        let url = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let (_, rest) = line.split_once("curl ")?;
            Some(rest.split_once("/track")?.0.to_owned())
        });
        // Its messages are read, so that it does not wait for anybody to do so.
        std::thread::spawn(move || lines.for_each(drop));
        (Self(up), url.expect("it ended before it said where to send events"))
    }

    fn stop(mut self) {
        let killed = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success() && self.0.wait().unwrap().success());
    }
}

#[test]
fn running_pipeline_stores_the_alerts_of_the_file() {
    let (pipeline, events, runtime) =
        (pipeline("shop", "  events: {maxAge: 0s}\n", SQLITE), events(), runtime());
    let folder = folder(&pipeline, &events);
    let (alerts, _) = run(folder.path(), &["--events", "events.csv"]);
    let alerts: Vec<Alert> = alerts.lines().map(|line| Alert::parse(line.as_bytes()).unwrap()).collect();
    // Later windows may still be open when the run ends.
    let end = EventTime(BASE + (SECONDS - 180) * 1_000);
    let is_over = |alert: &&Alert| alert.state == AlertState::Resolved && alert.resolved < Some(end);
    let mut expected: Vec<&Alert> = alerts.iter().filter(is_over).collect();
    expected.sort_by(|a, b| a.id.0.cmp(&b.id.0));
    assert!(expected.len() > 5, "{} alerts prove little", expected.len());

    let (up, url) = Up::start(folder.path());
    let replayed = json(&herd(
        folder.path(),
        &["replay", "events.csv", "--to", &url, "--speed", "max", "--connections", "1", "--json"],
    ));
    assert_eq!(replayed["accepted"], events.len(), "{replayed}");
    let store = StoreLocation::Sqlite(folder.path().join(".herd/shop/shop.db"));
    let stored = || {
        let filter = AlertFilter { limit: 10_000, ..AlertFilter::default() };
        let page = runtime.block_on(async { Store::open_to_read(&store).unwrap().alerts(&filter).await });
        let mut stored: Vec<Alert> = page.unwrap().alerts.into_iter().map(|stored| stored.alert).collect();
        stored.retain(|alert| is_over(&alert));
        stored.sort_by(|a, b| a.id.0.cmp(&b.id.0));
        stored
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while stored().len() < expected.len() {
        assert!(Instant::now() < deadline, "{} of {} alerts are stored", stored().len(), expected.len());
        std::thread::sleep(Duration::from_millis(100));
    }
    up.stop();
    let stored = stored();
    assert_eq!(stored.len(), expected.len());
    for (stored, expected) in stored.iter().zip(expected) {
        // The store does not keep by which rule an alert was raised.
        let stored = Alert { rule: expected.rule, ..stored.clone() };
        // The running pipeline explains while events arrive, and not each alert again at its end.
        let stored = Alert { explanation: None, ..stored };
        let expected = Alert { explanation: None, ..expected.clone() };
        assert_eq!(serde_json::to_string(&stored).unwrap(), serde_json::to_string(&expected).unwrap());
    }
    assert_same(folder.path(), &["--kafka"], true);
    assert_same(folder.path(), &["--store"], false);
}

#[test]
fn warmup_is_everything_before_since() {
    let (pipeline, events) = (pipeline("shop", "", SQLITE), events());
    let folder = folder(&pipeline, &events);
    let since = BASE + 2_000_000;
    let (all, _) = run(folder.path(), &["--events", "events.csv"]);
    let (part, report) = run(
        folder.path(),
        &["--events", "events.csv", "--since", &EventTime(since).rfc3339(), "--compare", "shop.yaml"],
    );
    let later = |line: &&str| Alert::parse(line.as_bytes()).unwrap().start >= EventTime(since);
    let expected: String = all.lines().filter(later).map(|line| format!("{line}\n")).collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(part, expected);
    assert_eq!(report["first"], EventTime(since).rfc3339());
    assert!(report["warmup"].as_u64() > Some(5_000), "{report}");
}

#[test]
fn shows_which_alerts_with_feedback_are_raised() {
    let (pipeline, events, runtime) = (pipeline("shop", "", SQLITE), events(), runtime());
    let folder = folder(&pipeline, &events);
    let file = folder.path().join(".herd/shop/shop.db");
    let tables = runtime.block_on(Store::sqlite(&file)).unwrap();
    let plan = plan(&pipeline);
    store(&runtime, &tables, &plan, &events);
    let (alerts, report) = run(folder.path(), &["--store"]);
    assert_eq!(
        report["pipelines"][0]["feedback"],
        serde_json::json!({"useful": {"raised": 0, "missing": 0}, "notUseful": {"raised": 0, "missing": 0}})
    );
    let alerts: Vec<Alert> = alerts.lines().map(|line| Alert::parse(line.as_bytes()).unwrap()).collect();
    let crowd = alerts.iter().find(|alert| alert.detector == "herd" && alert.key == "item-7").unwrap();
    let noise = alerts.iter().find(|alert| alert.detector == "many").unwrap();
    // As the running pipeline would have stored them, and one that an earlier configuration raised.
    let old = Alert { id: AlertId("old".into()), key: "item-1".into(), ..crowd.clone() };
    runtime.block_on(async {
        let mut writer = tables.writer();
        let mut rows = writer.rows(Table::Alerts);
        for alert in [crowd, noise, &old] {
            rows.push_alert(alert, WallTime(BASE)).unwrap();
        }
        let (topic, partition) = (plan.topics.alerts.name.as_str(), Partition(0));
        writer.positions(topic, Table::Alerts, &[partition]).await.unwrap();
        let advance = Advance { topic, partition, expected: Offset(0), next: Offset(3) };
        writer.write(&[advance], &rows, 0..3).await.unwrap();
        for (alert, useful) in [(crowd, true), (noise, false), (&old, true)] {
            tables.set_feedback(&alert.id, useful, WallTime(BASE)).await.unwrap();
        }
    });
    std::fs::write(folder.path().join("calm.yaml"), pipeline.replace("sigmas: 2", "sigmas: 50")).unwrap();
    let (_, report) = run(folder.path(), &["--store", "--compare", "calm.yaml"]);
    let feedback = |place: usize, said: &str| {
        let agreement = &report["pipelines"][place]["feedback"][said];
        (agreement["raised"].as_u64().unwrap(), agreement["missing"].as_u64().unwrap())
    };
    assert_eq!([feedback(0, "useful"), feedback(1, "useful")], [(1, 1), (1, 1)]);
    assert_eq!([feedback(0, "notUseful"), feedback(1, "notUseful")], [(1, 0), (0, 1)]);
    let text = stdout(&herd(folder.path(), &["backtest", "shop.yaml", "--store", "--compare", "calm.yaml"]));
    assert!(text.contains("raised of 2 useful  raised of 1 not useful"), "{text}");
}

#[rstest]
#[case::no_sink("", &["--store"], "the pipeline `shop` has no `postgres` or `sqlite` sink")]
#[case::no_file(SQLITE, &["--store"], "the file .herd/shop/shop.db does not exist")]
#[case::no_such_file(SQLITE, &["--store", "none.db"], "the file none.db does not exist")]
#[case::no_tables(SQLITE, &["--store", "other.db"], "no such table")]
#[case::no_url(SQLITE, &["--store", "postgres://u:hush@["], "the URL is not of the form postgres://")]
#[case::no_secret(
    "{name: db, postgres: {url: {name: db, key: url}}}",
    &["--store", "--secrets", "."],
    "give the directory of the Secrets with --secrets DIR"
)]
#[case::no_events(SQLITE, &["--store", "empty.db"], "the store: there are no events")]
#[case::no_broker(SQLITE, &["--kafka"], "the data directory .herd/shop/bus does not exist")]
#[case::no_topic(SQLITE, &["--kafka", "--data", "bare"], "cannot read the `events` topic")]
#[case::no_event_since(
    SQLITE,
    &["--events", "events.csv", "--since", "2024-01-01T00:00:00Z"],
    "events.csv: there is no event since 2024-01-01T00:00:00.000Z; the events are of 2023-11-14T22:1"
)]
#[case::no_event_stored_before(
    SQLITE,
    &["--store", "some.db", "--until", "2023-01-01T00:00:00Z"],
    "the store: there is no event before 2023-01-01T00:00:00.000Z; the events are of 2023-11-14T22:1"
)]
#[case::no_time(SQLITE, &["--store", "--since", "7d", "--until", "14d"], "--until is not after --since")]
#[case::not_a_time(SQLITE, &["--store", "--since", "monday"], "`monday` is not a time")]
#[case::no_source(SQLITE, &[], "--events <FILE>|--store [<URL>]|--kafka")]
#[case::two_sources(SQLITE, &["--store", "--kafka"], "cannot be used with")]
fn explains_what_is_missing(#[case] sink: &str, #[case] options: &[&str], #[case] expected: &str) {
    let (pipeline, events, runtime) = (pipeline("shop", "", sink), events(), runtime());
    let folder = folder(&pipeline, &events);
    std::fs::write(folder.path().join("other.db"), "").unwrap();
    runtime.block_on(Store::sqlite(&folder.path().join("empty.db"))).unwrap();
    let some = runtime.block_on(Store::sqlite(&folder.path().join("some.db"))).unwrap();
    store(&runtime, &some, &plan(&pipeline), &events[..100]);
    drop(EmbeddedBus::open(&folder.path().join("bare/bus")).unwrap());
    let output = herd(folder.path(), &[&["backtest", "shop.yaml"], options].concat());
    assert!(!output.status.success());
    // Long messages are wrapped.
    let flat = |text: &str| text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let message = flat(&stderr(&output));
    assert!(message.contains(&flat(expected)) && !message.contains("hush"), "{message}");
    // Reading creates nothing.
    assert!(!folder.path().join("none.db").exists() && !folder.path().join(".herd").exists());
}

//! On the embedded bus, as `herd up` runs it: history is read back, changes come at once, lag is measured.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use herd_api::Limits;
use herd_bus::embedded::EmbeddedBus;
use herd_bus::{Acks, Bus, Outgoing, Producer};
use herd_spec::units::WallTime;
use herd_spec::wire::AlertState::{Early, Firing};
use herd_stage::{Secrets, Stage};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use fixture::{PATIENCE, Socket, alert_record, plan};

fn send(producer: &impl Producer, topic: &str, value: &[u8]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let record = Outgoing {
        topic,
        partition: None,
        key: Some(&value[..value.len().min(80)]),
        value: Some(value),
        timestamp: WallTime(i64::try_from(now.as_millis()).unwrap()),
        headers: &[],
    };
    let acks = Acks::new();
    producer.send(&record, acks.expect(0)).unwrap();
    assert!(acks.wait(PATIENCE) && acks.take_failed().is_empty());
}

fn window(key: &str, start: i64) -> Vec<u8> {
    format!(
        r#"{{"v":1,"metric":"views","key":"{key}","start":{start},"size_ms":10000,"count":3,"value":3,"final":true}}"#
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_earlier_records_and_publishes_alerts_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Arc::new(plan(|_| {}));
    let bus = EmbeddedBus::open(folder.path()).unwrap();
    bus.ensure_topics(&plan.topics.all()).unwrap();
    let producer = bus.producer("test").unwrap();
    for number in 0..40 {
        send(&producer, &plan.topics.windows.name, &window(&format!("k{}", number % 4), number * 10_000));
    }
    send(&producer, &plan.topics.alerts.name, &alert_record("before", 0, Firing));
    send(&producer, &plan.topics.events.name, b"{}");

    let stage = Stage::new(CancellationToken::new(), Secrets::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = listener.local_addr().unwrap().to_string();
    let (limits, clone) = (Limits::default(), bus.clone());
    let running = tokio::spawn(herd_api::run_with(
        Arc::clone(&plan),
        clone,
        None,
        stage.clone(),
        listener,
        None,
        limits,
    ));
    let deadline = Instant::now() + PATIENCE;
    let http = herd_stage::http_client().build().unwrap();
    http.get(format!("http://{base}/api/v1/pipeline")).send().await.unwrap();
    while !stage.health.report().ready {
        assert!(Instant::now() < deadline, "not ready in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (stream, _) = tokio_tungstenite::connect_async(format!("ws://{base}/ws")).await.unwrap();
    let mut socket = Socket(stream);
    assert_eq!(socket.subscribe("item:views/k1").await["windows"].as_array().unwrap().len(), 10);
    assert_eq!(socket.subscribe("alerts").await["alerts"][0]["key"], "before");
    assert_eq!(socket.subscribe("trending:views").await["items"][0]["value"], 6.0);

    let mut delays: Vec<Duration> = Vec::new();
    for number in 0..100 {
        let sent = Instant::now();
        send(&producer, &plan.topics.alerts.name, &alert_record("new", number * 10_000, Early));
        let frame = socket.next_of("alert").await;
        delays.push(sent.elapsed());
        assert_eq!(frame["data"]["start"], number * 10_000);
    }
    delays.sort_unstable();
    assert!(delays[50] < Duration::from_millis(500), "alerts are delayed: {delays:?}");

    socket.subscribe("stats").await;
    loop {
        let stats = socket.next_of("stats").await["data"].clone();
        if stats["events_total"] == 1 {
            assert_eq!(stats["alerts_firing"], 101);
            assert_eq!(stats["stages"][0]["lag"], json!(1), "{stats}");
            break;
        }
    }
    stage.shutdown.cancel();
    assert_eq!(socket.closed().await.0, 1001);
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
}

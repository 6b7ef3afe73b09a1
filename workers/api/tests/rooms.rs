//! Over a real WebSocket: snapshots and changes, rooms, slow clients, the end.

#![allow(clippy::unwrap_used)]

mod fixture;

use herd_api::Limits;
use herd_spec::wire::AlertState::{Early, Firing, Resolved, Withdrawn};
use herd_stage::Secrets;
use serde_json::{Value, json};

use fixture::{ApiFixture, plan};

/// (start, count) of the windows of a snapshot.
fn windows(snapshot: &Value) -> Vec<(i64, u64)> {
    let windows = snapshot["windows"].as_array().unwrap();
    windows.iter().map(|w| (w["start"].as_i64().unwrap(), w["count"].as_u64().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_gap_or_duplicate_between_snapshot_and_changes() {
    let fixture = ApiFixture::open().await;
    // Windows keep coming, one count at a time, while clients subscribe.
    let writer = {
        let (bus, topic) = (fixture.bus.clone(), fixture.plan.topics.windows.name.clone());
        std::thread::spawn(move || {
            for count in 1..=3_000_u32 {
                let record = format!(
                    r#"{{"v":1,"metric":"views","key":"a","start":0,"size_ms":10000,"count":{count},"value":{count},"final":false}}"#
                );
                bus.append(&topic, 0, record.into_bytes());
            }
        })
    };
    for _ in 0..10 {
        let mut socket = fixture.socket().await;
        let snapshot = socket.subscribe("item:views/a").await;
        let mut last = windows(&snapshot).last().map_or(0, |window| window.1);
        while last < 3_000 {
            let frame = socket.next_of("window").await;
            assert_eq!(frame["room"], "item:views/a");
            let count = frame["data"]["count"].as_u64().unwrap();
            assert_eq!(count, last + 1);
            last = count;
        }
    }
    writer.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_receives_only_its_frames() {
    let fixture = ApiFixture::open().await;
    let mut item = fixture.socket().await;
    item.subscribe("item:views/a/b").await;
    let mut metric = fixture.socket().await;
    metric.subscribe("metric:views").await;
    let mut all = fixture.socket().await;
    let everything = all.subscribe("all").await;
    assert!(
        everything["stats"].is_object() && everything["trending"][0]["metric"] == "views",
        "{everything}"
    );
    fixture.window("other", 0, 3, false);
    fixture.window("a/b", 0, 5, true);
    let frame = item.next_of("window").await;
    assert_eq!(
        frame["data"],
        json!({"metric": "views", "key": "a/b", "size_ms": 10_000, "start": 0, "count": 5, "value": 5.0, "final": true, "bands": []})
    );
    for socket in [&mut metric, &mut all] {
        assert_eq!(socket.next_of("window").await["data"]["key"], "other");
        assert_eq!(socket.next_of("window").await["data"]["key"], "a/b");
    }
    item.send_json(json!({"op": "unsubscribe", "room": "item:views/a/b"})).await;
    item.send_json(json!({"op": "ping"})).await;
    item.next_of("heartbeat").await;
    fixture.window("a/b", 10_000, 5, true);
    assert_eq!(metric.next_of("window").await["data"]["start"], 10_000);
    item.send_json(json!({"op": "subscribe", "room": "nowhere"})).await;
    let frame = item.next().await;
    assert_eq!(frame["type"], "error", "no window after unsubscribing: {frame}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_trending_and_stats_every_second() {
    let fixture = ApiFixture::open().await;
    fixture.bus.append(&fixture.plan.topics.events.name, 0, b"{}".to_vec());
    fixture.window("a", 0, 5, false);
    let mut socket = fixture.socket().await;
    socket.subscribe("trending:views").await;
    let frame = socket.next_of("trending").await;
    assert_eq!((&frame["room"], &frame["data"]["items"][0]["key"]), (&json!("trending:views"), &json!("a")));
    socket.subscribe("stats").await;
    loop {
        let stats = socket.next_of("stats").await;
        if stats["data"]["events_total"] == 1 {
            assert_eq!(stats["data"]["stages"][0]["stage"], "fold");
            assert_eq!(stats["data"]["stages"][0]["lag"], 1);
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_all_states_of_an_alert_including_withdrawn() {
    let fixture = ApiFixture::open().await;
    let mut socket = fixture.socket().await;
    assert_eq!(socket.subscribe("alerts").await["alerts"], json!([]));
    for state in [Early, Firing, Early, Resolved] {
        fixture.alert("a", 0, state);
    }
    fixture.alert("b", 0, Early);
    fixture.alert("b", 0, Withdrawn);
    let mut states = Vec::new();
    for _ in 0..5 {
        let frame = socket.next_of("alert").await;
        assert_eq!(frame["data"]["raised"], 700);
        states.push(format!("{} {}", frame["data"]["key"], frame["data"]["state"]).replace('"', ""));
    }
    assert_eq!(states, ["a early", "a firing", "a resolved", "b early", "b withdrawn"]);
    let mut late = fixture.socket().await;
    let snapshot = late.subscribe("alerts").await;
    let alerts = snapshot["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 1);
    assert_eq!((&alerts[0]["state"], &alerts[0]["resolved"]), (&json!("resolved"), &json!(10_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_is_disconnected_and_others_are_not() {
    let limits = Limits { waiting_frames: 200, ..Limits::default() };
    let fixture =
        ApiFixture::open_with(plan(|_| {}), limits, None, None, Secrets::default(), |_, _| {}).await;
    let mut slow = fixture.socket().await;
    slow.subscribe("metric:views").await;
    let mut quick = fixture.socket().await;
    quick.subscribe("item:views/b").await;
    // Keys of 1 KB fill what the system buffers for a client that does not read.
    let long = "a".repeat(1_000);
    let mut windows = 0;
    while !fixture.metrics().await.contains("herd_api_websocket_dropped_total 1") {
        for _ in 0..100 {
            windows += 1;
            fixture.window(&long, windows * 10_000, 1, false);
        }
        fixture.window("b", windows * 10_000, 1, false);
        assert_eq!(quick.next_of("window").await["data"]["start"], windows * 10_000);
        assert!(windows < 1_000_000, "never dropped");
    }
    let (code, reason) = slow.closed().await;
    assert_eq!((code, reason.starts_with("too slow")), (1013, true), "{reason}");
    fixture.window("b", 0, 99, true);
    quick.send_json(json!({"op": "ping"})).await;
    quick.next_of("heartbeat").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_invalid_requests() {
    let limits = Limits { rooms: 2, clients: 2, message_bytes: 200, ..Limits::default() };
    let fixture =
        ApiFixture::open_with(plan(|_| {}), limits, None, None, Secrets::default(), |_, _| {}).await;
    let mut socket = fixture.socket().await;
    for (request, answer) in [
        (json!("hello"), "invalid request"),
        (json!({"op": "dance"}), "invalid request"),
        (json!({"op": "subscribe", "room": "item:views"}), "has no key"),
        (json!({"op": "subscribe", "room": "item:views/"}), "has no key"),
        (
            json!({"op": "subscribe", "room": "metric:clicks"}),
            "metric `clicks` does not exist; metrics of this pipeline: views",
        ),
        (json!({"op": "subscribe", "room": "lobby"}), "room `lobby` does not exist"),
    ] {
        socket.send_json(request.clone()).await;
        let frame = socket.next_of("error").await;
        assert!(frame["message"].as_str().unwrap().contains(answer), "{request}: {frame}");
    }
    socket.subscribe("alerts").await;
    socket.subscribe("stats").await;
    socket.send_json(json!({"op": "subscribe", "room": "all"})).await;
    let frame = socket.next_of("error").await;
    assert!(frame["message"].as_str().unwrap().contains("the limit of 2 rooms"), "{frame}");

    let _second = fixture.socket().await;
    let third = tokio_tungstenite::connect_async(format!("ws://{}/ws", fixture.base)).await;
    assert!(third.unwrap_err().to_string().contains("503"));
    socket.send_json(json!({"op": "subscribe", "room": "x".repeat(500)})).await;
    assert_eq!(socket.closed().await.0, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_closes_the_sockets_with_a_reason() {
    let fixture = ApiFixture::open().await;
    let mut socket = fixture.socket().await;
    socket.subscribe("all").await;
    fixture.stage.shutdown.cancel();
    assert_eq!(socket.closed().await.0, 1001);
    tokio::time::timeout(fixture::PATIENCE, fixture.running).await.unwrap().unwrap().unwrap();
}

//! With a store (SQLite): what was and what is, as one.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::path::Path;

use herd_api::Limits;
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::AlertState::{self, Early, Firing, Resolved, Withdrawn};
use herd_spec::wire::{Ending, EventRef, Window};
use herd_stage::Secrets;
use herd_store::{Advance, Store, Table};
use serde_json::{Value, json};

use fixture::{ApiFixture, alert_with_episode, plan};

async fn write(store: &Store, topic: &str, table: Table, fill: impl FnOnce(&mut herd_store::Rows)) {
    let mut writer = store.writer();
    let partition = Partition(0);
    let expected = writer.positions(topic, table, &[partition]).await.unwrap()[0].1;
    let mut rows = writer.rows(table);
    fill(&mut rows);
    let advance = Advance { topic, partition, expected, next: Offset(expected.0 + 1) };
    writer.write(&[advance], &rows, 0..rows.len()).await.unwrap();
}

async fn write_alerts(store: &Store, alerts: &[(&str, i64, AlertState)]) {
    write(store, "shop.alerts", Table::Alerts, |rows| {
        for (key, start, state) in alerts {
            rows.push_alert(&fixture::alert_of(key, *start, *state), WallTime(start + 700)).unwrap();
        }
    })
    .await;
}

async fn write_windows(store: &Store, windows: &[(i64, u32)]) {
    write(store, "shop.windows", Table::Windows, |rows| {
        for (start, count) in windows {
            let text = format!(
                r#"{{"v":1,"metric":"views","key":"a","start":{start},"size_ms":10000,"count":{count},"value":{count},"final":true}}"#
            );
            rows.push_window(&Window::parse(text.as_bytes()).unwrap()).unwrap();
        }
    })
    .await;
}

async fn write_events(store: &Store, times: &[i64]) {
    write(store, "shop.events", Table::UserEvents, |rows| {
        for (offset, time) in (0..).zip(times) {
            let text = format!(
                r#"{{"v":1,"event_id":"e{offset}","type":"view","user_id":"u 1","item_id":"a","time":{time},"received":{time},"properties":{{"n":{offset}}}}}"#
            );
            let event = EventRef::parse(text.as_bytes()).unwrap();
            rows.push_event(Partition(0), Offset(offset), &event).unwrap();
        }
    })
    .await;
}

async fn open(folder: &Path) -> (ApiFixture, Store) {
    let store = Store::sqlite(&folder.join("shop.db")).await.unwrap();
    let limits = Limits::default();
    let fixture =
        ApiFixture::open_with(plan(|_| {}), limits, Some(store.clone()), None, Secrets::default(), |_, _| {})
            .await;
    (fixture, store)
}

fn keys(page: &Value) -> Vec<String> {
    let alerts = page["alerts"].as_array().unwrap();
    alerts.iter().map(|alert| format!("{} {}", alert["key"], alert["state"]).replace('"', "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_stored_and_live_windows() {
    let folder = tempfile::tempdir().unwrap();
    let (fixture, store) = open(folder.path()).await;
    assert_eq!(fixture.get("/api/v1/pipeline").await.1["store"], true);
    write_windows(&store, &[(0, 3), (10_000, 4), (20_000, 5)]).await;
    fixture.window("a", 20_000, 5, true);
    fixture.window("a", 30_000, 1, false);
    let chart = |path: &'static str| {
        let fixture = &fixture;
        async move {
            let (_, chart) = fixture.get(path).await;
            let windows = chart["windows"].as_array().unwrap().clone();
            windows
                .iter()
                .map(|w| (w["start"].as_i64().unwrap(), w["count"].as_u64().unwrap()))
                .collect::<Vec<_>>()
        }
    };
    let all = "/api/v1/metrics/views/windows?key=a";
    fixture.until(|_| async { chart(all).await.len() == 4 }).await;
    assert_eq!(chart(all).await, [(0, 3), (10_000, 4), (20_000, 5), (30_000, 1)]);
    assert_eq!(chart("/api/v1/metrics/views/windows?key=a&limit=2").await, [(20_000, 5), (30_000, 1)]);
    assert_eq!(chart("/api/v1/metrics/views/windows?key=a&to=20000").await, [(0, 3), (10_000, 4)]);
    let mut socket = fixture.socket().await;
    let snapshot = socket.subscribe("item:views/a").await;
    assert_eq!(snapshot["windows"].as_array().unwrap().len(), 4);
    fixture.until(|fixture| async { fixture.get("/api/v1/stats").await.1["windows_total"] == 3 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_stored_and_live_alerts_without_duplicates() {
    let folder = tempfile::tempdir().unwrap();
    let (fixture, store) = open(folder.path()).await;
    write_alerts(
        &store,
        &[
            ("a", 0, Resolved),
            ("b", 10_000, Resolved),
            ("c", 20_000, Firing),
            ("d", 30_000, Early),
            ("w", 40_000, Early),
        ],
    )
    .await;
    // Live is ahead of the store.
    fixture.alert("c", 20_000, Resolved);
    fixture.alert("w", 40_000, Withdrawn);
    fixture.alert("new", 50_000, Early);
    fixture
        .until(|fixture| async {
            keys(&fixture.get("/api/v1/alerts").await.1).first().is_some_and(|key| key == "new early")
        })
        .await;
    let (_, all) = fixture.get("/api/v1/alerts").await;
    assert_eq!(keys(&all), ["new early", "d early", "c resolved", "b resolved", "a resolved"]);
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let (_, page) = fixture.get(&format!("/api/v1/alerts?limit=2{cursor}")).await;
        seen.extend(keys(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, keys(&all));
    assert_eq!(keys(&fixture.get("/api/v1/alerts?state=firing").await.1), ["new early", "d early"]);
    let (status, problem) = fixture.get("/api/v1/alerts?cursor=zzz").await;
    assert_eq!(status, 400, "{problem}");
    let mut socket = fixture.socket().await;
    assert_eq!(keys(&socket.subscribe("alerts").await), keys(&all));
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_the_episode_of_an_alert_as_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (fixture, store) = open(folder.path()).await;
    let mut socket = fixture.socket().await;
    assert_eq!(socket.subscribe("alerts").await["alerts"], json!([]));
    let start = 100_000;
    fixture.alert("a", start, Early);
    assert_eq!(socket.next_of("alert").await["data"]["episode"], Value::Null);
    fixture.send_alert(&alert_with_episode("a", start, 3, None), start + 30_700);
    let frame = socket.next_of("alert").await["data"].clone();
    let of = fixture::alert_of("a", start, Firing);
    assert_eq!(
        frame,
        json!({
            "id": of.id.0, "pipeline": "shop", "detector": "crowd", "metric": "views", "key": "a", "severity": "warning",
            "state": "firing", "start": 100_000, "size_ms": 10_000, "span_ms": 40_000, "count": 50, "value": 50.0,
            "expected": 5.0, "spread": 2.0, "score": 22.0, "summary": of.summary, "resolved": null,
            "episode": {
                "since": 80_000, "until": 130_000, "peak": 96.0, "peak_start": 100_000, "excess": 154.5,
                "ending": null, "level": null
            },
            "explanation": null,
            "raised": 100_700,
            "history": [{"state": "early", "at": 100_700}, {"state": "firing", "at": 130_700}],
            "useful": null
        })
    );
    // Late and twice: no news. Then the end, which the store has first.
    fixture.send_alert(&alert_with_episode("a", start, 2, None), start + 20_700);
    fixture.send_alert(&alert_with_episode("a", start, 3, None), start + 30_900);
    let over = alert_with_episode("a", start, 5, Some(Ending::NewLevel(340.0)));
    write(&store, "shop.alerts", Table::Alerts, |rows| {
        rows.push_alert(&over, WallTime(start + 60_700)).unwrap();
    })
    .await;
    let (_, page) = fixture.get("/api/v1/alerts").await;
    let merged = &page["alerts"][0];
    assert_eq!(
        merged["episode"],
        json!({
            "since": 80_000, "until": 150_000, "peak": 96.0, "peak_start": 100_000, "excess": 257.5,
            "ending": "new_level", "level": 340.0
        })
    );
    let states: Vec<&Value> = merged["history"].as_array().unwrap().iter().map(|at| &at["state"]).collect();
    assert_eq!(states, ["early", "firing", "resolved"]);
    fixture.send_alert(&over, start + 60_700);
    let frame = socket.next_of("alert").await["data"].clone();
    assert_eq!(frame, *merged);
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_stored_served_and_published() {
    let folder = tempfile::tempdir().unwrap();
    let (fixture, store) = open(folder.path()).await;
    write_alerts(&store, &[("stored", 0, Resolved), ("gone", 0, Withdrawn)]).await;
    let mut socket = fixture.socket().await;
    socket.subscribe("alerts").await;
    // Not in the store yet.
    fixture.alert("live", 10_000, Firing);
    assert_eq!(socket.next_of("alert").await["data"]["useful"], Value::Null);
    let id = |key: &str, start| fixture::alert_of(key, start, Firing).id.0;
    let (live, stored) = (id("live", 10_000), id("stored", 0));
    let useful = async || {
        let (_, page) = fixture.get("/api/v1/alerts").await;
        let alerts = page["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| alert["useful"].as_bool()).collect::<Vec<_>>()
    };
    assert_eq!(useful().await, [None, None]);
    assert_eq!(fixture.feedback(&stored, json!({"useful": true})).await, (204, Value::Null));
    assert_eq!(fixture.feedback(&live, json!({"useful": true})).await.0, 204);
    assert_eq!(socket.next_of("alert").await["data"]["useful"], true);
    assert_eq!(useful().await, [Some(true), Some(true)]);
    assert_eq!(fixture.feedback(&live, json!({"useful": false})).await.0, 204);
    assert_eq!(socket.next_of("alert").await["data"]["useful"], false);
    assert_eq!(useful().await, [Some(false), Some(true)]);
    // Records that follow keep it, and so does a new start of the stage.
    fixture.alert("live", 10_000, Resolved);
    assert_eq!(socket.next_of("alert").await["data"]["useful"], false);
    write_alerts(&store, &[("live", 10_000, Resolved)]).await;
    let again = store.alerts(&herd_store::AlertFilter::default()).await.unwrap();
    assert_eq!(again.alerts.iter().map(|alert| alert.useful).collect::<Vec<_>>(), [Some(false), Some(true)]);

    let refused = async |id: String, body| {
        let (status, problem) = fixture.feedback(&id, body).await;
        (status, problem["detail"].as_str().unwrap_or_default().to_owned())
    };
    for unknown in [id("gone", 0), id("nobody", 0), "nonsense".to_owned(), "%00".to_owned()] {
        let (status, detail) = refused(unknown, json!({"useful": true})).await;
        assert_eq!((status, detail.ends_with("does not exist")), (404, true), "{detail}");
    }
    for (body, why) in [
        (json!({}), "missing field `useful`"),
        (json!({"useful": "yes"}), "expected a boolean"),
        (json!({"useful": true, "note": "!"}), "unknown field `note`"),
        (Value::Null, "the body is invalid"),
    ] {
        let (status, detail) = refused(live.clone(), body).await;
        assert_eq!((status, detail.contains(why)), (400, true), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_users_and_their_events_from_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let (fixture, store) = open(folder.path()).await;
    write_events(&store, &[1_000, 2_000, 3_000, 4_000, 5_000]).await;
    let (status, user) = fixture.get("/api/v1/users/u%201").await;
    assert_eq!((status, &user["events"], &user["last_seen"]), (200, &json!(5), &json!(5_000)), "{user}");
    assert_eq!(fixture.get("/api/v1/users/nobody").await.0, 404);
    let (_, users) = fixture.get("/api/v1/users?order=events&limit=5").await;
    assert_eq!(users["users"][0]["user_id"], "u 1");
    let (mut times, mut before) = (Vec::new(), String::new());
    loop {
        let (status, page) = fixture.get(&format!("/api/v1/users/u%201/events?limit=2{before}")).await;
        assert_eq!(status, 200, "{page}");
        times.extend(page["events"].as_array().unwrap().iter().map(|event| event["time"].as_i64().unwrap()));
        match page["next_before"].as_i64() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(times, [5_000, 4_000, 3_000, 2_000, 1_000]);
}

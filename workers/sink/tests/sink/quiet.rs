//! What is held back from a real HTTP server in quiet times.

use std::path::Path;

use herd_spec::plan::SinkKind;
use herd_spec::wire::{Alert, AlertState};

use crate::scene::{ALERTS, DEAD, alert, memory_bus, put_alert, put_alert_now, start, until};
use crate::webhook::{Answer, Endpoint, is_through};

/// The endpoint, with these quiet times of the detector of the alerts here.
fn quiet_kind(endpoint: &Endpoint, data: &Path, quiet: &serde_json::Value) -> SinkKind {
    let mut kind = endpoint.kind(data, 3);
    if let SinkKind::Webhook(webhook) = &mut kind {
        webhook.quiet.insert("rush".into(), serde_json::from_value(quiet.clone()).unwrap());
    }
    kind
}

/// What the endpoint heard: `KEY STATE` of an alert, or the words of a summary.
fn heard(endpoint: &Endpoint) -> Vec<String> {
    let heard = endpoint.heard.lock().unwrap();
    let words = |body: &[u8]| match Alert::parse(body) {
        Ok(alert) => format!("{} {}", alert.key, alert.state.as_str()),
        Err(_) => {
            let summary: serde_json::Value = serde_json::from_slice(body).unwrap();
            summary["summary"].as_str().unwrap().to_owned()
        }
    };
    heard.iter().map(|(_, body, _)| words(body)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breached_in_a_quiet_night_is_summed_up_in_one_message() {
    use AlertState::{Early, Firing, Resolved, Withdrawn};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    // The records are of 22:13:31.
    for n in 0..100 {
        put_alert(&bus, &alert(&format!("mug-{n:02}"), Firing));
    }
    for (key, state) in [("mug-07", Resolved), ("pot", Early), ("pot", Withdrawn)] {
        put_alert(&bus, &alert(key, state));
    }
    let mut loud = alert("cup", Firing);
    loud.detector = "other".into();
    put_alert(&bus, &loud);
    let night = serde_json::json!({
        "hours": [{ "from": 1320, "to": 420, "timeZone": "UTC", "days": [] }], "mutes": [],
    });
    let sink = start(quiet_kind(&endpoint, folder.path(), &night), &bus, folder.path());
    until("the night is summed up", async || endpoint.heard.lock().unwrap().len() == 2).await;
    sink.stop().await.unwrap();
    let told = heard(&endpoint);
    assert_eq!(told[0], "cup firing");
    let begin = "While quiet (22:00–07:00 UTC): 100 alerts: mug-00: 412 views in 10 s; mug-01: ";
    assert!(told[1].starts_with(begin) && told[1].ends_with("; and 80 more"), "{}", told[1]);
    let sink = start(quiet_kind(&endpoint, folder.path(), &night), &bus, folder.path());
    // Its end comes by day.
    put_alert_by_day(&bus, &alert("mug-00", Resolved));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    assert_eq!(heard(&endpoint)[2..], ["mug-00 resolved"]);
}

/// At 12:00 UTC of the next day.
fn put_alert_by_day(bus: &crate::bus::MemoryBus, alert: &Alert) {
    let mut bytes = Vec::new();
    alert.write(&mut bytes);
    bus.put(ALERTS, 0, 1_700_049_600_000, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_back_outlasts_restarts_and_is_no_lag() {
    use AlertState::{Firing, Resolved};
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let end = i64::try_from(now.as_millis()).unwrap() + 4_000;
    let muted = serde_json::json!({ "hours": [], "mutes": [{ "until": end, "keys": ["mug*"] }] });
    let run = || start(quiet_kind(&endpoint, folder.path(), &muted), &bus, folder.path());
    let sink = run();
    for key in ["mug-1", "cup", "mug-2"] {
        put_alert_now(&bus, &alert(key, Firing));
    }
    // Committed, although they are not told.
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let sink = run();
    put_alert_now(&bus, &alert("mug-2", Resolved));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    assert_eq!(heard(&endpoint), ["cup firing"]);
    let sink = run();
    until("the mute has ended and is summed up", async || heard(&endpoint).len() == 2).await;
    put_alert_now(&bus, &alert("mug-1", Resolved));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let sink = run();
    put_alert_now(&bus, &alert("mug-3", Firing));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    let told = heard(&endpoint);
    assert!(told[1].starts_with("While quiet (muted until 20"), "{}", told[1]);
    assert!(told[1].contains("): 2 alerts: mug-1: 412 views in 10 s; mug-2: "), "{}", told[1]);
    assert_eq!(told[2..], ["mug-1 resolved", "mug-3 firing"]);
    assert!(bus.log(DEAD).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_back_by_settings_that_changed_is_told() {
    let (bus, folder) = (memory_bus(), tempfile::tempdir().unwrap());
    let endpoint = Endpoint::serve(&[Answer::Status(200)]).await;
    let run =
        |quiet: serde_json::Value| start(quiet_kind(&endpoint, folder.path(), &quiet), &bus, folder.path());
    let muted = serde_json::json!({ "hours": [], "mutes": [{ "until": 4_000_000_000_000_i64, "keys": [] }] });
    let sink = run(muted);
    put_alert_now(&bus, &alert("mug", AlertState::Firing));
    is_through(&bus).await;
    sink.stop().await.unwrap();
    assert_eq!(heard(&endpoint), [""; 0]);
    let sink = run(serde_json::json!({ "hours": [], "mutes": [] }));
    until("it is told", async || !heard(&endpoint).is_empty()).await;
    sink.stop().await.unwrap();
    assert!(heard(&endpoint)[0].ends_with("1 alert: mug: 412 views in 10 s"), "{:?}", heard(&endpoint));
}

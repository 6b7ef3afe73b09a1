//! Sees alerts where a person would: at the WebSocket of the api.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use herd_spec::units::WallTime;
use herd_spec::wire::Alert;
use herd_stage::{Clock, SystemClock};
use serde::Deserialize;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Alerts remembered, to tell new ones from later states of old ones; after so many the memory begins anew.
const REMEMBERED: usize = 100_000;

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: serde_json::Value,
}

/// Calls `seen` once for each alert that is raised from now on, until `stop`. Connects again when it is cut off.
pub async fn alerts(url: String, stop: CancellationToken, mut seen: impl FnMut(&Alert, WallTime) + Send) {
    let mut known = HashSet::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = follow(&url, &mut known, &mut seen) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One connection, to its end.
async fn follow(url: &str, known: &mut HashSet<String>, seen: &mut (impl FnMut(&Alert, WallTime) + Send)) {
    let Ok((mut socket, _)) = connect_async(url).await else { return };
    let subscribe = Message::text(r#"{"op":"subscribe","room":"alerts"}"#);
    if socket.send(subscribe).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        let now = SystemClock.now();
        let Message::Text(text) = message else { continue };
        let Ok(frame) = serde_json::from_str::<Frame>(&text) else { continue };
        match frame.kind.as_str() {
            // What was there before is no news.
            "snapshot" => {
                let old = frame.data.get("alerts").and_then(serde_json::Value::as_array);
                let ids = old.into_iter().flatten().filter_map(|alert| alert.get("id")?.as_str());
                known.extend(ids.map(str::to_owned));
            }
            "alert" => {
                let Ok(alert) = Alert::parse(versioned(frame.data).to_string().as_bytes()) else { continue };
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                if known.insert(alert.id.0.clone()) && alert.state.is_firing() {
                    seen(&alert, now);
                }
            }
            _ => {}
        }
    }
}

/// The api leaves the record's version out.
fn versioned(mut data: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = data.as_object_mut() {
        fields.entry("v").or_insert_with(|| herd_spec::wire::VERSION.into());
    }
    data
}

//! Receives alerts as a WebSocket client of the api.

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

/// Maximum number of remembered alert ids, which distinguish new alerts from later states of known ones; then the set is cleared.
const MAX_KNOWN: usize = 100_000;

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: serde_json::Value,
}

/// Calls `on_alert` once for each new alert until `stop` is cancelled. Reconnects after a lost connection.
pub async fn alerts(url: String, stop: CancellationToken, mut on_alert: impl FnMut(&Alert, WallTime) + Send) {
    let mut known = HashSet::new();
    while !stop.is_cancelled() {
        tokio::select! {
            () = follow(&url, &mut known, &mut on_alert) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One connection, until it ends.
async fn follow(
    url: &str,
    known: &mut HashSet<String>,
    on_alert: &mut (impl FnMut(&Alert, WallTime) + Send),
) {
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
            // Alerts of the snapshot are not new.
            "snapshot" => {
                let old = frame.data.get("alerts").and_then(serde_json::Value::as_array);
                let ids = old.into_iter().flatten().filter_map(|alert| alert.get("id")?.as_str());
                known.extend(ids.map(str::to_owned));
            }
            "alert" => {
                let Ok(alert) = Alert::parse(versioned(frame.data).to_string().as_bytes()) else { continue };
                if known.len() >= MAX_KNOWN {
                    known.clear();
                }
                if known.insert(alert.id.0.clone()) && alert.state.is_firing() {
                    on_alert(&alert, now);
                }
            }
            _ => {}
        }
    }
}

/// Adds the version of the record, which the api omits.
fn versioned(mut data: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = data.as_object_mut() {
        fields.entry("v").or_insert_with(|| herd_spec::wire::VERSION.into());
    }
    data
}

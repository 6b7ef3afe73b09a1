//! A WebSocket client: a task that reads its requests, writes the frames of its queue, and closes the connection when the client is
//! too slow or silent, or the stage ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use herd_store::AlertFilter;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::{App, now};
use crate::hub::{Inbox, Outbox, Room, json};
use crate::live::{CHART_WINDOWS, PAGE_ALERTS, Past};
use crate::routes::{stored_alerts, stored_windows};
use herd_stage::Problem;

/// Interval of heartbeats and pings to each client.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time without a response after which a client is considered gone.
const SILENCE: Duration = Duration::from_secs(30);
/// Time without progress in writing after which a client is too slow.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Timeout of the closing handshake.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);
/// Maximum number of frames written before a flush.
const TOGETHER: usize = 128;
/// Timeout of the store for a snapshot; after it, the snapshot contains live data only.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Subscribe { room: String },
    Unsubscribe { room: String },
    Ping {},
}

/// Opens a WebSocket, within the limit of clients.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Problem::new(rejection.status(), rejection.body_text()).into_response(),
    };
    let Ok(permit) = Arc::clone(&app.client_permits).try_acquire_owned() else {
        let detail = format!("the limit of {} clients is reached: try again later", app.limits.clients);
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .after(Duration::from_secs(10))
            .into_response();
    };
    let tasks = app.tasks.clone();
    upgrade.max_message_size(app.limits.message_bytes).max_frame_size(app.limits.message_bytes).on_upgrade(
        move |socket| {
            tasks.track_future(async move {
                let _permit = permit;
                app.metrics.clients.inc();
                let client = Client::new(Arc::clone(&app));
                client.run(socket).await;
                app.metrics.clients.dec();
            })
        },
    )
}

/// Why a connection ends.
enum End {
    /// The client closed it, or it was lost.
    Gone,
    /// The stage closes it, with this code and reason.
    Closed(u16, &'static str),
}

struct Client {
    app: Arc<App>,
    outbox: Outbox,
    inbox: Inbox,
    rooms: HashMap<String, Room>,
}

const TOO_SLOW: End = End::Closed(
    close_code::AGAIN,
    "too slow for the subscribed rooms: reconnect, or subscribe to fewer rooms",
);

impl Client {
    fn new(app: Arc<App>) -> Self {
        let id = app.next_client.fetch_add(1, Ordering::Relaxed);
        let (outbox, inbox) = Outbox::new(id, app.limits.waiting_frames, app.limits.waiting_bytes);
        Self { app, outbox, inbox, rooms: HashMap::new() }
    }

    async fn run(mut self, socket: WebSocket) {
        let (mut sink, mut stream) = socket.split();
        self.outbox.send(
            format!(r#"{{"type":"hello","pipeline":{},"now":{}}}"#, json(&self.app.pipeline), now().0).into(),
        );
        let end = self.serve(&mut sink, &mut stream).await;
        {
            let mut live = self.app.live.lock();
            for room in self.rooms.values() {
                live.unsubscribe(room, &self.outbox);
            }
        }
        if let End::Closed(code, reason) = end {
            if code == close_code::AGAIN {
                self.app.metrics.dropped.inc();
            }
            let frame = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
            let goodbye = async {
                if sink.send(frame).await.is_ok() {
                    // The client responds and closes.
                    while let Some(Ok(_)) = stream.next().await {}
                }
            };
            // The result does not matter: the connection is dropped in any case.
            let _ = tokio::time::timeout(GOODBYE_PATIENCE, goodbye).await;
        }
    }

    async fn serve(
        &mut self,
        sink: &mut SplitSink<WebSocket, Message>,
        stream: &mut SplitStream<WebSocket>,
    ) -> End {
        let shutdown = self.app.shutdown.clone();
        let overflow = self.inbox.overflow.clone();
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_received = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return End::Closed(close_code::AWAY, "the stage is shutting down"),
                () = overflow.cancelled() => return TOO_SLOW,
                frame = self.inbox.next() => {
                    // The queue lives as long as this client.
                    let Some(frame) = frame else { return End::Gone };
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return End::Closed(close_code::AWAY, "the stage is shutting down"),
                        () = overflow.cancelled() => return TOO_SLOW,
                        () = tokio::time::sleep(WRITE_PATIENCE) => return TOO_SLOW,
                        written = write(sink, &mut self.inbox, frame) => match written {
                            Ok(frames) => { self.app.metrics.frames.inc_by(frames); }
                            Err(_) => return End::Gone,
                        },
                    }
                }
                _ = heartbeat.tick() => {
                    if last_received.elapsed() > SILENCE {
                        return End::Closed(close_code::POLICY, "no response to pings");
                    }
                    self.outbox.send(format!(r#"{{"type":"heartbeat","now":{}}}"#, now().0).into());
                    let ping = tokio::time::timeout(WRITE_PATIENCE, sink.send(Message::Ping("".into())));
                    tokio::select! {
                        biased;
                        () = overflow.cancelled() => return TOO_SLOW,
                        sent = ping => match sent {
                            Ok(Ok(())) => {}
                            Ok(Err(_)) => return End::Gone,
                            Err(_) => return TOO_SLOW,
                        },
                    }
                }
                message = stream.next() => {
                    last_received = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.handle(&text).await,
                        Some(Ok(Message::Binary(_))) => self.send_error("binary frames are not supported: send JSON as text"),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_))) | None => return End::Gone,
                        Some(Err(error)) if is_too_large(&error) => {
                            return End::Closed(close_code::SIZE, "the message is too long");
                        }
                        Some(Err(_)) => return End::Gone,
                    }
                }
            }
        }
    }

    fn send_error(&self, why: &str) {
        self.outbox.send(format!(r#"{{"type":"error","message":{}}}"#, json(why)).into());
    }

    async fn handle(&mut self, text: &str) {
        match serde_json::from_str(text) {
            Err(error) => self.send_error(&format!(
                "invalid request ({error}): send {{\"op\":\"subscribe\",\"room\":\"alerts\"}}, unsubscribe or ping"
            )),
            Ok(Request::Ping {}) => {
                self.outbox.send(format!(r#"{{"type":"heartbeat","now":{}}}"#, now().0).into());
            }
            Ok(Request::Unsubscribe { room }) => {
                if let Some(left) = self.rooms.remove(&room) {
                    self.app.live.lock().unsubscribe(&left, &self.outbox);
                }
            }
            Ok(Request::Subscribe { room: name }) => self.subscribe(name).await,
        }
    }

    async fn subscribe(&mut self, name: String) {
        let room = match Room::parse(&name, &self.app.plan) {
            Ok(room) => room,
            Err(why) => return self.send_error(&why),
        };
        if !self.rooms.contains_key(&name) && self.rooms.len() >= self.app.limits.rooms {
            let most = self.app.limits.rooms;
            return self
                .send_error(&format!("the limit of {most} rooms is reached: unsubscribe from another room"));
        }
        // Stored windows are closed and do not change, so they can be read before the lock is acquired.
        let past = tokio::time::timeout(STORE_PATIENCE, past(&self.app, &room)).await.unwrap_or_default();
        self.app.live.lock().subscribe(&room, &name, &self.outbox, past);
        self.rooms.insert(name, room);
    }
}

/// Data of the store for a room; empty if the store is unavailable.
async fn past(app: &App, room: &Room) -> Past {
    let mut past = Past::default();
    match room {
        Room::Item(metric, key) => {
            past.windows =
                stored_windows(app, *metric, key, (None, None), CHART_WINDOWS).await.unwrap_or_default();
        }
        Room::All | Room::Alerts => {
            let newest = AlertFilter { limit: PAGE_ALERTS, ..AlertFilter::default() };
            past.alerts = stored_alerts(app, &newest).await.unwrap_or_default();
        }
        Room::Stats | Room::Trending(_) | Room::Metric(_) => {}
    }
    past
}

/// Writes a frame and the queued ones after it, and flushes them together.
async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    inbox: &mut Inbox,
    frame: Utf8Bytes,
) -> Result<u64, axum::Error> {
    sink.feed(Message::Text(frame)).await?;
    let mut frames = 1;
    for _ in 1..TOGETHER {
        let Some(frame) = inbox.ready() else { break };
        sink.feed(Message::Text(frame)).await?;
        frames += 1;
    }
    sink.flush().await?;
    Ok(frames)
}

fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

//! One WebSocket client: a task that reads what it asks for, writes what its outbox holds, and ends it when it does not
//! keep up, goes silent, or the stage ends.

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
use crate::problem::Problem;
use crate::routes::{stored_alerts, stored_windows};

/// How often each client hears that the stage is alive, and is asked whether it is.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A client that answers nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// A client that takes nothing for so long does not keep up.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long saying goodbye may take.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);
/// Frames written before they are flushed together.
const TOGETHER: usize = 128;
/// How long the store may take for a snapshot; without it the snapshot holds what is live.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Subscribe { room: String },
    Unsubscribe { room: String },
    Ping {},
}

/// Opens a WebSocket, if there is a place.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Problem::new(rejection.status(), rejection.body_text()).into_response(),
    };
    let Ok(place) = Arc::clone(&app.places).try_acquire_owned() else {
        return Problem {
            status: StatusCode::SERVICE_UNAVAILABLE,
            detail: format!("there are {} clients already, no more are let in", app.limits.clients),
            retry_after: Some(10),
        }
        .into_response();
    };
    let tasks = app.tasks.clone();
    upgrade.max_message_size(app.limits.message_bytes).max_frame_size(app.limits.message_bytes).on_upgrade(
        move |socket| {
            tasks.track_future(async move {
                let _place = place;
                app.metrics.clients.inc();
                let client = Client::new(Arc::clone(&app));
                client.run(socket).await;
                app.metrics.clients.dec();
            })
        },
    )
}

/// Why a client goes.
enum End {
    /// It went by itself, or the connection broke.
    Gone,
    /// It is told this.
    Told(u16, &'static str),
}

struct Client {
    app: Arc<App>,
    outbox: Outbox,
    inbox: Inbox,
    rooms: HashMap<String, Room>,
}

const TOO_SLOW: End =
    End::Told(close_code::AGAIN, "too slow for these rooms: come back, or subscribe to fewer");

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
        if let End::Told(code, reason) = end {
            if code == close_code::AGAIN {
                self.app.metrics.dropped.inc();
            }
            let frame = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
            let goodbye = async {
                if sink.send(frame).await.is_ok() {
                    // The client answers, and closes.
                    while let Some(Ok(_)) = stream.next().await {}
                }
            };
            // Of no interest how it ends: the connection is dropped either way.
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
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return End::Told(close_code::AWAY, "the stage is ending"),
                () = overflow.cancelled() => return TOO_SLOW,
                frame = self.inbox.next() => {
                    // The outbox lives as long as this client.
                    let Some(frame) = frame else { return End::Gone };
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return End::Told(close_code::AWAY, "the stage is ending"),
                        () = overflow.cancelled() => return TOO_SLOW,
                        () = tokio::time::sleep(WRITE_PATIENCE) => return TOO_SLOW,
                        written = write(sink, &mut self.inbox, frame) => match written {
                            Ok(frames) => { self.app.metrics.frames.inc_by(frames); }
                            Err(_) => return End::Gone,
                        },
                    }
                }
                _ = heartbeat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return End::Told(close_code::POLICY, "no sign of life");
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
                    heard = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => self.asked(&text).await,
                        Some(Ok(Message::Binary(_))) => self.refuse("send text frames of JSON"),
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_))) | None => return End::Gone,
                        Some(Err(error)) if is_too_large(&error) => {
                            return End::Told(close_code::SIZE, "the message is too long");
                        }
                        Some(Err(_)) => return End::Gone,
                    }
                }
            }
        }
    }

    fn refuse(&self, why: &str) {
        self.outbox.send(format!(r#"{{"type":"error","message":{}}}"#, json(why)).into());
    }

    async fn asked(&mut self, text: &str) {
        match serde_json::from_str(text) {
            Err(error) => self.refuse(&format!(
                "not understood ({error}): send {{\"op\":\"subscribe\",\"room\":\"alerts\"}}, unsubscribe or ping"
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
            Err(why) => return self.refuse(&why),
        };
        if !self.rooms.contains_key(&name) && self.rooms.len() >= self.app.limits.rooms {
            let most = self.app.limits.rooms;
            return self
                .refuse(&format!("you are in {most} rooms, no more are let in: unsubscribe from some"));
        }
        // What the store has is closed and does not change: it can be read before the lock is taken.
        let past = tokio::time::timeout(STORE_PATIENCE, past(&self.app, &room)).await.unwrap_or_default();
        self.app.live.lock().subscribe(&room, &name, &self.outbox, past);
        self.rooms.insert(name, room);
    }
}

/// What the store has of a room; where it does not answer, nothing.
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

/// Writes a frame and those that are ready behind it, and flushes them together.
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

//! A running api stage, and clients of it.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // each test file uses a part

pub mod bus;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use herd_api::{ApiError, Limits};
use herd_spec::plan::Plan;
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState, Severity, VERSION, Window};
use herd_stage::{Secrets, Stage};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use bus::MemoryBus;

/// How long any test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A plan as the api reads it: one metric of 10 s windows, one detector, no store.
pub fn plan(change: impl FnOnce(&mut Value)) -> Plan {
    let topic =
        |name: &str| json!({"name": format!("shop.{name}"), "partitions": 2, "replication": 1, "config": {}});
    let stage = json!({"replicas": 1, "scaling": null, "resources": {}});
    let seconds = |secs: u64| json!({"secs": secs, "nanos": 0});
    let mut plan = json!({
        "pipeline": "shop", "kafka": null,
        "topics": {
            "events": topic("events"), "parts": topic("parts"), "windows": topic("windows"),
            "alerts": topic("alerts"), "deadLetter": topic("dead-letter"), "baselines": topic("baselines")
        },
        "groups": {"fold": "shop.fold", "judge": "shop.judge"},
        "events": {
            "mapping": {
                "id": [["event_id"]], "type": [["type"]], "user": [["context", "user"]],
                "item": [["product_id"]], "time": [["time"]]
            },
            "types": ["view", "purchase"], "schema": null, "key": "user_id",
            "maxLateness": seconds(30), "maxClockSkew": seconds(60)
        },
        "collector": {"keys": [], "origins": ["*"], "limits": {}, "stage": stage},
        "metrics": [{
            "name": "views", "types": ["view"], "conditions": [], "key": ["item_id"],
            "aggregate": {"function": "count"}, "window": seconds(10), "emit": seconds(1), "maxKeys": 1000
        }],
        "detectors": [{
            "name": "crowd", "metric": "views", "algorithm": {"threshold": {"above": 10.0}},
            "direction": "up", "minCount": 10, "cooldown": seconds(60), "severity": "warning"
        }],
        "detection": stage,
        "sinks": [],
        "api": {"token": null, "store": null, "simulate": true, "stage": stage},
        "paused": false
    });
    change(&mut plan);
    let parsed: Result<Plan, _> = serde_json::from_value(plan);
    let mut plan = parsed.unwrap();
    plan.collector.limits.batch_events = 100;
    plan
}

pub struct House {
    pub base: String,
    pub bus: MemoryBus,
    pub plan: Arc<Plan>,
    pub stage: Stage,
    pub running: JoinHandle<Result<(), ApiError>>,
    pub http: reqwest::Client,
}

impl House {
    pub async fn open() -> Self {
        Self::open_with(plan(|_| {}), Limits::default(), None, None, Secrets::default(), |_, _| {}).await
    }

    pub async fn open_with(
        plan: Plan,
        limits: Limits,
        store: Option<herd_store::Store>,
        collector: Option<String>,
        secrets: Secrets,
        before: impl FnOnce(&MemoryBus, &Plan),
    ) -> Self {
        let plan = Arc::new(plan);
        let bus = MemoryBus::with_topics(&plan.topics.all());
        before(&bus, &plan);
        let stage = Stage::new(CancellationToken::new(), secrets);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = listener.local_addr().unwrap().to_string();
        let running = tokio::spawn(herd_api::run_with(
            Arc::clone(&plan),
            bus.clone(),
            store.map(herd_api::StoreSource::from),
            stage.clone(),
            listener,
            collector,
            limits,
        ));
        let http = herd_stage::http_client().no_proxy().build().unwrap();
        let house = Self { base, bus, plan, stage, running, http };
        house
            .until(|house| async move {
                house.stage.health.report().ready && house.status("/api/v1/openapi.json").await != 0
            })
            .await;
        house
    }

    /// Waits until a condition holds.
    pub async fn until<'a, F, W>(&'a self, holds: F)
    where
        F: Fn(&'a Self) -> W,
        W: Future<Output = bool>,
    {
        tokio::time::timeout(PATIENCE, async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.base)
    }

    pub async fn status(&self, path: &str) -> u16 {
        self.http.get(self.url(path)).send().await.unwrap().status().as_u16()
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    pub fn window(&self, key: &str, start: i64, count: u32, is_final: bool) {
        let window = Window {
            v: VERSION,
            metric: Cow::Borrowed("views"),
            definition: self.plan.metrics[0].definition(),
            key: Cow::Borrowed(key),
            start: EventTime(start),
            size_ms: 10_000,
            count: count.into(),
            value: count.into(),
            is_final,
            bands: Vec::new(),
        };
        let mut bytes = Vec::new();
        window.write(&mut bytes);
        self.bus.append(&self.plan.topics.windows.name, start, bytes);
    }

    pub fn alert(&self, key: &str, start: i64, state: AlertState) {
        self.bus.append(&self.plan.topics.alerts.name, start + 700, alert_record(key, start, state));
    }

    pub async fn socket(&self) -> Socket {
        let (stream, _) = tokio_tungstenite::connect_async(format!("ws://{}/ws", self.base)).await.unwrap();
        let mut socket = Socket(stream);
        let hello = socket.next().await;
        assert_eq!((&hello["type"], &hello["pipeline"]["name"]), (&json!("hello"), &json!("shop")));
        socket
    }
}

pub fn alert_of(key: &str, start: i64, state: AlertState) -> Alert {
    Alert {
        v: VERSION,
        id: AlertId::of("shop", "crowd", key, EventTime(start)),
        pipeline: "shop".into(),
        detector: "crowd".into(),
        metric: "views".into(),
        rule: herd_spec::wire::Definition::default(),
        key: key.into(),
        severity: Severity::Warning,
        state,
        start: EventTime(start),
        size_ms: 10_000,
        count: 50,
        value: 50.0,
        expected: 5.0,
        spread: 2.0,
        score: 22.0,
        summary: format!("{key}: 50 views in 10 s"),
        resolved: (state == AlertState::Resolved).then_some(EventTime(start + 10_000)),
    }
}

pub fn alert_record(key: &str, start: i64, state: AlertState) -> Vec<u8> {
    let mut bytes = Vec::new();
    alert_of(key, start, state).write(&mut bytes);
    bytes
}

pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn say(&mut self, what: Value) {
        self.0.send(Message::text(what.to_string())).await.unwrap();
    }

    /// Subscribes; the snapshot.
    pub async fn subscribe(&mut self, room: &str) -> Value {
        self.say(json!({"op": "subscribe", "room": room})).await;
        self.next_of("snapshot").await["data"].clone()
    }

    /// The next frame.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("not a frame of JSON: {other:?}"),
            }
        }
    }

    /// The next frame of a kind; heartbeats and others are passed over.
    pub async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    pub async fn message(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap()
    }

    /// The code and reason of the close that comes; frames before it are passed over.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(Some(frame)) = self.message().await {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}

impl House {
    pub async fn metrics(&self) -> String {
        self.ops("/metrics").await
    }

    /// What its operational endpoints answer at a path.
    pub async fn ops(&self, path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let router = herd_stage::ops::router(self.stage.clone());
        let served = tokio::spawn(async { axum::serve(listener, router).await });
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        served.abort();
        text
    }
}

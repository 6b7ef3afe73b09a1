//! A collector in this process, on an embedded bus, and a client.
#![allow(dead_code)] // each test file uses a part

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use herd_bus::Bus;
use herd_bus::embedded::EmbeddedBus;
use herd_spec::plan::{Plan, TopicPlan};
use herd_spec::units::Partition;
use herd_stage::{Secrets, Stage};
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    pub(crate) shutdown: CancellationToken,
    pub(crate) stage: Stage,
    plan: Arc<Plan>,
    bus: EmbeddedBus,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body, where it is JSON.
    pub(crate) body: Value,
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type DeadLetter = (String, Vec<(String, String)>);

impl Collector {
    /// With this `spec.events`.
    pub(crate) async fn start(events: &str) -> Self {
        Self::start_with(events, "{}").await
    }

    /// With this `spec.events` and `spec.collector`.
    pub(crate) async fn start_with(events: &str, collector: &str) -> Self {
        let yaml = format!(
            "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: t}}\nspec:\n  events: {}\n  collector: {}\n  \
             metrics: [{{name: m, window: 10s}}]\n",
            flow(events),
            flow(collector)
        );
        let plan = Arc::new(Plan::parse(&herd_spec::document::parse(&yaml).unwrap()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("secrets/keys")).unwrap();
        std::fs::write(folder.path().join("secrets/keys/web"), "s3cret\n").unwrap();
        let bus = EmbeddedBus::open(&folder.path().join("bus")).unwrap();
        bus.ensure_topics(&plan.topics.all()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let secrets = Secrets::new(Some(&folder.path().join("secrets")));
        let stage = Stage::new(shutdown.clone(), secrets);
        let health = stage.health.clone();
        let clone = stage.clone();
        // Until the collector reports its own state.
        health.starting("broker", "the collector has not started");
        let (p, b) = (Arc::clone(&plan), bus.clone());
        let task = tokio::spawn(async move { herd_collector::run(p, b, stage, listener).await.unwrap() });
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if health.complaints().is_empty() {
                break;
            }
        }
        Self {
            address,
            http: herd_stage::http_client().build().unwrap(),
            shutdown,
            stage: clone,
            plan,
            bus,
            task,
            _folder: folder,
        }
    }

    /// Status and body of an operational endpoint.
    pub(crate) async fn ops(&self, path: &str) -> (u16, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let router = herd_stage::ops::router(self.stage.clone());
        let served = tokio::spawn(async { axum::serve(listener, router).await });
        let answer = self.http.get(url).send().await.unwrap();
        let answer = (answer.status().as_u16(), answer.text().await.unwrap());
        served.abort();
        answer
    }

    pub(crate) async fn json(&self, body: &str) -> Answer {
        self.send(Method::POST, "/track", "application/json", &[], body.as_bytes().to_vec()).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let mut request = self.http.request(method, format!("http://{}{path}", self.address)).body(body);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let parse = |(value, _): (String, _)| serde_json::from_str(&value).unwrap();
        self.read(&self.plan.topics.events).into_iter().map(parse).collect()
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.read(&self.plan.topics.dead_letter)
    }

    fn read(&self, topic: &TopicPlan) -> Vec<DeadLetter> {
        let mut all = Vec::new();
        for partition in 0..self.bus.partitions(&topic.name).unwrap() {
            self.bus
                .scan(&topic.name, Partition(partition), Duration::from_secs(10), &mut |record| {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let headers = record.headers.iter().map(|(name, value)| (name.to_owned(), text(value)));
                    all.push((text(record.value.unwrap()), headers.collect()));
                })
                .unwrap();
        }
        all
    }

    /// Shuts it down and returns the number of events in the topic.
    pub(crate) async fn stop(self) -> usize {
        self.shutdown.cancel();
        let plan = Arc::clone(&self.plan);
        let bus = self.bus.clone();
        self.task.await.unwrap();
        let mut events = 0;
        for partition in 0..bus.partitions(&plan.topics.events.name).unwrap() {
            bus.scan(&plan.topics.events.name, Partition(partition), Duration::from_secs(10), &mut |_| {
                events += 1
            })
            .unwrap();
        }
        events
    }
}

/// YAML on one line as a flow mapping.
fn flow(written: &str) -> String {
    if written.starts_with('{') { written.to_owned() } else { format!("{{{written}}}") }
}

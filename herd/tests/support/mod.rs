//! Support for the command line tests: running the command, and a real collector over an embedded bus.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use herd_bus::Bus;
use herd_bus::embedded::EmbeddedBus;
use herd_spec::plan::{Plan, TopicPlan};
use herd_spec::units::Partition;
use herd_stage::{Secrets, Stage};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A small pipeline without sinks.
pub const PIPELINE: &str = "\
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata:
  name: shop
spec:
  events:
    {maxLateness: 2s, maxAge: 0s}
  metrics:
    - name: views
      events:
        types: [view_product]
      window: 2s
  detectors:
    - name: crowd
      metric: views
      algorithm:
        poisson:
          warmup: 3
";

/// Runs the command to its end.
pub fn herd(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_herd"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env_remove("HERD_WRITE_KEY")
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

/// Standard output of a command that must succeed.
pub fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        stderr(output)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// JSON on standard output of a command that must succeed.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

/// A collector in this process, on a data directory as used by `herd up`.
pub struct Collector {
    pub plan: Arc<Plan>,
    pub url: String,
    pub ops: String,
    bus: EmbeddedBus,
    runtime: Runtime,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Collector {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, PIPELINE)
    }

    pub fn start_with(data: &Path, pipeline: &str) -> Self {
        let plan = Arc::new(herd_cli::pipeline::check("test", pipeline).unwrap());
        let bus = EmbeddedBus::open(&data.join("bus")).unwrap();
        bus.ensure_topics(&plan.topics.all()).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let stage = Stage::new(shutdown.clone(), Secrets::default());
        let ops = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let ops_url = format!("http://{}", ops.local_addr().unwrap());
        runtime.spawn(herd_workers::ops::serve(stage.clone(), ops, shutdown.clone()));
        let (p, b) = (Arc::clone(&plan), bus.clone());
        let task = runtime.spawn(async move { herd_collector::run(p, b, stage, listener).await.unwrap() });
        Self { plan, url, ops: ops_url, bus, runtime, shutdown, task }
    }

    /// Posts a body, whatever the answer.
    pub fn post(&self, path: &str, body: String) {
        let request = herd_stage::http_client().build().unwrap().post(format!("{}{path}", self.url));
        let sent = request.header("content-type", "application/json").body(body).send();
        self.runtime.block_on(sent).unwrap();
    }

    /// All values of a topic, as text.
    pub fn read(&self, topic: &TopicPlan) -> Vec<String> {
        let mut all = Vec::new();
        for partition in 0..self.bus.partitions(&topic.name).unwrap() {
            self.bus
                .scan(&topic.name, Partition(partition), Duration::from_secs(10), &mut |record| {
                    all.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                })
                .unwrap();
        }
        all
    }

    pub fn stop(self) {
        let Self { runtime, shutdown, task, bus, .. } = self;
        shutdown.cancel();
        runtime.block_on(task).unwrap();
        drop(bus);
    }
}

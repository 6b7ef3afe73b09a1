//! The pipeline under test: worker processes against a real broker and a real database.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use herd_bus::Bus;
use herd_bus::kafka::KafkaBus;
use herd_spec::plan::Plan;
use herd_spec::units::Partition;
use tempfile::TempDir;

use crate::script::{PARTITIONS, Script};
use crate::verdict::{self, Verdict};

const WORKER: &str = env!("CARGO_BIN_EXE_herd-worker");

pub(crate) struct Pipeline {
    folder: TempDir,
    plan: Plan,
    collector: String,
    client: reqwest::Client,
    members: HashMap<String, Child>,
    postgres: String,
    schema: String,
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by `make test`"))
}

impl Pipeline {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("exact-{}", uuid::Uuid::now_v7().simple());
        let name = &name[..24];
        let schema = name.replace('-', "_");
        let yaml = format!(
            r"
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {{name: {name}}}
spec:
  kafka: {{bootstrapServers: ['{}'], partitions: {PARTITIONS}}}
  events: {{types: [view, purchase, end], maxLateness: 30s, maxClockSkew: 1h}}
  metrics:
    - {{name: all, window: 10s, events: {{types: [view, purchase]}}}}
    - {{name: revenue, window: 30s, events: {{types: [purchase]}}, aggregate: {{function: sum, field: price}}}}
    - {{name: visitors, window: 60s, events: {{types: [view, purchase]}}, aggregate: {{function: unique, field: user_id}}}}
  detectors:
    - {{name: crowd, metric: all, algorithm: {{poisson: {{}}}}}}
  sinks:
    - {{name: db, postgres: {{url: {{name: db, key: url}}, schema: {schema}}}}}
",
            setting("HERD_TEST_KAFKA")
        );
        let plan = Plan::of(&herd_spec::validate::parse(&yaml).unwrap()).unwrap();
        std::fs::write(folder.path().join("plan.json"), serde_json::to_vec(&plan).unwrap()).unwrap();
        std::fs::create_dir_all(folder.path().join("secrets/db")).unwrap();
        let postgres = setting("HERD_TEST_POSTGRES");
        std::fs::write(folder.path().join("secrets/db/url"), &postgres).unwrap();
        let mut pipeline = Self {
            folder,
            plan,
            collector: String::new(),
            client: reqwest::Client::new(),
            members: HashMap::new(),
            postgres,
            schema,
        };
        pipeline.collector = pipeline.spawn("collector-0");
        pipeline.ready(&pipeline.collector).await;
        for member in ["detector-0", "detector-1", "sink-0", "sink-1"] {
            let at = pipeline.spawn(member);
            pipeline.ready(&at).await;
        }
        pipeline
    }

    /// Starts a member, named by its stage and a number; returns where it serves.
    fn spawn(&mut self, member: &str) -> String {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stage = member.split('-').next().unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.log(member)).unwrap();
        let mut command = Command::new(WORKER);
        command.arg(stage);
        if stage == "sink" {
            command.args(["--name", "db"]);
        }
        let child = command
            .args(["--plan", "plan.json", "--secrets", "secrets", "--data", ".", "--create-topics"])
            .args(["--log", "pretty", "--member", member, "--listen", &free.to_string()])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.members.insert(member.to_owned(), child);
        format!("http://{free}")
    }

    fn log(&self, member: &str) -> PathBuf {
        self.folder.path().join(format!("{member}.log"))
    }

    async fn ready(&self, base: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.client.get(format!("{base}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            assert!(Instant::now() < deadline, "{base} is not ready after a minute; {}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn logs(&self) -> String {
        let tail = |member: &String| {
            let text = std::fs::read_to_string(self.log(member)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(8).collect();
            format!("{member}:\n  {}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n  "))
        };
        self.members.keys().map(tail).collect()
    }

    /// SIGKILL, and another in its place.
    pub(crate) fn replace(&mut self, member: &str) {
        let mut child = self.members.remove(member).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.spawn(member);
    }

    /// Posts a batch until it is accepted: a client that retries, with the same ids.
    pub(crate) async fn post(&self, body: &str) {
        for _ in 0..100 {
            let request = self
                .client
                .post(format!("{}/track", self.collector))
                .header("content-type", "application/json");
            match request.body(body.to_owned()).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) if answer.status().as_u16() == 503 => {}
                Ok(answer) => panic!("refused: {} {}", answer.status(), answer.text().await.unwrap()),
                Err(error) => eprintln!("trying again: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the collector does not accept; {}", self.logs());
    }

    /// Waits until all is stored and closed, or `patience` is over, and says what is wrong then.
    pub(crate) async fn settle(&self, script: &Script, patience: Duration) -> Verdict {
        let deadline = Instant::now() + patience;
        loop {
            let verdict = verdict::of(script, &self.postgres, &self.schema, || self.dead_letters()).await;
            if verdict.problems.is_empty() {
                return verdict;
            }
            if Instant::now() > deadline {
                eprintln!("{}", self.logs());
                return verdict;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn dead_letters(&self) -> Vec<String> {
        let secrets = herd_stage::Secrets::new(None);
        let kafka = self.plan.kafka.as_ref().unwrap();
        let bus: KafkaBus = herd_workers::kafka::connect(kafka, &secrets, "exactness", false).unwrap();
        let topic = &self.plan.topics.dead_letter.name;
        let mut found = Vec::new();
        for partition in 0..bus.partitions(topic).unwrap() {
            bus.scan(topic, Partition(partition), Duration::from_secs(10), &mut |record| {
                found.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
            })
            .unwrap();
        }
        found
    }

    /// SIGTERM to all; each must finish with exit code 0.
    pub(crate) async fn stop(mut self) {
        for child in self.members.values() {
            let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            assert!(sent.success());
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        for (member, child) in &mut self.members {
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if Instant::now() > deadline => panic!("{member} does not stop"),
                    None => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            assert!(status.success(), "{member} ended with {status}");
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for child in self.members.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

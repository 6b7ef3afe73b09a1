//! The pipeline under test: worker processes, kept running as Kubernetes would keep them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_bus::kafka::KafkaBus;
use herd_spec::plan::Plan;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::env::{Env, Namespace, Signal};

pub(crate) const PARTITIONS: u32 = 6;
/// How often the keeper looks.
const LOOK: Duration = Duration::from_millis(200);
/// Pauses between starts, as Kubernetes makes them, only shorter.
/// A member's operational endpoints are so far above its other port.
const OPS: u16 = 10_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that ran this long did not fail at once.
const STEADY: Duration = Duration::from_secs(20);

/// What a pipeline is like.
pub(crate) struct Shape {
    pub(crate) lateness: Duration,
    pub(crate) retention: Duration,
    /// Members that run from the beginning.
    pub(crate) members: Vec<String>,
}

pub(crate) struct Pipeline {
    folder: TempDir,
    pub(crate) plan: Plan,
    pub(crate) schema: String,
    pub(crate) bus: KafkaBus,
    pub(crate) client: reqwest::Client,
    env: Arc<Env>,
    members: Mutex<BTreeMap<String, Member>>,
    /// Highest memory of each stage so far, bytes.
    peaks: Mutex<BTreeMap<String, u64>>,
}

/// A process that is to run.
struct Member {
    stage: &'static str,
    port: u16,
    namespace: Option<Arc<Namespace>>,
    /// How wrong its clock is, in seconds.
    clock: Option<i64>,
    child: Option<Child>,
    /// Whether it is to be started again when it ends.
    wanted: bool,
    started: Instant,
    pause: Duration,
    start_at: Instant,
    restarts: u32,
}

impl Member {
    fn url(&self) -> String {
        let host = self.namespace.as_ref().map_or("10.123.1.1".to_owned(), |namespace| namespace.address());
        format!("http://{host}:{}", self.port)
    }

    fn ops_url(&self) -> String {
        let host = self.namespace.as_ref().map_or("10.123.1.1".to_owned(), |namespace| namespace.address());
        format!("http://{host}:{}", self.port + OPS)
    }
}

/// How a process may be found by its name: `detector-0`.
fn stage_of(member: &str) -> &'static str {
    ["collector", "detector", "sink", "api"]
        .into_iter()
        .find(|stage| member.split('-').next() == Some(stage))
        .unwrap_or_else(|| panic!("{member} is of no stage"))
}

impl Pipeline {
    pub(crate) async fn start(env: Arc<Env>, shape: &Shape) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("f-{}", uuid::Uuid::now_v7().simple());
        let name = &name[..24];
        let schema = name.replace('-', "_");
        let lateness = shape.lateness.as_secs();
        let servers: Vec<String> = env.kafka.split(',').map(|server| format!("'{server}'")).collect();
        let yaml = format!(
            r"
apiVersion: herd.dev/v1alpha1
kind: HerdPipeline
metadata: {{name: {name}}}
spec:
  kafka: {{bootstrapServers: [{}], partitions: {PARTITIONS}, replication: 3}}
  events: {{types: [view, purchase, end], maxLateness: {lateness}s, maxClockSkew: 1h}}
  metrics:
    - {{name: all, window: 10s, events: {{types: [view, purchase]}}}}
    - {{name: revenue, window: 30s, events: {{types: [purchase]}}, aggregate: {{function: sum, field: price}}}}
    - {{name: visitors, window: 60s, events: {{types: [view, purchase]}}, aggregate: {{function: unique, field: user_id}}}}
  detectors:
    - {{name: crowd, metric: all, algorithm: {{poisson: {{probability: 0.01, halfLife: 5, warmup: 3}}}}, minCount: 3, cooldown: 30s}}
    - {{name: herd, metric: all, algorithm: {{crowd: {{}}}}, alerts: {{probability: 0.001, minCount: 3}}}}
    - {{name: busy, metric: all, algorithm: {{threshold: {{above: 20}}}}, minCount: 3, cooldown: 20s}}
    - {{name: spending, metric: revenue, direction: both, algorithm: {{ewma: {{sigmas: 2, halfLife: 5, warmup: 3}}}}, minCount: 1, cooldown: 1m}}
    - {{name: visited, metric: visitors, direction: both, algorithm: {{mad: {{warmup: 3}}}}, minCount: 3, cooldown: 1m}}
  sinks:
    - {{name: db, postgres: {{url: {{name: db, key: url}}, schema: {schema}}}}}
",
            servers.join(", ")
        );
        let mut plan = Plan::parse(&herd_spec::document::parse(&yaml).unwrap()).unwrap();
        // Less than a spec may ask for: half an hour at full speed must fit on a disk. The verdict reads all dead letters.
        let topics = &mut plan.topics;
        for topic in [&mut topics.events, &mut topics.parts, &mut topics.windows, &mut topics.alerts] {
            topic.config.insert("retention.ms".into(), shape.retention.as_millis().to_string());
            topic.config.insert("segment.ms".into(), (shape.retention.as_millis() / 5).to_string());
        }
        topics.dead_letter.config.insert("retention.ms".into(), "-1".into());
        std::fs::write(folder.path().join("plan.json"), serde_json::to_vec(&plan).unwrap()).unwrap();
        std::fs::create_dir_all(folder.path().join("secrets/db")).unwrap();
        std::fs::write(folder.path().join("secrets/db/url"), &env.postgres).unwrap();
        let secrets = herd_stage::Secrets::new(None);
        let bus = herd_workers::kafka::connect(plan.kafka.as_ref().unwrap(), &secrets, "faults").unwrap();
        let pipeline = Arc::new(Self {
            folder,
            plan,
            schema,
            bus,
            client: herd_stage::http_client().timeout(Duration::from_secs(3)).build().unwrap(),
            env,
            members: Mutex::default(),
            peaks: Mutex::default(),
        });
        // The first makes the topics; the others find them.
        for (at, member) in shape.members.iter().enumerate() {
            pipeline.add(member);
            if at == 0 {
                pipeline.ready(member).await;
            }
        }
        for member in &shape.members {
            pipeline.ready(member).await;
        }
        let keeper = Arc::downgrade(&pipeline);
        tokio::spawn(async move {
            while let Some(pipeline) = keeper.upgrade() {
                pipeline.keep();
                drop(pipeline);
                tokio::time::sleep(LOOK).await;
            }
        });
        pipeline
    }

    /// Starts what is to run and does not, and looks how much memory there is in use.
    fn keep(&self) {
        let mut members = self.members.lock();
        for (name, member) in members.iter_mut() {
            if let Some(child) = &mut member.child {
                let peak = peak_rss(child.id());
                let mut peaks = self.peaks.lock();
                let known = peaks.entry(member.stage.to_owned()).or_default();
                *known = (*known).max(peak);
                drop(peaks);
                if let Some(status) = child.try_wait().unwrap() {
                    self.note(name, &format!("ended with {status}"));
                    member.child = None;
                    member.pause = if member.started.elapsed() >= STEADY {
                        FIRST_PAUSE
                    } else {
                        (member.pause * 2).min(LONGEST_PAUSE)
                    };
                    member.start_at = Instant::now() + member.pause;
                }
            }
            if member.child.is_none() && member.wanted && Instant::now() >= member.start_at {
                member.restarts += 1;
                self.launch(name, member);
            }
        }
    }

    /// A member that was not there before.
    pub(crate) fn add(&self, name: &str) {
        let mut members = self.members.lock();
        let port = 20_000 + u16::try_from(members.len()).unwrap();
        if let Some(known) = members.get_mut(name) {
            known.wanted = true;
            if known.child.is_none() {
                self.launch(name, known);
            }
            return;
        }
        let mut member = Member {
            stage: stage_of(name),
            port,
            namespace: None,
            clock: None,
            child: None,
            wanted: true,
            started: Instant::now(),
            pause: FIRST_PAUSE,
            start_at: Instant::now(),
            restarts: 0,
        };
        self.launch(name, &mut member);
        members.insert(name.to_owned(), member);
    }

    fn launch(&self, name: &str, member: &mut Member) {
        let worker = std::env::var("WORKER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_herd-worker").to_owned());
        let log = std::fs::File::options().create(true).append(true).open(self.log_file(name)).unwrap();
        let mut command = match &member.namespace {
            None => Command::new(worker),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(namespace.path()).arg(worker);
                command
            }
        };
        command.arg(member.stage);
        if member.stage == "sink" {
            command.args(["--name", "db"]);
        }
        if ["collector", "api"].contains(&member.stage) {
            command.args(["--listen", &format!("0.0.0.0:{}", member.port)]);
        }
        if let Some(clock) = member.clock {
            command.env("LD_PRELOAD", self.env.wrong_clock()).env("WRONG_CLOCK", clock.to_string());
        }
        let child = command
            .args(["--plan", "plan.json", "--secrets", "secrets", "--data", ".", "--create-topics"])
            .args([
                "--log",
                "pretty",
                "--member",
                name,
                "--ops-listen",
                &format!("0.0.0.0:{}", member.port + OPS),
            ])
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        member.child = Some(child);
        member.started = Instant::now();
    }

    fn note(&self, member: &str, what: &str) {
        use std::io::Write;
        let mut log = std::fs::File::options().create(true).append(true).open(self.log_file(member)).unwrap();
        writeln!(log, "--- {member} {what}").unwrap();
    }

    pub(crate) fn log_file(&self, member: &str) -> PathBuf {
        self.folder.path().join(format!("{member}.log"))
    }

    /// How long a member's log is now.
    pub(crate) fn log_length(&self, member: &str) -> usize {
        std::fs::metadata(self.log_file(member)).map_or(0, |file| usize::try_from(file.len()).unwrap())
    }

    /// The ends of all logs.
    pub(crate) fn logs(&self) -> String {
        let tail = |member: &String| {
            let text = std::fs::read_to_string(self.log_file(member)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(12).collect();
            format!("{member}:\n  {}\n", lines.into_iter().rev().collect::<Vec<_>>().join("\n  "))
        };
        self.members.lock().keys().map(tail).collect()
    }

    /// Lines of all logs that a person must look at: stages that panicked.
    pub(crate) fn panics(&self) -> Vec<String> {
        let members: Vec<String> = self.members.lock().keys().cloned().collect();
        let mut found = Vec::new();
        for member in members {
            let text = std::fs::read_to_string(self.log_file(&member)).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            found.extend(lines.map(|line| format!("{member}: {line}")));
        }
        found
    }

    pub(crate) fn names(&self, stage: &str) -> Vec<String> {
        let members = self.members.lock();
        members.iter().filter(|(_, m)| m.wanted && m.stage == stage).map(|(name, _)| name.clone()).collect()
    }

    /// Every member that is to run.
    pub(crate) fn everybody(&self) -> Vec<String> {
        self.members.lock().iter().filter(|(_, member)| member.wanted).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn url(&self, member: &str) -> String {
        self.members.lock()[member].url()
    }

    fn ops_url(&self, member: &str) -> String {
        self.members.lock()[member].ops_url()
    }

    /// Where the `n`-th try goes: collectors take turns.
    pub(crate) fn collector(&self, n: u64) -> String {
        let names = self.names("collector");
        self.url(&names[usize::try_from(n % names.len() as u64).unwrap()])
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.members.lock().values().map(|member| member.restarts).sum()
    }

    /// The highest memory of each stage's processes, MiB.
    pub(crate) fn peaks(&self) -> BTreeMap<String, u64> {
        self.peaks.lock().iter().map(|(stage, bytes)| (stage.clone(), bytes >> 20)).collect()
    }

    /// Memory in use now, MiB, by member.
    pub(crate) fn memory(&self) -> BTreeMap<String, u64> {
        let members = self.members.lock();
        let running = members.iter().filter_map(|(name, member)| Some((name, member.child.as_ref()?.id())));
        running.map(|(name, pid)| (name.clone(), status_bytes(pid, "VmRSS:") >> 20)).collect()
    }

    pub(crate) fn signal(&self, member: &str, signal: Signal) {
        if let Some(child) = &self.members.lock()[member].child {
            signal.send(&[child.id()]);
        }
    }

    /// Asks a member to stop for good, and waits until it has; how it ended.
    pub(crate) async fn remove(&self, name: &str) -> Option<ExitStatus> {
        let child = {
            let mut members = self.members.lock();
            let member = members.get_mut(name).unwrap();
            member.wanted = false;
            member.child.take()
        };
        let mut child = child?;
        Signal::Term.send(&[child.id()]);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                return Some(child.wait().unwrap());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets a member run elsewhere: in a namespace, or with a wrong clock.
    pub(crate) async fn move_to(&self, name: &str, namespace: Option<Arc<Namespace>>, clock: Option<i64>) {
        self.remove(name).await;
        {
            let mut members = self.members.lock();
            let member = members.get_mut(name).unwrap();
            member.namespace = namespace;
            member.clock = clock;
            member.wanted = true;
            self.launch(name, member);
        }
    }

    /// What `/readyz` says; none: it does not answer.
    pub(crate) async fn readiness(&self, member: &str) -> Option<(u16, String)> {
        let answer = self.client.get(format!("{}/readyz", self.ops_url(member))).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// The sum of a metric's values over its labels.
    pub(crate) async fn metric(&self, member: &str, name: &str) -> Option<f64> {
        let answer = self.client.get(format!("{}/metrics", self.ops_url(member))).send().await.ok()?;
        let text = answer.text().await.ok()?;
        let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        Some(text.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    pub(crate) async fn ready(&self, member: &str) {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let said = self.readiness(member).await;
            if said.as_ref().is_some_and(|(status, body)| *status == 200 && body.contains("\"troubles\":[]"))
            {
                return;
            }
            assert!(Instant::now() < deadline, "{member} is not ready: {said:?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGTERM to all; each must finish with exit code 0. What did not.
    pub(crate) async fn stop(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in self.everybody() {
            match self.remove(&name).await {
                Some(status) if !status.success() => wrong.push(format!("{name} ended with {status}")),
                _ => {}
            }
        }
        if !wrong.is_empty() {
            eprintln!("{}", self.logs());
        }
        wrong
    }

    /// Copies the logs to where they outlast the run.
    pub(crate) fn keep_logs(&self, folder: &std::path::Path) {
        std::fs::create_dir_all(folder).unwrap();
        for name in self.members.lock().keys() {
            let _ = std::fs::copy(self.log_file(name), folder.join(format!("{name}.log")));
        }
    }

    /// Removes what it left in the brokers and the database.
    pub(crate) async fn clear(&self) {
        self.env.sql(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await;
        // Topics stay until the environment goes: their names are never used again.
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for child in self.members.get_mut().values_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn peak_rss(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

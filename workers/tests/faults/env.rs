//! The environment that `dev/with-env` has made: brokers, database, disk, networks, and what can be done to them.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;

/// The signals that are sent.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Kill,
    Term,
    Stop,
    Continue,
}

impl Signal {
    fn flag(self) -> &'static str {
        match self {
            Self::Kill => "-KILL",
            Self::Term => "-TERM",
            Self::Stop => "-STOP",
            Self::Continue => "-CONT",
        }
    }

    /// Sends it to processes; those that are gone already are not missed.
    pub(crate) fn send(self, pids: &[u32]) {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let _ = Command::new("kill").arg(self.flag()).args(pids).stderr(Stdio::null()).status();
    }
}

pub(crate) struct Env {
    folder: PathBuf,
    dev: PathBuf,
    pub(crate) kafka: String,
    pub(crate) postgres: String,
    namespaces: Mutex<u8>,
}

pub(crate) const BROKERS: [u8; 3] = [1, 2, 3];

impl Env {
    /// The environment we are in; none: we are in none.
    pub(crate) fn here() -> Option<Self> {
        let setting = |name: &str| std::env::var(name).ok();
        Some(Self {
            folder: setting("HERD_ENV")?.into(),
            dev: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dev"),
            kafka: setting("HERD_TEST_KAFKA")?,
            postgres: setting("HERD_TEST_POSTGRES")?,
            namespaces: Mutex::new(0),
        })
    }

    /// Whether PostgreSQL has a disk of its own, small enough to be filled.
    pub(crate) fn has_small_disk() -> bool {
        std::env::var("ENV_POSTGRES").is_ok_and(|size| !size.is_empty())
    }

    /// What makes the clock of a process wrong.
    pub(crate) fn wrong_clock(&self) -> PathBuf {
        self.folder.join("wrong-clock.so")
    }

    fn pid_in(&self, file: &str) -> Option<u32> {
        let text = std::fs::read_to_string(self.folder.join(file)).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    pub(crate) fn signal_broker(&self, broker: u8, signal: Signal) {
        let pid = self.pid_in(&format!("kafka/{broker}/pid"));
        signal.send(&[pid.expect("a broker has no pid file")]);
    }

    pub(crate) async fn start_broker(&self, broker: u8) {
        self.dev("kafka/broker", &["start", &broker.to_string()]).await;
    }

    /// The postmaster and all its children.
    fn postgres_pids(&self) -> Vec<u32> {
        let Some(postmaster) = self.pid_in("disk/postgres/data/postmaster.pid") else { return Vec::new() };
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(postmaster).chain(children).collect()
    }

    pub(crate) fn signal_postgres(&self, signal: Signal) {
        signal.send(&self.postgres_pids());
    }

    /// Starts PostgreSQL if it does not run: processes of the one before may still be about to end.
    pub(crate) async fn start_postgres(&self) {
        for _ in 0..60 {
            if self.postgres_answers().await {
                return;
            }
            let file = self.folder.join("disk/postgres/data/postmaster.pid");
            let alive = self
                .postgres_pids()
                .first()
                .is_some_and(|pid| PathBuf::from(format!("/proc/{pid}")).exists());
            if !alive {
                let _ = std::fs::remove_file(file);
                let _ = self.try_dev("postgres/server", &["start"]).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("PostgreSQL does not start again, see {}", self.folder.join("disk/postgres/log").display());
    }

    pub(crate) async fn postgres_answers(&self) -> bool {
        use sqlx::Connection;
        let connecting = sqlx::PgConnection::connect(&self.postgres);
        match tokio::time::timeout(Duration::from_secs(2), connecting).await {
            Ok(Ok(mut connection)) => connection.ping().await.is_ok(),
            _ => false,
        }
    }

    /// Runs a statement in a connection of its own.
    pub(crate) async fn sql(&self, statement: &str) {
        use sqlx::{Connection, Executor};
        let run = async {
            let mut connection = sqlx::PgConnection::connect(&self.postgres).await?;
            connection.execute(sqlx::AssertSqlSafe(statement.to_owned())).await
        };
        run.await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Leaves no room on PostgreSQL's disk: it becomes as small as what is on it.
    pub(crate) fn fill_disk(&self) {
        assert!(
            Self::has_small_disk(),
            "PostgreSQL's disk is not of its own: run this in an environment with ENV_POSTGRES set"
        );
        let disk = self.folder.join("disk");
        // PostgreSQL goes on writing meanwhile.
        for _ in 0..100 {
            let used = Command::new("df").args(["--output=used", "-k"]).arg(&disk).output().unwrap().stdout;
            let used = String::from_utf8_lossy(&used);
            let used = used.lines().last().unwrap().trim();
            if self.resize_disk(&format!("{used}k")) {
                return;
            }
        }
        panic!("PostgreSQL's disk cannot be made smaller");
    }

    pub(crate) fn widen_disk(&self) {
        let size = std::env::var("ENV_POSTGRES").unwrap();
        assert!(self.resize_disk(&size), "PostgreSQL's disk cannot be made as large as it was");
    }

    fn resize_disk(&self, size: &str) -> bool {
        let size = format!("remount,size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-o", &size]).arg(self.folder.join("disk")).stderr(Stdio::null());
        mount.status().unwrap().success()
    }

    /// A network namespace joined to the environment.
    pub(crate) fn namespace(&self) -> Namespace {
        let mut made = self.namespaces.lock();
        *made += 1;
        Namespace::new(*made)
    }

    async fn dev(&self, script: &str, arguments: &[&str]) {
        self.try_dev(script, arguments)
            .await
            .unwrap_or_else(|why| panic!("dev/{script} {arguments:?}: {why}"));
    }

    async fn try_dev(&self, script: &str, arguments: &[&str]) -> Result<(), String> {
        let output =
            tokio::process::Command::new(self.dev.join(script)).args(arguments).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// A network of its own, with two addresses: the brokers are reached from one, everything else from the other, so that the way to
/// the brokers can be cut alone.
pub(crate) struct Namespace {
    holder: Child,
    number: u8,
}

/// A direction in which nothing passes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Cut {
    ToBroker,
    FromBroker,
}

impl Namespace {
    fn new(number: u8) -> Self {
        let holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let namespace = Self { holder, number };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        // It has its namespace a moment after it was started.
        for _ in 0..500 {
            let its = std::fs::read_link(format!("/proc/{}/ns/net", namespace.holder.id()));
            if its.is_ok_and(|its| its != own) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let (veth, pid) = (format!("stage{number}"), namespace.holder.id().to_string());
        run("ip", &["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
        run("ip", &["link", "set", &veth, "master", "herd0", "up"]);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace.ip(&["address", "add", &format!("{}/24", namespace.towards_brokers()), "dev", "eth0"]);
        namespace.ip(&["address", "add", &format!("{}/24", namespace.address()), "dev", "eth0"]);
        namespace.ip(&["link", "set", "eth0", "up"]);
        namespace
    }

    fn ip(&self, arguments: &[&str]) {
        let namespace = self.path();
        run("nsenter", &[&[namespace.as_str(), "ip"], arguments].concat());
    }

    /// What `nsenter` is told.
    pub(crate) fn path(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.id())
    }

    /// Where whatever runs in it is reached, whatever is cut.
    pub(crate) fn address(&self) -> String {
        format!("10.123.1.{}", 10 + self.number)
    }

    fn towards_brokers(&self) -> String {
        format!("10.123.0.{}", 10 + self.number)
    }

    /// Blackhole routes: what is sent that way is dropped without a word, in this direction only.
    pub(crate) fn cut(&self, cut: Cut) {
        self.route("add", cut);
    }

    pub(crate) fn join(&self, cut: Cut) {
        self.route("delete", cut);
    }

    fn route(&self, what: &str, cut: Cut) {
        match cut {
            Cut::ToBroker => self.ip(&["route", what, "blackhole", "10.123.0.1/32"]),
            Cut::FromBroker => {
                run("ip", &["route", what, "blackhole", &format!("{}/32", self.towards_brokers())]);
            }
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

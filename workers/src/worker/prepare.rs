//! From the arguments to a running stage: the plan, the bus, the operational endpoints beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use herd_bus::kafka::KafkaBus;
use herd_spec::pipeline::Span;
use herd_spec::plan::Plan;
use herd_stage::{Secrets, Stage};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::args::StageOptions;
use crate::signal::StopSignals;
use crate::{kafka, ops};

pub(super) async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: check that no other process uses this address"))
}

/// All that a stage needs.
#[derive(Clone)]
pub(super) struct Prepared {
    pub(super) plan: Arc<Plan>,
    pub(super) bus: KafkaBus,
    pub(super) stage: Stage,
    pub(super) member: String,
    pub(super) data: PathBuf,
    ops_listen: SocketAddr,
    create_topics: bool,
}

impl StageOptions {
    /// From the arguments to what a stage needs. A signal ends the stage, `drain` after it has come.
    pub(super) fn prepare(self, mut signals: StopSignals, drain: Span) -> anyhow::Result<Prepared> {
        let plan = read_plan(&self.plan)?;
        let secrets = Secrets::new(self.secrets.as_deref());
        let member = match self.member {
            Some(member) => member,
            None => host_name()?,
        };
        let Some(kafka) = &plan.kafka else {
            bail!(
                "the plan has no `kafka`, which separate stage processes require: set spec.kafka, or use `herd up`"
            );
        };
        let bus = kafka::connect(kafka, &secrets, &member)?;
        let stage = Stage::new(CancellationToken::new(), secrets);
        let ended = stage.clone();
        tokio::spawn(async move {
            signals.next().await;
            info!("asked to stop: finishing");
            ended.end_after(drain.0).await;
        });
        info!(pipeline = %plan.pipeline, member, ops = %self.ops_listen, "starting");
        let (data, ops_listen, create_topics) = (self.data, self.ops_listen, self.create_topics);
        Ok(Prepared { plan: Arc::new(plan), bus, stage, member, data, ops_listen, create_topics })
    }
}

impl Prepared {
    /// Runs a stage with the operational endpoints beside it.
    pub(super) async fn run(self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let listener = listen(self.ops_listen).await?;
        // The endpoints answer longer than the stage itself, which may have to finish.
        let ended = CancellationToken::new();
        let served = tokio::spawn(ops::serve(self.stage.clone(), listener, ended.clone()));
        let creating = self.create_topics.then(|| {
            let topics = self.plan.topics.all().into_iter().cloned().collect();
            self.stage.health.starting(ops::TOPICS, "the topics of the pipeline are being created");
            tokio::spawn(ops::create_topics(self.bus.clone(), topics, self.stage.health.clone()))
        });
        let outcome = work.await;
        if let Some(creating) = creating {
            creating.abort();
        }
        ended.cancel();
        served
            .await
            .context("the operational endpoints stopped")?
            .context("the operational endpoints stopped")?;
        outcome
    }

    /// The same for a stage that serves nobody: it waits for the broker and the topics, and says so. A paused one only stands by.
    pub(super) async fn run_once_topics_are_there(
        self,
        work: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let (plan, bus, stage) = (Arc::clone(&self.plan), self.bus.clone(), self.stage.clone());
        self.run(async move {
            if plan.paused {
                info!("the pipeline is paused: standing by");
                stage.shutdown.cancelled().await;
                return Ok(());
            }
            let topics: Vec<String> = plan.topics.all().iter().map(|topic| topic.name.clone()).collect();
            tokio::select! {
                () = ops::await_topics(bus.clone(), topics, &stage.health) => {}
                () = stage.shutdown.cancelled() => return Ok(()),
            }
            let watched = tokio::spawn(ops::watch_broker(bus, stage.health.clone()));
            let outcome = work.await;
            watched.abort();
            outcome
        })
        .await
    }
}

fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the plan {} cannot be read", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no plan; `herd plan FILE --json` writes one", path.display()))
}

fn host_name() -> anyhow::Result<String> {
    if let Ok(name) = std::env::var("HOSTNAME") {
        return Ok(name);
    }
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        bail!("this host has no name: give one with --member");
    }
    Ok(name.to_owned())
}

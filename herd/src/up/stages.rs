//! All stages of a pipeline in this process: the same code that runs in the worker image, over one bus.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use herd_bus::Bus;
use herd_spec::health::Trouble;
use herd_spec::plan::Plan;
use herd_stage::{Retry, Stage, StageError};
use herd_workers::store;
use tokio::task::JoinSet;

use super::supervise::{Unrunnable, Watcher, supervise};

/// How long a stage may take to finish before it is left behind. What it had not committed is done again by the next start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sockets that outlive the stages that serve them, so that a stage that is started again finds its address.
#[derive(Debug)]
pub struct Doors {
    /// The collector's.
    pub collector: TcpListener,
    /// The api's.
    pub api: TcpListener,
    /// That of probes and metrics, of all stages together.
    pub ops: TcpListener,
}

/// Where somebody finds us.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The collector.
    pub collector: SocketAddr,
    /// REST, WebSocket and the dashboard.
    pub api: SocketAddr,
    /// `/readyz`, `/metrics` and their like.
    pub ops: SocketAddr,
}

impl Addresses {
    /// The collector's address as a client writes it.
    #[must_use]
    pub fn collector_url(&self) -> String {
        format!("http://{}", reachable(self.collector))
    }

    /// The dashboard's.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", reachable(self.api))
    }

    /// Where probes and metrics are.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://{}", reachable(self.ops))
    }

    /// The WebSocket's.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("ws://{}/ws", reachable(self.api))
    }
}

/// Who listens on all addresses is reached at the loopback's.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        address.set_ip(loopback);
    }
    address
}

/// A stage could not be given what it needs. It is tried again.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct StartError {
    why: String,
    retry: Retry,
}

impl StartError {
    fn soon(error: impl ToString) -> Self {
        Self { why: error.to_string(), retry: Retry::Soon }
    }

    fn of(error: impl StageError) -> Self {
        Self { why: error.to_string(), retry: error.retry() }
    }
}

impl StageError for StartError {
    fn retry(&self) -> Retry {
        self.retry
    }

    fn trouble(&self) -> Trouble {
        Trouble::StageFailed
    }
}

fn door(listener: &TcpListener) -> Result<tokio::net::TcpListener, StartError> {
    listener
        .try_clone()
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(|error| StartError::soon(format!("its address cannot be taken over: {error}")))
}

/// The running stages.
pub struct Stages {
    tasks: JoinSet<Result<(), Unrunnable>>,
    stage: Stage,
    watcher: Watcher,
}

impl Stages {
    /// Starts everything the plan asks for. A paused pipeline only collects and serves.
    pub fn start<B: Bus>(
        plan: &Arc<Plan>,
        bus: &B,
        stage: &Stage,
        doors: Doors,
        data: PathBuf,
        watcher: Watcher,
    ) -> Self {
        let mut stages = Self { tasks: JoinSet::new(), stage: stage.clone(), watcher };
        let collector_url =
            doors.collector.local_addr().ok().map(|address| format!("http://{}", reachable(address)));
        let (collector_door, api_door) = (Arc::new(doors.collector), Arc::new(doors.api));
        let ops_door = Arc::new(doors.ops);
        stages.keep("ops".into(), move |part| {
            let listener = door(&ops_door);
            async move {
                let end = part.shutdown.clone();
                herd_workers::ops::serve(part, listener?, end).await.map_err(StartError::soon)
            }
        });

        let (p, b) = (Arc::clone(plan), bus.clone());
        stages.keep("collector".into(), move |part| {
            let (plan, bus, listener) = (Arc::clone(&p), b.clone(), door(&collector_door));
            async move { herd_collector::run(plan, bus, part, listener?).await.map_err(StartError::of) }
        });
        if !plan.paused {
            for number in 0..plan.detection.replicas {
                let (p, b) = (Arc::clone(plan), bus.clone());
                let member = format!("detector-{number}");
                stages.keep(member.clone(), move |part| {
                    herd_detector::run(Arc::clone(&p), b.clone(), part, member.clone())
                });
            }
            for sink in &plan.sinks {
                for number in 0..sink.stage.replicas {
                    let (p, b, sink, data) = (Arc::clone(plan), bus.clone(), sink.clone(), data.clone());
                    let member = format!("{}-{number}", sink.name);
                    stages.keep(format!("sink {member}"), move |part| {
                        herd_sink::run(
                            Arc::clone(&p),
                            sink.clone(),
                            b.clone(),
                            part,
                            data.clone(),
                            member.clone(),
                        )
                    });
                }
            }
        }
        let (p, b) = (Arc::clone(plan), bus.clone());
        stages.keep("api".into(), move |part| {
            let (plan, bus, listener) = (Arc::clone(&p), b.clone(), door(&api_door));
            let (data, collector) = (data.clone(), collector_url.clone());
            async move {
                let store = store::of_api(&plan, &part.secrets, &data).map_err(StartError::soon)?;
                herd_api::run(plan, bus, store, part, listener?, collector).await.map_err(StartError::of)
            }
        });
        stages
    }

    fn keep<F, W, E>(&mut self, name: String, start: F)
    where
        F: Fn(Stage) -> W + Send + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: StageError + Send + 'static,
    {
        self.tasks.spawn(supervise(name, self.stage.clone(), self.watcher.clone(), start));
    }

    /// Waits until a stage cannot run.
    pub async fn unrunnable(&mut self) -> Unrunnable {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(unrunnable)) = ended {
                return unrunnable;
            }
        }
        std::future::pending().await
    }

    /// Stops all of them and waits until they have finished; whether they did in time.
    pub async fn stop(&mut self) -> bool {
        self.stage.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, all).await.is_ok()
    }
}

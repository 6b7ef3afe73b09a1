//! All stages of a pipeline in this process, over one bus: the same code as in the worker image.

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

/// Maximum time to wait for stages to finish. The next start repeats uncommitted work.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Listening sockets. They outlive the stages, so that a restarted stage keeps its address.
#[derive(Debug)]
pub struct Listeners {
    /// Of the collector.
    pub collector: TcpListener,
    /// Of the api stage.
    pub api: TcpListener,
    /// Of probes and metrics of all stages.
    pub ops: TcpListener,
}

/// Addresses of the process.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The collector.
    pub collector: SocketAddr,
    /// REST, WebSocket and the dashboard.
    pub api: SocketAddr,
    /// `/readyz`, `/statusz` and `/metrics`.
    pub ops: SocketAddr,
}

impl Addresses {
    /// URL of the collector.
    #[must_use]
    pub fn collector_url(&self) -> String {
        format!("http://{}", reachable(self.collector))
    }

    /// URL of the API and the dashboard.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}", reachable(self.api))
    }

    /// URL of probes and metrics.
    #[must_use]
    pub fn ops_url(&self) -> String {
        format!("http://{}", reachable(self.ops))
    }

    /// URL of the WebSocket.
    #[must_use]
    pub fn socket_url(&self) -> String {
        format!("ws://{}/ws", reachable(self.api))
    }
}

/// An address for clients: the loopback address instead of the unspecified address.
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

/// A stage could not be started. It is retried.
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

fn clone_listener(listener: &TcpListener) -> Result<tokio::net::TcpListener, StartError> {
    listener
        .try_clone()
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(|error| StartError::soon(format!("cannot use the listening socket: {error}")))
}

/// The running stages.
pub struct Stages {
    tasks: JoinSet<Result<(), Unrunnable>>,
    stage: Stage,
    watcher: Watcher,
}

impl Stages {
    /// Starts all stages of the plan. Of a paused pipeline, only the collector and the api run.
    pub fn start<B: Bus>(
        plan: &Arc<Plan>,
        bus: &B,
        stage: &Stage,
        listeners: Listeners,
        data: PathBuf,
        watcher: Watcher,
    ) -> Self {
        let mut stages = Self { tasks: JoinSet::new(), stage: stage.clone(), watcher };
        let collector_url =
            listeners.collector.local_addr().ok().map(|address| format!("http://{}", reachable(address)));
        let (collector_listener, api_listener) = (Arc::new(listeners.collector), Arc::new(listeners.api));
        let ops_listener = Arc::new(listeners.ops);
        stages.spawn("ops".into(), move |part| {
            let listener = clone_listener(&ops_listener);
            async move {
                let end = part.shutdown.clone();
                herd_workers::ops::serve(part, listener?, end).await.map_err(StartError::soon)
            }
        });

        let (p, b) = (Arc::clone(plan), bus.clone());
        stages.spawn("collector".into(), move |part| {
            let (plan, bus, listener) = (Arc::clone(&p), b.clone(), clone_listener(&collector_listener));
            async move { herd_collector::run(plan, bus, part, listener?).await.map_err(StartError::of) }
        });
        if !plan.paused {
            for number in 0..plan.detection.replicas {
                let (p, b) = (Arc::clone(plan), bus.clone());
                let member = format!("detector-{number}");
                stages.spawn(member.clone(), move |part| {
                    herd_detector::run(Arc::clone(&p), b.clone(), part, member.clone())
                });
            }
            for sink in &plan.sinks {
                for number in 0..sink.stage.replicas {
                    let (p, b, sink, data) = (Arc::clone(plan), bus.clone(), sink.clone(), data.clone());
                    let member = format!("{}-{number}", sink.name);
                    stages.spawn(format!("sink {member}"), move |part| {
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
        stages.spawn("api".into(), move |part| {
            let (plan, bus, listener) = (Arc::clone(&p), b.clone(), clone_listener(&api_listener));
            let (data, collector) = (data.clone(), collector_url.clone());
            async move {
                let store = store::of_api(&plan, &part.secrets, &data).map_err(StartError::soon)?;
                herd_api::run(plan, bus, store, part, listener?, collector).await.map_err(StartError::of)
            }
        });
        stages
    }

    fn spawn<F, W, E>(&mut self, name: String, start: F)
    where
        F: Fn(Stage) -> W + Send + 'static,
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: StageError + Send + 'static,
    {
        self.tasks.spawn(supervise(name, self.stage.clone(), self.watcher.clone(), start));
    }

    /// Returns once a stage cannot run.
    pub async fn unrunnable(&mut self) -> Unrunnable {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Err(unrunnable)) = ended {
                return unrunnable;
            }
        }
        std::future::pending().await
    }

    /// Stops all stages and returns whether they finished in time.
    pub async fn stop(&mut self) -> bool {
        self.stage.shutdown.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(STOP_TIMEOUT, all).await.is_ok()
    }
}

//! `herd up`: runs the whole pipeline in this process, with an embedded broker unless the file has `spec.kafka`.
//!
//! ```text
//! file ─► plan ─► topics ─► stages (supervised) ◄─ generated shoppers
//!                              └─► api ─► alerts, received as a WebSocket client ─► summary
//! ```

pub mod crowds;
pub mod demo;
pub mod listeners;
pub mod stages;
pub mod start;
pub mod summary;
pub mod supervise;
pub mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use herd_bus::Bus;
use herd_bus::embedded::EmbeddedBus;
use herd_spec::pipeline::Span;
use herd_spec::plan::Plan;
use herd_stage::{Secrets, Stage};
use herd_workers::signal::StopSignals;
use tokio_util::sync::CancellationToken;

use crate::generate::positive;
use crate::load::TargetError;
use crate::output::{self, CommandResult};
use crate::pipeline;
use demo::{Demo, Shopping};
use listeners::Listener;
use stages::{Addresses, Listeners, Stages};
use start::UpError;
use summary::{Counted, Summary};
use supervise::Watcher;

/// Default port of the collector.
const COLLECTOR_PORT: u16 = 8080;
/// Default port of the API and the dashboard.
const API_PORT: u16 = 8081;
/// Default port of probes and metrics.
const OPS_PORT: u16 = 9090;
/// Maximum time to wait for the stages to be ready before the start message is printed.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// Maximum time to wait for events in flight to be counted before the summary is printed.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Runs a whole pipeline in this process, until Ctrl-C.
///
/// Events, windows and alerts are kept in the data directory (or in the Kafka cluster of the file); the next start continues
/// from there.
#[derive(Args, Debug)]
pub struct Up {
    /// Pipeline file (YAML)
    pub file: PathBuf,
    /// Data directory [default: .herd/PIPELINE]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address of the collector [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of REST, WebSocket and the dashboard [default: 127.0.0.1:8081, or a free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub api_listen: Option<SocketAddr>,
    /// Address of /readyz, /statusz and /metrics [default: 127.0.0.1:9090, or a free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub ops_listen: Option<SocketAddr>,
    /// Stops after this time and prints a summary
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Span>,
    /// Directory of the Secrets, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// Sends events of generated shoppers at this rate per second, with periodic crowds: three on one product, then one on a new one
    #[arg(long, value_name = "RATE", num_args = 0..=1, default_missing_value = "100", value_parser = positive)]
    pub generate: Option<f64>,
    /// Time from one generated crowd to the next
    #[arg(long, value_name = "DURATION", default_value = "45s", requires = "generate")]
    pub crowd_every: Span,
    /// Seed of the random numbers; the same seed gives the same shoppers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Prints the summary as JSON on standard output; all other output goes to standard error
    #[arg(long)]
    pub json: bool,
}

impl Up {
    /// Runs it.
    ///
    /// # Errors
    /// If the file is invalid, or a Secret, port or broker is not available.
    pub async fn run(self) -> CommandResult {
        let signals = StopSignals::listen().map_err(UpError::Signals)?;
        let plan = Arc::new(pipeline::load(&self.file)?);
        let secrets = Secrets::new(self.secrets.as_deref());
        start::check_secrets(&plan, &secrets)?;
        let data = self.data.clone().unwrap_or_else(|| PathBuf::from(".herd").join(plan.pipeline.as_str()));
        std::fs::create_dir_all(&data).map_err(|source| UpError::Data { path: data.clone(), source })?;
        match &plan.kafka {
            Some(kafka) => {
                let bus =
                    herd_workers::kafka::connect(kafka, &secrets, &format!("herd-up-{}", plan.pipeline))
                        .map_err(|error| UpError::Kafka(error.to_string()))?;
                self.run_on(bus, plan, secrets, data, signals).await
            }
            None => {
                let folder = data.join("bus");
                let bus = tokio::task::spawn_blocking(move || EmbeddedBus::open(&folder))
                    .await
                    .map_err(|error| UpError::Bus(error.to_string()))?
                    .map_err(|error| UpError::Bus(error.to_string()))?;
                self.run_on(bus, plan, secrets, data, signals).await
            }
        }
    }

    async fn run_on<B: Bus>(
        self,
        bus: B,
        plan: Arc<Plan>,
        secrets: Secrets,
        data: PathBuf,
        mut signals: StopSignals,
    ) -> CommandResult {
        let (addresses, listeners) = self.listen()?;
        let before = start::prepare(&bus, &plan).await?;
        let stage = Stage::new(CancellationToken::new(), secrets);
        let watcher = Watcher { notify: Arc::new(|line| output::note(&line)), restarts: Arc::default() };
        let restarts = Arc::clone(&watcher.restarts);
        let mut stages = Stages::start(&plan, &bus, &stage, listeners, data.clone(), watcher);

        let ready = wait(&mut stages, &mut signals, start::ready(&addresses, READY_WITHIN)).await?;
        if let Some(Some(reason)) = &ready {
            output::note(&format!("some stages are not ready yet: {reason}"));
        }
        let began = Instant::now();
        let demo = if ready.is_some() { self.demo(&plan, &stage, &addresses)? } else { None };
        if ready.is_some() {
            output::note(&start::message(&plan, &addresses, &data, before, demo.as_ref(), self.duration));
        }
        let alerts = Alerts::watch(&plan, &stage, &addresses, demo.as_ref());
        let driven = stage.shutdown.child_token();
        let driving = demo.map(|demo| (demo.crowds(), tokio::spawn(demo.run(driven.clone()))));
        if ready.is_some() {
            wait(&mut stages, &mut signals, self.end()).await?;
        }

        // From here on, a second signal ends the process at once. The next start repeats uncommitted work.
        tokio::spawn(async move {
            signals.next().await;
            output::note(&"stopped before all stages had finished");
            std::process::exit(130);
        });
        output::note(&"stopping");
        let mut generated = None;
        let mut alert_delay = None;
        if let Some((crowds, task)) = driving {
            driven.cancel();
            // A generator that failed has reported it itself.
            generated = task.await.ok().flatten();
            start::drain(&bus, &plan, DRAIN_WITHIN).await;
            alert_delay = Some(crowds.report());
        }
        let counted = Counted::of(&stage);
        let alerts = alerts.finish().await;
        stop(&mut stages).await;
        let summary = Summary {
            pipeline: plan.pipeline.to_string(),
            seconds: began.elapsed().as_secs_f64(),
            events: counted.events,
            windows_closed: counted.windows_closed,
            alerts,
            restarts: restarts.load(Ordering::Relaxed),
            alert_delay,
            post_latency_ms: generated.as_ref().map(|report| report.latency_ms),
            generated,
        };
        if self.json {
            output::json(&summary)?
        } else {
            output::line(&summary)?
        }
        Ok(())
    }

    /// Opens the listening sockets, and reports those that are not on their default port.
    fn listen(&self) -> Result<(Addresses, Listeners), listeners::ListenError> {
        let collector = listeners::open(self.listen, COLLECTOR_PORT, "--listen")?;
        let api = listeners::open(self.api_listen, API_PORT, "--api-listen")?;
        let ops = listeners::open(self.ops_listen, OPS_PORT, "--ops-listen")?;
        let named = [("collector", &collector), ("dashboard", &api), ("metrics endpoint", &ops)];
        for (name, Listener { address, replaces, .. }) in named {
            if let Some(default) = replaces {
                output::note(&format!(
                    "port {} is in use: the {name} listens on port {}",
                    default.port(),
                    address.port()
                ));
            }
        }
        let addresses = Addresses { collector: collector.address, api: api.address, ops: ops.address };
        Ok((addresses, Listeners { collector: collector.listener, api: api.listener, ops: ops.listener }))
    }

    /// The generated shoppers, if requested.
    fn demo(
        &self,
        plan: &Arc<Plan>,
        stage: &Stage,
        addresses: &Addresses,
    ) -> Result<Option<Demo>, TargetError> {
        let Some(rate) = self.generate else { return Ok(None) };
        let shopping = Shopping {
            rate,
            seed: self.seed,
            crowd_every: self.crowd_every.0,
            length: self.duration.map(|span| span.0),
        };
        Demo::new(plan, &stage.secrets, addresses, &shopping).map(Some)
    }

    /// Returns at the end of the requested duration.
    async fn end(&self) {
        match self.duration {
            Some(span) => tokio::time::sleep(span.0).await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for `future`; none if a signal comes first. A stage that cannot run stops all stages.
async fn wait<T>(
    stages: &mut Stages,
    signals: &mut StopSignals,
    future: impl Future<Output = T>,
) -> Result<Option<T>, UpError> {
    let unrunnable = tokio::select! {
        done = future => return Ok(Some(done)),
        () = signals.next() => return Ok(None),
        unrunnable = stages.unrunnable() => unrunnable,
    };
    output::note(&format!("{unrunnable}; stopping"));
    stop(stages).await;
    Err(unrunnable.into())
}

async fn stop(stages: &mut Stages) {
    if !stages.stop().await {
        output::note(&"some stages did not finish in time: the next start continues from their last commit");
    }
}

/// Prints and counts the alerts that clients receive.
struct Alerts {
    count: Arc<AtomicU64>,
    watching: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Alerts {
    fn watch(plan: &Arc<Plan>, stage: &Stage, addresses: &Addresses, demo: Option<&Demo>) -> Self {
        let (count, watching) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let (counted, crowds, socket) =
            (Arc::clone(&count), demo.map(Demo::crowds), start::socket_url(plan, &stage.secrets, addresses));
        let plan = Arc::clone(plan);
        let task = tokio::spawn(watch::alerts(socket, watching.clone(), move |alert, now| {
            counted.fetch_add(1, Ordering::Relaxed);
            let after = crowds.as_ref().and_then(|crowds| crowds.alerted(&plan, alert, now));
            let after = after
                .map(|delay| format!("  ({:.1} s after the first event of the crowd)", delay.as_secs_f64()));
            output::note(&format!("alert: {}{}", alert.summary, after.unwrap_or_default()));
        }));
        Self { count, watching, task }
    }

    /// Stops watching and returns their number.
    async fn finish(self) -> u64 {
        self.watching.cancel();
        // The result of the watcher does not matter any more.
        let _ = self.task.await;
        self.count.load(Ordering::Relaxed)
    }
}

//! `herd up`: the whole pipeline in this process, with an embedded broker unless the file names a Kafka.
//!
//! ```text
//! file ─► plan ─► topics ─► stages (each kept running) ◄─ generated shoppers
//!                              └─► api ─► alerts seen as a client sees them ─► summary
//! ```

pub mod crowds;
pub mod demo;
pub mod doors;
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
use crate::output::{self, Outcome};
use crate::pipeline;
use demo::{Demo, Shopping};
use doors::Door;
use stages::{Addresses, Doors, Stages};
use start::UpError;
use summary::{Counted, Summary};
use supervise::Watcher;

/// Port of the collector, unless told otherwise.
const COLLECTOR_PORT: u16 = 8080;
/// Port of the dashboard, unless told otherwise.
const API_PORT: u16 = 8081;
/// Port of probes and metrics, unless told otherwise.
const OPS_PORT: u16 = 9090;
/// How long the stages may take to be ready before the start text comes without them.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long what is on its way may take to be counted before the summary.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Runs a whole pipeline in this process, until Ctrl-C.
///
/// Events, counts and alerts are kept in the data folder (or in the Kafka that the file names); the next start finds them.
#[derive(Args, Debug)]
pub struct Up {
    /// The pipeline, YAML
    pub file: PathBuf,
    /// Where data is kept [default: .herd/PIPELINE]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The collector's address [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// The address of REST, WebSocket and the dashboard [default: 127.0.0.1:8081, or a free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub api_listen: Option<SocketAddr>,
    /// The address of /readyz, /statusz and /metrics [default: 127.0.0.1:9090, or a free port]
    #[arg(long, value_name = "HOST:PORT")]
    pub ops_listen: Option<SocketAddr>,
    /// Ends by itself after this time, with a summary
    #[arg(long = "for", value_name = "TIME")]
    pub duration: Option<Span>,
    /// Where Secrets are, as DIR/NAME/KEY
    #[arg(long, value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// Drives the pipeline with generated shoppers, so many events a second, and a crowd on one product now and then
    #[arg(long, value_name = "RATE", num_args = 0..=1, default_missing_value = "100", value_parser = positive)]
    pub generate: Option<f64>,
    /// From one generated crowd to the next
    #[arg(long, value_name = "TIME", default_value = "1m", requires = "generate")]
    pub crowd_every: Span,
    /// The same seed gives the same shoppers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The summary as JSON; everything else goes to standard error
    #[arg(long)]
    pub json: bool,
}

impl Up {
    /// Runs it.
    ///
    /// # Errors
    /// If the file is no pipeline, or something it needs is not there.
    pub async fn run(self) -> Outcome {
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
    ) -> Outcome {
        let (addresses, doors) = self.open_doors()?;
        let before = start::prepare(&bus, &plan).await?;
        let stage = Stage::new(CancellationToken::new(), secrets);
        let watcher = Watcher { tell: Arc::new(|line| output::note(&line)), restarts: Arc::default() };
        let restarts = Arc::clone(&watcher.restarts);
        let mut stages = Stages::start(&plan, &bus, &stage, doors, data.clone(), watcher);

        let ready = wait(&mut stages, &mut signals, start::ready(&addresses, READY_WITHIN)).await?;
        if let Some(Some(what)) = &ready {
            output::note(&format!("not everything is ready yet: {what}"));
        }
        let began = Instant::now();
        let demo = if ready.is_some() { self.demo(&plan, &stage, &addresses)? } else { None };
        if ready.is_some() {
            output::note(&start::text(&plan, &addresses, &data, before, demo.as_ref(), self.duration));
        }
        let alerts = Alerts::watch(&plan, &stage, &addresses, demo.as_ref());
        let driven = stage.shutdown.child_token();
        let driving = demo.map(|demo| (demo.crowds(), tokio::spawn(demo.run(driven.clone()))));
        if ready.is_some() {
            wait(&mut stages, &mut signals, self.end()).await?;
        }

        // From here a second signal ends the process at once: what is not committed is done again by the next start.
        tokio::spawn(async move {
            signals.next().await;
            output::note(&"stopped at once");
            std::process::exit(130);
        });
        output::note(&"stopping");
        let mut generated = None;
        let mut alert_delay = None;
        if let Some((crowds, task)) = driving {
            driven.cancel();
            // A generator that broke has told so itself.
            generated = task.await.ok().flatten();
            start::settle(&bus, &plan, SETTLE_WITHIN).await;
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

    /// Opens the sockets that clients come to, and says which of them are not where they usually are.
    fn open_doors(&self) -> Result<(Addresses, Doors), doors::DoorError> {
        let collector = doors::open(self.listen, COLLECTOR_PORT, "--listen")?;
        let api = doors::open(self.api_listen, API_PORT, "--api-listen")?;
        let ops = doors::open(self.ops_listen, OPS_PORT, "--ops-listen")?;
        let named = [("collector", &collector), ("dashboard", &api), ("address of metrics", &ops)];
        for (name, Door { address, instead_of, .. }) in named {
            if let Some(usual) = instead_of {
                output::note(&format!(
                    "port {} is taken: the {name} is on {} instead",
                    usual.port(),
                    address.port()
                ));
            }
        }
        let addresses = Addresses { collector: collector.address, api: api.address, ops: ops.address };
        Ok((addresses, Doors { collector: collector.listener, api: api.listener, ops: ops.listener }))
    }

    /// The generated shoppers, where they are asked for.
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

    /// When it ends by itself.
    async fn end(&self) {
        match self.duration {
            Some(span) => tokio::time::sleep(span.0).await,
            None => std::future::pending().await,
        }
    }
}

/// Waits for `what`; none if a signal comes before. A stage that cannot run ends all of them.
async fn wait<T>(
    stages: &mut Stages,
    signals: &mut StopSignals,
    what: impl Future<Output = T>,
) -> Result<Option<T>, UpError> {
    let unrunnable = tokio::select! {
        done = what => return Ok(Some(done)),
        () = signals.next() => return Ok(None),
        unrunnable = stages.unrunnable() => unrunnable,
    };
    output::note(&format!("{unrunnable}; stopping"));
    stop(stages).await;
    Err(unrunnable.into())
}

async fn stop(stages: &mut Stages) {
    if !stages.stop().await {
        output::note(&"some stages did not finish in time; the next start goes on from their last commit");
    }
}

/// Tells of alerts as a client sees them, and counts them.
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
            let after =
                after.map(|delay| format!("  ({:.1} s after the crowd's first event)", delay.as_secs_f64()));
            output::note(&format!("alert  {}{}", alert.summary, after.unwrap_or_default()));
        }));
        Self { count, watching, task }
    }

    /// How many there were.
    async fn finish(self) -> u64 {
        self.watching.cancel();
        // A watcher that broke has nothing more to say.
        let _ = self.task.await;
        self.count.load(Ordering::Relaxed)
    }
}

//! The worker: one stage in a process of its own.

mod args;
mod prepare;

use anyhow::{Context, bail};
use herd_spec::pipeline::Span;

pub use args::Worker;
use args::{Command, LogFormat};
use prepare::{Prepared, listen};

use crate::signal::StopSignals;
use crate::store;

/// Where Kubernetes reads why a container ended.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Writes why this process ends to where Kubernetes shows it. Elsewhere there is no such file, and none is made.
pub fn write_termination_message(why: &str) {
    use std::io::Write;
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(TERMINATION_LOG) {
        // The log has it too.
        let _ = file.write_all(why.as_bytes());
    }
}

/// Begins to log to standard error; `RUST_LOG` decides what.
pub fn start_log(worker: &Worker) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match worker.log() {
        LogFormat::Json => log.json().init(),
        LogFormat::Pretty => log.init(),
    }
}

/// Runs the stage until a signal asks it to stop, and finishes its work.
///
/// # Errors
/// If it cannot begin, or could not go on.
pub async fn run(worker: Worker) -> anyhow::Result<()> {
    let signals = StopSignals::listen().context("signals cannot be caught")?;
    match worker.command {
        Command::Collector { serve, stage: options } => {
            let listener = listen(serve.listen).await?;
            let prepared = options.prepare(signals, serve.drain)?;
            let Prepared { plan, bus, stage, .. } = prepared.clone();
            let work = async { Ok(herd_collector::run(plan, bus, stage.part(), listener).await?) };
            prepared.run(work).await
        }
        Command::Detector(options) => {
            let prepared = options.prepare(signals, Span::secs(0))?;
            let Prepared { plan, bus, stage, member, .. } = prepared.clone();
            let work = async { Ok(herd_detector::run(plan, bus, stage.part(), member).await?) };
            prepared.run_once_topics_are_there(work).await
        }
        Command::Sink { name, stage: options } => {
            let prepared = options.prepare(signals, Span::secs(0))?;
            let Prepared { plan, bus, stage, member, data, .. } = prepared.clone();
            let Some(sink) = plan.sinks.iter().find(|sink| sink.name == name).cloned() else {
                let names: Vec<&str> = plan.sinks.iter().map(|sink| sink.name.as_str()).collect();
                bail!("the plan has no sink `{name}`; its sinks are: {}", names.join(", "));
            };
            let work = async { Ok(herd_sink::run(plan, sink, bus, stage.part(), data, member).await?) };
            prepared.run_once_topics_are_there(work).await
        }
        Command::Api { collector, serve, stage: options } => {
            let listener = listen(serve.listen).await?;
            let prepared = options.prepare(signals, serve.drain)?;
            let Prepared { plan, bus, stage, data, .. } = prepared.clone();
            let store = store::of_api(&plan, &stage.secrets, &data)?;
            let work =
                async { Ok(herd_api::run(plan, bus, store, stage.part(), listener, collector).await?) };
            prepared.run(work).await
        }
    }
}

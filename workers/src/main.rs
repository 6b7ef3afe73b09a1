//! The worker image: one binary, a subcommand for each stage. Runs until SIGTERM or SIGINT, finishes its work, and exits with 0;
//! with 1 and a reason if it could not go on. Whoever runs it starts it again.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use herd_workers::worker::{Worker, run, start_log, write_termination_message};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let worker = Worker::parse();
    start_log(&worker);
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
        .and_then(|runtime| runtime.block_on(run(worker)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            tracing::error!("stopped: {problem:#}");
            write_termination_message(&format!("{problem:#}"));
            ExitCode::FAILURE
        }
    }
}

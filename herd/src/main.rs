//! The `herd` command.

use std::process::ExitCode;

use clap::Parser;
use herd_cli::{Herd, output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is told unless `RUST_LOG` says otherwise. That a stage stopped, and why, `herd up` tells itself; and the embedded broker what
/// ails its store.
const FILTER: &str = "warn,herd_stage::thread=off,fjall=off";

fn main() -> ExitCode {
    let herd = Herd::parse();
    // Stages tell what they do; here only what needs somebody's attention. RUST_LOG changes it.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).compact().init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("the runtime cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(herd.run());
    // Whatever still blocks has been given its time.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            output::note(&format!("{report:?}"));
            ExitCode::FAILURE
        }
    }
}

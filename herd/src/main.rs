//! The `herd` command.

use std::process::ExitCode;

use clap::Parser;
use herd_cli::{Herd, output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default log filter, overridden by `RUST_LOG`. `herd up` itself reports stages that stop, and the embedded broker reports
/// errors of its store, so their log lines would be duplicates.
const FILTER: &str = "warn,herd_stage::thread=off,fjall=off";

fn main() -> ExitCode {
    let herd = Herd::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).compact().init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("cannot start the async runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(herd.run());
    // Blocking tasks that are still running had their time to finish.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            output::note(&format!("{report:?}"));
            ExitCode::FAILURE
        }
    }
}

//! Real faults: worker processes on three real Kafka brokers and a real PostgreSQL, under load, while processes, brokers, the
//! database, the network, the clock and the input misbehave. At the end of a run, nothing is lost, nothing double; meanwhile, a
//! person who looks sees what is wrong.
//!
//! - `script` says what is sent, `load` sends it as clients do, `expected` adds up what clients were told;
//! - `pipeline` keeps the worker processes running, `env` lays hands on what they stand on;
//! - `menu` has the faults, `scene` what a person sees of them;
//! - `progress` tells when the pipeline is over it, `delays` how fast it is, `verdict` whether everything is right.
//!
//! Needs an environment: `make faults`, `make faults FAULT=broker-kill`, `make endurance MINUTES=30 RATE=20000`. Settings: `RATE`, `SEED`,
//! `WORKER` (another worker binary), `KEEP_LOGS` (a folder for the stages' logs of a run that failed).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs
)]

mod alerts;
mod clock;
mod delays;
mod endurance;
mod env;
mod expected;
mod load;
mod menu;
#[path = "../oracle/mod.rs"]
mod oracle;
mod pipeline;
mod progress;
mod run;
mod scene;
mod script;
mod verdict;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use env::Env;
use menu::{Fault, MENU};
use run::{HEAD, RECOVERY, Report, Run, Settings};

/// Events a second, unless `RATE` says otherwise.
const SHORT_RATE: u64 = 1_000;
const LONG_RATE: u64 = 2_000;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn main() -> ExitCode {
    // cargo-nextest asks which tests there are: none that it could run.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let wish: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    // Also run by `cargo test --workspace`, which has no environment for it.
    let (Some(env), Some(wish)) = (Env::here(), wish.split_first()) else {
        println!("faults: not asked for, or no environment to run in: make faults");
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let env = Arc::new(env);
        match (wish.0.as_str(), wish.1) {
            ("short", _) => short(&env).await,
            ("endurance", [minutes]) => {
                let minutes = minutes.parse().expect("a number of minutes");
                endurance::run(&env, minutes, rate(20_000)).await
            }
            ("together", [names]) => match menu::all_of(names) {
                Ok(faults) => together(&env, &faults).await,
                Err(name) => unknown(&name),
            },
            (names, _) => match menu::all_of(names) {
                Ok(faults) => long(&env, &faults).await,
                Err(name) => unknown(&name),
            },
        }
    })
}

fn unknown(name: &str) -> ExitCode {
    let names: Vec<&str> = MENU.iter().map(|fault| fault.name).collect();
    println!(
        "faults: there is no `{name}`; there is: short, all, together NAMES (or all), endurance MINUTES, {}",
        names.join(", ")
    );
    ExitCode::FAILURE
}

fn rate(usual: u64) -> u64 {
    std::env::var("RATE").map_or(usual, |rate| rate.parse().expect("RATE is a number"))
}

/// Many faults in one run, each as short as it can be: what `make test` has time for.
async fn short(env: &Arc<Env>) -> ExitCode {
    let settings = Settings {
        rate: rate(SHORT_RATE),
        hot: 0.5,
        drain: RECOVERY,
        doubt: true,
        lateness: Duration::from_secs(40),
        retention: WEEK,
        before: Duration::from_secs(5),
    };
    let mut run = Run::start(env, settings).await;
    for (fault, hold) in MENU.iter().filter_map(|fault| Some((fault, fault.short?))) {
        if fault.name != "disk-full" || Env::has_small_disk() {
            run.happen(fault, hold, None).await;
        }
    }
    conclude(vec![run.finish().await])
}

/// Some faults in one run, each a quarter of a minute: to see soon whether they work.
async fn together(env: &Arc<Env>, faults: &[&'static Fault]) -> ExitCode {
    let settings = Settings {
        rate: rate(SHORT_RATE),
        hot: faults.iter().map(|fault| fault.hot).fold(0.0, f64::max),
        drain: RECOVERY,
        doubt: false,
        lateness: Duration::from_secs(60),
        retention: WEEK,
        before: Duration::from_secs(5),
    };
    let mut run = Run::start(env, settings).await;
    for fault in faults {
        run.happen(fault, Duration::from_secs(15), None).await;
    }
    conclude(vec![run.finish().await])
}

/// Each fault in a run of its own, long enough that windows close before it, meanwhile and after it.
async fn long(env: &Arc<Env>, faults: &[&'static Fault]) -> ExitCode {
    let mut reports = Vec::new();
    for fault in faults {
        let lateness = fault.long + Duration::from_secs(30);
        let settings = Settings {
            rate: rate(LONG_RATE),
            hot: fault.hot,
            drain: RECOVERY,
            doubt: false,
            lateness,
            retention: WEEK,
            before: lateness + Duration::from_secs(15),
        };
        let mut run = Run::start(env, settings).await;
        run.happen(fault, fault.long, None).await;
        let report = run.finish().await;
        println!("{}", report.summary);
        reports.push(report);
    }
    conclude(reports)
}

/// Prints the table and what is wrong, and writes a result of each fault for `dev/test`.
pub(crate) fn conclude(reports: Vec<Report>) -> ExitCode {
    println!("\n{HEAD}");
    let (mut passed, mut failed) = (0, 0);
    let mut results = String::new();
    let mut result = |name: &str, passed: bool, message: &str| {
        let line = serde_json::json!({"name": name, "passed": passed, "message": message});
        results.push_str(&format!("{line}\n"));
    };
    for report in &reports {
        // What was not seen as it should be is a problem of one row; what is not exact, of all in the run.
        for row in &report.rows {
            println!("{}", row.line(report.exact));
            result(row.fault, report.exact && row.looked_well(), &row.line(report.exact));
        }
        let well = report.rows.iter().filter(|row| report.exact && row.looked_well()).count();
        let spoilt = report.rows.len() - well;
        passed += well;
        failed += if report.problems.is_empty() { spoilt } else { spoilt.max(1) };
        if spoilt == 0 && !report.problems.is_empty() {
            result("the run as a whole", false, &report.problems.join("\n"));
        }
    }
    for report in reports {
        print!("\n{}", report.summary);
        for problem in report.problems {
            println!("  PROBLEM {problem}");
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed;",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    if let Some(folder) = std::env::var_os("TEST_RESULTS") {
        std::fs::write(Path::new(&folder).join("faults.jsonl"), results).expect("a folder for results");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! Endurance: half an hour at full speed, a fault a minute; memory and delay over time.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::delays::percentile;
use crate::env::Env;
use crate::load::Load;
use crate::menu;
use crate::pipeline::Pipeline;
use crate::progress;
use crate::run::{Run, Settings};

/// One a minute, over and over; how long each lasts.
const ROUND: &[(&str, u64)] = &[
    ("stages-kill", 15),
    ("broker-kill", 15),
    ("postgres-kill", 5),
    ("cut-both", 10),
    ("rebalance-storm", 16),
    ("broker-stop", 15),
    ("poison", 5),
    ("postgres-stop", 15),
    ("scale-1-6-2", 15),
    ("brokers-down", 10),
];
/// How often a line of the CSV is written.
const SAMPLE: Duration = Duration::from_secs(2);
/// Topics keep this much: disks hold.
const RETENTION: Duration = Duration::from_secs(1_200);

pub(crate) async fn run(env: &Arc<Env>, minutes: u64, rate: u64) -> ExitCode {
    let settings = Settings {
        rate,
        hot: 0.0,
        drain: Duration::from_secs(1_200),
        doubt: false,
        lateness: Duration::from_secs(60),
        retention: RETENTION,
        before: Duration::from_secs(30),
    };
    let mut run = Run::start(env, settings).await;
    let begun = Instant::now();
    let sampler = Sampler::start(&run.load, &run.pipeline, begun);
    for minute in 0..minutes {
        let (name, hold) = ROUND[usize::try_from(minute).unwrap() % ROUND.len()];
        tokio::time::sleep((Duration::from_secs(60 * minute)).saturating_sub(begun.elapsed())).await;
        sampler.mark(name);
        let next = begun + Duration::from_secs(60 * (minute + 1));
        let fault = menu::find(name).expect("the round has faults of the menu");
        run.happen(fault, Duration::from_secs(hold), Some(next)).await;
        sampler.mark("");
    }
    tokio::time::sleep(Duration::from_secs(60 * minutes).saturating_sub(begun.elapsed())).await;
    let took = begun.elapsed();
    let report = run.finish().await;
    let file = sampler.finish();
    println!(
        "endurance: {minutes} minutes ({:.0} s) at {rate} events/s; measured: {}",
        took.as_secs_f64(),
        file.display()
    );
    crate::conclude(vec![report])
}

/// Writes down how the pipeline is doing.
struct Sampler {
    fault: Arc<parking_lot::Mutex<String>>,
    file: PathBuf,
    task: JoinHandle<()>,
}

const COLUMNS: &str = "seconds,fault,accepted,lag,collector_mib,detector_mib,sink_mib,api_mib,delay_p50_ms,delay_p99_ms,delay_max_ms,probes";

impl Sampler {
    fn start(load: &Arc<Load>, pipeline: &Arc<Pipeline>, begun: Instant) -> Self {
        let file = PathBuf::from(std::env::var("ENDURANCE_CSV").unwrap_or_else(|_| "endurance.csv".into()));
        std::fs::write(&file, format!("{COLUMNS}\n")).unwrap();
        let fault = Arc::new(parking_lot::Mutex::new(String::new()));
        let (load, pipeline, marked, to) =
            (Arc::clone(load), Arc::clone(pipeline), Arc::clone(&fault), file.clone());
        let task = tokio::spawn(async move {
            let mut last = Instant::now();
            loop {
                tokio::time::sleep(SAMPLE).await;
                let delays = load.delays.since(last);
                last = Instant::now();
                let memory = pipeline.memory();
                let most = |stage: &str| {
                    let of_stage = memory.iter().filter(|(name, _)| name.starts_with(stage));
                    of_stage.map(|(_, mib)| *mib).max().unwrap_or(0)
                };
                // While brokers are away, nobody knows.
                let asked = tokio::time::timeout(Duration::from_secs(5), progress::lag(&pipeline)).await;
                let lag = asked.ok().flatten().map_or_else(String::new, |lag| lag.to_string());
                let mut line = format!(
                    "{:.1},{},{},{lag}",
                    begun.elapsed().as_secs_f64(),
                    marked.lock(),
                    load.accepted()
                );
                for stage in ["collector", "detector", "sink", "api"] {
                    let _ = write!(line, ",{}", most(stage));
                }
                let of = |share| percentile(&delays, share);
                match delays.len() {
                    0 => line.push_str(",,,,0"),
                    probes => {
                        let _ = write!(line, ",{},{},{},{probes}", of(50), of(99), of(100));
                    }
                }
                append(&to, &line);
            }
        });
        Self { fault, file, task }
    }

    fn mark(&self, fault: &str) {
        fault.clone_into(&mut self.fault.lock());
    }

    fn finish(self) -> PathBuf {
        self.task.abort();
        self.file
    }
}

fn append(file: &std::path::Path, line: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::options().append(true).open(file).unwrap();
    writeln!(file, "{line}").unwrap();
}

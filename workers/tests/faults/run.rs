//! One run: a pipeline under load, faults one after the other, and the verdict at the end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::delays::percentile;
use crate::env::Env;
use crate::load::Load;
use crate::menu::Fault;
use crate::pipeline::{Pipeline, Shape};
use crate::progress;
use crate::scene::Scene;
use crate::script::Script;
use crate::verdict::{self, Verdict};

/// Memory of one process that is still bounded, MiB.
const MOST_MEMORY: u64 = 1024;
/// How long the pipeline may take to get over a fault.
pub(crate) const RECOVERY: Duration = Duration::from_secs(240);
/// How long it may take at the end until everything is where it belongs.
const SETTLING: Duration = Duration::from_secs(60);

pub(crate) struct Settings {
    pub(crate) rate: u64,
    pub(crate) hot: f64,
    pub(crate) lateness: Duration,
    pub(crate) retention: Duration,
    /// How long it may take at the end until all that waits is through.
    pub(crate) drain: Duration,
    /// Whether to try if the verdict notices what it should.
    pub(crate) doubt: bool,
    /// Calm before the first fault.
    pub(crate) before: Duration,
}

/// What became of one fault.
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    what: String,
    events: u64,
    restarts: u32,
    /// None: not before the next fault.
    recovery: Result<Option<Duration>, String>,
    peaks: BTreeMap<String, u64>,
    seen: Vec<String>,
    missing: Vec<String>,
}

/// What became of a run.
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) problems: Vec<String>,
    /// Whether the verdict found nothing.
    pub(crate) exact: bool,
    pub(crate) summary: String,
}

/// A pipeline under load.
pub(crate) struct Run {
    pub(crate) env: Arc<Env>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) load: Arc<Load>,
    settings: Settings,
    rows: Vec<Row>,
    /// Stages that took too much memory.
    heavy: Vec<String>,
    poison: Vec<String>,
    begun: Instant,
}

impl Run {
    pub(crate) async fn start(env: &Arc<Env>, settings: Settings) -> Self {
        let members = ["collector-0", "collector-1", "detector-0", "detector-1", "sink-0", "sink-1", "api-0"];
        let shape = Shape {
            lateness: settings.lateness,
            retention: settings.retention,
            members: members.map(str::to_owned).to_vec(),
        };
        let pipeline = Pipeline::start(Arc::clone(env), &shape).await;
        let start = crate::clock::now();
        let seed = seed();
        let script = Script { seed, start, rate: settings.rate, hot: settings.hot };
        let doors = Arc::downgrade(&pipeline);
        let collectors =
            Arc::new(move |n| doors.upgrade().map_or_else(String::new, |pipeline| pipeline.collector(n)));
        let load = Load::new(script, settings.lateness, collectors);
        load.delays.watch(&pipeline);
        load.start();
        eprintln!("faults: {} events/s, seed {seed}, pipeline {}", settings.rate, pipeline.plan.pipeline);
        tokio::time::sleep(settings.before).await;
        Self {
            env: Arc::clone(env),
            pipeline,
            load,
            settings,
            rows: Vec::new(),
            heavy: Vec::new(),
            poison: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Makes a fault happen, and waits until the pipeline is over it, or until it is time for the next.
    pub(crate) async fn happen(
        &mut self,
        fault: &'static Fault,
        hold: Duration,
        next: Option<Instant>,
    ) -> &Row {
        let (events, restarts) = (self.load.accepted(), self.pipeline.restarts());
        eprintln!("faults: {:4.0} s: {}", self.begun.elapsed().as_secs_f64(), fault.name);
        let scene = Scene::open(&self.env, &self.pipeline, &self.load, hold);
        let what = (fault.happen)(&scene).await;
        let patience = next.map_or(RECOVERY, |next| next.saturating_duration_since(Instant::now()));
        let recovery = match progress::catch_up(&self.pipeline, patience).await {
            Err(_) if next.is_some() => Ok(None),
            outcome => outcome.map(Some),
        };
        let (seen, missing, poison) = scene.close();
        self.poison.extend(poison);
        let peaks = self.pipeline.peaks();
        for (stage, most) in peaks.iter().filter(|(_, most)| **most > MOST_MEMORY) {
            let fault = fault.name;
            self.heavy.push(format!("{fault}: {stage} takes {most} MiB of memory, more than {MOST_MEMORY}"));
        }
        let row = Row {
            fault: fault.name,
            what,
            events: self.load.accepted() - events,
            restarts: self.pipeline.restarts() - restarts,
            recovery,
            peaks,
            seen,
            missing,
        };
        eprint!("{}", row.told());
        self.rows.push(row);
        self.rows.last().unwrap()
    }

    /// Ends the load, closes all windows, and says what is wrong.
    pub(crate) async fn finish(self) -> Report {
        let Self { env, pipeline, load, settings, rows, heavy, poison, .. } = self;
        load.finish(settings.lateness + Duration::from_secs(120)).await;
        let mut problems = heavy;
        let settled = rows.iter().filter(|row| !row.is_behind());
        problems
            .extend(settled.flat_map(|row| row.missing.iter().map(|what| format!("{}: {what}", row.fault))));
        problems.extend(
            rows.iter().filter_map(|row| Some(format!("{}: {}", row.fault, row.recovery.as_ref().err()?))),
        );
        if let Err(why) = progress::catch_up(&pipeline, settings.drain).await {
            problems.push(why);
        }
        let verdict = verdict::settle(&env, &pipeline, &load, &poison, SETTLING).await;
        problems.extend(verdict.findings.iter().map(ToString::to_string));
        problems.extend(pipeline.panics());
        let unseen = load.delays.finish();
        let summary = summary(&verdict, &load, &pipeline, unseen);
        if !problems.is_empty() {
            eprintln!("{}", pipeline.logs());
        }
        problems.extend(pipeline.stop().await);
        // Only now: a sink that still moves its position would lock the tables in another order than the doubt does.
        if settings.doubt && problems.is_empty() {
            problems.extend(verdict::overlooks(&env, &pipeline, &load, &poison).await);
        }
        if let (Some(folder), false) = (std::env::var_os("KEEP_LOGS"), problems.is_empty()) {
            pipeline.keep_logs(std::path::Path::new(&folder));
        }
        pipeline.clear().await;
        Report { rows, problems, exact: verdict.findings.is_empty(), summary }
    }
}

fn summary(verdict: &Verdict, load: &Load, pipeline: &Pipeline, unseen: usize) -> String {
    let delays = load
        .delays
        .since(Instant::now().checked_sub(Duration::from_secs(86_400)).unwrap_or_else(Instant::now));
    let of = |share| percentile(&delays, share);
    let mut text = format!("verdict: {verdict}\n");
    let retries = load.retries.load(std::sync::atomic::Ordering::Relaxed);
    let _ = writeln!(text, "requests sent again: {retries}; restarts: {}", pipeline.restarts());
    let _ = writeln!(
        text,
        "from accepted to seen in `windows`, {} probes: median {} ms, 95 % {} ms, 99 % {} ms, longest {} ms; never seen {unseen}",
        delays.len(),
        of(50),
        of(95),
        of(99),
        of(100)
    );
    let _ = writeln!(text, "highest memory of a process, MiB: {}", peaks(&pipeline.peaks()));
    text
}

fn peaks(peaks: &BTreeMap<String, u64>) -> String {
    peaks.iter().map(|(stage, most)| format!("{stage} {most}")).collect::<Vec<_>>().join(", ")
}

impl Row {
    fn told(&self) -> String {
        let mut text = format!("  {}: {}\n", self.fault, self.what);
        self.seen.iter().for_each(|seen| {
            let _ = writeln!(text, "    seen: {seen}");
        });
        self.missing.iter().for_each(|missing| {
            let _ = writeln!(text, "    MISSING: {missing}");
        });
        match &self.recovery {
            Ok(None) => writeln!(text, "    still catching up when the next came"),
            Ok(Some(took)) => {
                writeln!(text, "    all caught up {:.1} s after it was healed", took.as_secs_f64())
            }
            Err(why) => writeln!(text, "    NOT RECOVERED: {why}"),
        }
        .unwrap();
        text
    }

    /// Whether the next fault came before the pipeline was over this one. What should be seen of it may then come later.
    fn is_behind(&self) -> bool {
        matches!(self.recovery, Ok(None))
    }

    /// Whether a person saw all that should be seen of it, and its end.
    pub(crate) fn looked_well(&self) -> bool {
        self.is_behind() || self.missing.is_empty() && self.recovery.is_ok()
    }

    /// A line of the table.
    pub(crate) fn line(&self, exact: bool) -> String {
        let result = match (exact, self.looked_well()) {
            (true, true) if self.missing.is_empty() => "exact, seen",
            (true, true) => "exact",
            (true, false) => "exact, NOT as it should look",
            (false, _) => "NOT EXACT",
        };
        let recovery = match &self.recovery {
            Ok(Some(took)) => format!("{:.1} s", took.as_secs_f64()),
            Ok(None) => "longer than until the next".to_owned(),
            Err(_) => "never".to_owned(),
        };
        let Self { fault, what, events, restarts, peaks: memory, .. } = self;
        format!("| {fault} | {what} | {events} | {restarts} | {result} | {recovery} | {} |", peaks(memory))
    }
}

/// The head of the table.
pub(crate) const HEAD: &str = "| fault | what was done | events meanwhile | restarts | result | recovery | highest memory, MiB |\n|---|---|---|---|---|---|---|";

fn seed() -> u64 {
    let random = || u64::from(rand::random::<u32>());
    std::env::var("SEED").map_or_else(|_| random(), |seed| seed.parse().expect("SEED is a number"))
}

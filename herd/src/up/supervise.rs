//! Keeps a stage running: crash-only. A stage that stops with an error is started again from what it has committed. What stays
//! the same is told once; what a person must mend is tried again with long pauses; what follows from the plan is not tried again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use herd_stage::backoff::{Pace, Pauses};
use herd_stage::{Retry, Stage, StageError};

/// How a stage is started again.
#[derive(Clone, Copy, Debug)]
struct Restarts {
    /// Where it helps by itself.
    soon: Pace,
    /// Where somebody must mend something: so long after it is mended, at the latest, the stage goes on.
    after_repair: Pace,
    /// A stage that ran this long is not one that fails at once: the pauses begin anew, and so does what is told.
    steady: Duration,
}

const RESTARTS: Restarts = Restarts {
    soon: Pace { first: Duration::from_millis(200), longest: Duration::from_secs(15) },
    after_repair: Pace { first: Duration::from_secs(5), longest: Duration::from_secs(300) },
    steady: Duration::from_secs(30),
};

/// Errors of one stage that are remembered as told.
const TOLD: usize = 16;

/// A stage that is not started again: its error follows from the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} cannot run: {why}")]
pub struct Unrunnable {
    /// The stage.
    pub name: String,
    /// Its error.
    pub why: String,
}

/// Pauses between starts.
#[derive(Debug)]
struct Backoff {
    steady: Duration,
    soon: Pauses,
    after_repair: Pauses,
}

impl Backoff {
    fn new(restarts: Restarts) -> Self {
        Self {
            steady: restarts.steady,
            soon: restarts.soon.exact_pauses(),
            after_repair: restarts.after_repair.exact_pauses(),
        }
    }

    /// The pause after a run that lasted `ran`; `needs_repair`: it ended with an error that somebody must mend.
    fn after(&mut self, ran: Duration, needs_repair: bool) -> Duration {
        if ran >= self.steady {
            self.soon.reset();
            self.after_repair.reset();
        }
        if needs_repair { self.after_repair.next() } else { self.soon.next() }
    }
}

/// Who is told, and how often a stage was started again.
#[derive(Clone)]
pub struct Watcher {
    /// Gets one line for a person.
    pub tell: Arc<dyn Fn(&str) + Send + Sync>,
    /// Starts beyond the first of each stage.
    pub restarts: Arc<AtomicU64>,
}

/// Runs a stage until its shutdown is cancelled, starting it again when it stops before that.
///
/// # Errors
/// If starting it again cannot help.
pub async fn supervise<F, W, E>(
    name: String,
    stage: Stage,
    watcher: Watcher,
    start: F,
) -> Result<(), Unrunnable>
where
    F: Fn(Stage) -> W + Send,
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: StageError + Send + 'static,
{
    supervise_at(RESTARTS, name, stage, watcher, start).await
}

async fn supervise_at<F, W, E>(
    restarts: Restarts,
    name: String,
    stage: Stage,
    watcher: Watcher,
    start: F,
) -> Result<(), Unrunnable>
where
    F: Fn(Stage) -> W + Send,
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: StageError + Send + 'static,
{
    let mut backoff = Backoff::new(restarts);
    let mut told = BTreeSet::new();
    loop {
        let began = Instant::now();
        // A task of its own: a panic ends the stage, not the others.
        let mut run = tokio::spawn(start(stage.part()));
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = tokio::time::sleep(restarts.steady) => {
                if !told.is_empty() {
                    (watcher.tell)(&format!("{name} runs again"));
                    told.clear();
                }
                run.await
            }
        };
        let (why, retry) = match ended {
            Ok(Ok(())) if stage.shutdown.is_cancelled() => return Ok(()),
            Ok(Ok(())) => ("it ended by itself".to_owned(), Retry::Soon),
            Ok(Err(error)) => (error.to_string(), error.retry()),
            Err(panic) => (format!("it broke: {panic}"), Retry::Soon),
        };
        if stage.shutdown.is_cancelled() {
            (watcher.tell)(&format!(
                "{name} stopped with an error: {why}; nothing is lost, the next start goes on from its last commit"
            ));
            return Ok(());
        }
        if retry == Retry::Never {
            return Err(Unrunnable { name, why });
        }
        let needs_repair = retry == Retry::AfterRepair;
        let pause = backoff.after(began.elapsed(), needs_repair);
        watcher.restarts.fetch_add(1, Ordering::Relaxed);
        if told.len() >= TOLD {
            told.clear();
        }
        if !told.contains(&why) {
            let seconds = pause.as_secs_f64();
            (watcher.tell)(&if needs_repair {
                format!(
                    "{name} stopped: {why}; this needs mending: it is started again in {seconds:.0} s, then less and \
                     less often, at most {} minutes apart",
                    restarts.after_repair.longest.as_secs() / 60
                )
            } else {
                format!("{name} stopped: {why}; starting it again in {seconds:.1} s")
            });
            told.insert(why);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stage.shutdown.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Display;

    use herd_spec::health::Trouble;
    use herd_stage::Secrets;
    use std::sync::Mutex;
    use tokio_util::sync::CancellationToken;

    struct Failed {
        why: &'static str,
        retry: Retry,
    }

    impl Display for Failed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.why)
        }
    }

    impl StageError for Failed {
        fn retry(&self) -> Retry {
            self.retry
        }

        fn trouble(&self) -> Trouble {
            Trouble::StageFailed
        }
    }

    #[tokio::test]
    async fn starts_a_stage_again_when_it_fails_and_not_when_it_is_stopped() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            tell: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
            restarts: Arc::default(),
        };
        let (root, counted, restarts) =
            (stage.shutdown.clone(), Arc::clone(&starts), Arc::clone(&watcher.restarts));
        let ended = supervise("sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0 => Err(Failed { why: "no database", retry: Retry::Soon }),
                    1 => panic!("a defect"),
                    _ => {
                        root.cancel();
                        part.shutdown.cancelled().await;
                        Ok(())
                    }
                }
            }
        })
        .await;
        assert_eq!(ended, Ok(()));
        assert_eq!((starts.load(Ordering::Relaxed), restarts.load(Ordering::Relaxed)), (3, 2));
        let said = said.lock().unwrap();
        assert_eq!(said[0], "sink stopped: no database; starting it again in 0.2 s");
        assert!(said[1].contains("a defect"), "{}", said[1]);
    }

    #[tokio::test]
    async fn tells_the_same_error_once_and_that_the_stage_runs_again() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            tell: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
            restarts: Arc::default(),
        };
        let (root, counted) = (stage.shutdown.clone(), Arc::clone(&starts));
        let milli = Duration::from_millis(1);
        let restarts = Restarts {
            soon: Pace { first: milli, longest: milli },
            after_repair: Pace { first: milli, ..RESTARTS.after_repair },
            steady: milli * 1000,
        };
        let ended = supervise_at(restarts, "sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0..5 => Err(Failed { why: "no database", retry: Retry::Soon }),
                    5..10 => Err(Failed { why: "no table", retry: Retry::AfterRepair }),
                    _ => {
                        tokio::time::sleep(restarts.steady + milli * 500).await;
                        root.cancel();
                        part.shutdown.cancelled().await;
                        Ok(())
                    }
                }
            }
        })
        .await;
        assert_eq!(ended, Ok(()));
        let expected = [
            "sink stopped: no database; starting it again in 0.0 s",
            "sink stopped: no table; this needs mending: it is started again in 0 s, then less and less often, at most \
             5 minutes apart",
            "sink runs again",
        ];
        assert_eq!(*said.lock().unwrap(), expected);
        assert_eq!(starts.load(Ordering::Relaxed), 11);
    }

    #[tokio::test]
    async fn stops_with_the_reason_when_the_error_follows_from_the_plan() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let watcher = Watcher { tell: Arc::new(|_| {}), restarts: Arc::default() };
        let (starts, restarts) = (Arc::new(AtomicU64::new(0)), Arc::clone(&watcher.restarts));
        let counted = Arc::clone(&starts);
        let ended = supervise("collector".into(), stage, watcher, move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Err(Failed { why: "the schema does not compile", retry: Retry::Never }) }
        })
        .await;
        let why = "the schema does not compile".to_owned();
        assert_eq!(ended, Err(Unrunnable { name: "collector".into(), why }));
        assert_eq!((starts.load(Ordering::Relaxed), restarts.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_start_over_after_a_steady_run() {
        let mut backoff = Backoff::new(RESTARTS);
        let pauses: Vec<u128> = (0..9).map(|_| backoff.after(Duration::ZERO, false).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]);
        assert_eq!(backoff.after(RESTARTS.steady, false), RESTARTS.soon.first);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.after(Duration::ZERO, true).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}

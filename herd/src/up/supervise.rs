//! Supervises stages (crash-only): a stage that stops with an error is restarted from its last commit. Repeated errors are
//! reported once. Errors whose cause a user has to remove are retried with long pauses; errors that follow from the plan are not retried.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use herd_stage::backoff::{Pace, Pauses};
use herd_stage::{Retry, Stage, StageError};

/// Backoff of restarts.
#[derive(Clone, Copy, Debug)]
struct Restarts {
    /// Pauses after an error that may pass by itself.
    soon: Pace,
    /// Pauses after an error whose cause a user has to remove: the stage resumes at most `longest` after that.
    after_repair: Pace,
    /// Time after which a run counts as stable: pauses and reported errors are reset.
    stable_after: Duration,
}

const RESTARTS: Restarts = Restarts {
    soon: Pace { first: Duration::from_millis(200), longest: Duration::from_secs(15) },
    after_repair: Pace { first: Duration::from_secs(5), longest: Duration::from_secs(300) },
    stable_after: Duration::from_secs(30),
};

/// Maximum number of remembered error messages of a stage.
const MAX_REPORTED: usize = 16;

/// A stage that is not restarted: its error follows from the plan.
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
    stable_after: Duration,
    soon: Pauses,
    after_repair: Pauses,
}

impl Backoff {
    fn new(restarts: Restarts) -> Self {
        Self {
            stable_after: restarts.stable_after,
            soon: restarts.soon.exact_pauses(),
            after_repair: restarts.after_repair.exact_pauses(),
        }
    }

    /// The pause after a run that lasted `ran`; `needs_repair`: it ended with an error that somebody must mend.
    fn after(&mut self, ran: Duration, needs_repair: bool) -> Duration {
        if ran >= self.stable_after {
            self.soon.reset();
            self.after_repair.reset();
        }
        if needs_repair { self.after_repair.next() } else { self.soon.next() }
    }
}

/// Receiver of messages, and the number of restarts.
#[derive(Clone)]
pub struct Watcher {
    /// Receives one line of text per message.
    pub notify: Arc<dyn Fn(&str) + Send + Sync>,
    /// Number of restarts of all stages.
    pub restarts: Arc<AtomicU64>,
}

/// Runs a stage until its shutdown is cancelled, and restarts it if it stops before.
///
/// # Errors
/// If a restart cannot help.
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
    let mut reported = BTreeSet::new();
    loop {
        let began = Instant::now();
        // A task of its own: a panic ends the stage, not the others.
        let mut run = tokio::spawn(start(stage.part()));
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = tokio::time::sleep(restarts.stable_after) => {
                if !reported.is_empty() {
                    (watcher.notify)(&format!("{name} has recovered"));
                    reported.clear();
                }
                run.await
            }
        };
        let (why, retry) = match ended {
            Ok(Ok(())) if stage.shutdown.is_cancelled() => return Ok(()),
            Ok(Ok(())) => ("it ended by itself".to_owned(), Retry::Soon),
            Ok(Err(error)) => (error.to_string(), error.retry()),
            Err(panic) => (format!("it panicked: {panic}"), Retry::Soon),
        };
        if stage.shutdown.is_cancelled() {
            (watcher.notify)(&format!(
                "{name} stopped with an error: {why}; the next start continues from its last commit, so nothing is lost"
            ));
            return Ok(());
        }
        if retry == Retry::Never {
            return Err(Unrunnable { name, why });
        }
        let needs_repair = retry == Retry::AfterRepair;
        let pause = backoff.after(began.elapsed(), needs_repair);
        watcher.restarts.fetch_add(1, Ordering::Relaxed);
        if reported.len() >= MAX_REPORTED {
            reported.clear();
        }
        if !reported.contains(&why) {
            let seconds = pause.as_secs_f64();
            (watcher.notify)(&if needs_repair {
                format!(
                    "{name} stopped: {why}; restarts do not help until the cause is removed: next restart in {seconds:.0} s, \
                     then with growing pauses of up to {} minutes",
                    restarts.after_repair.longest.as_secs() / 60
                )
            } else {
                format!("{name} stopped: {why}; restarting in {seconds:.1} s")
            });
            reported.insert(why);
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
    async fn restarts_a_failed_stage_but_not_a_stopped_one() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            notify: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
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
        assert_eq!(said[0], "sink stopped: no database; restarting in 0.2 s");
        assert!(said[1].contains("a defect"), "{}", said[1]);
    }

    #[tokio::test]
    async fn reports_the_same_error_once_and_the_recovery() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            notify: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
            restarts: Arc::default(),
        };
        let (root, counted) = (stage.shutdown.clone(), Arc::clone(&starts));
        let milli = Duration::from_millis(1);
        let restarts = Restarts {
            soon: Pace { first: milli, longest: milli },
            after_repair: Pace { first: milli, ..RESTARTS.after_repair },
            stable_after: milli * 1000,
        };
        let ended = supervise_at(restarts, "sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0..5 => Err(Failed { why: "no database", retry: Retry::Soon }),
                    5..10 => Err(Failed { why: "no table", retry: Retry::AfterRepair }),
                    _ => {
                        tokio::time::sleep(restarts.stable_after + milli * 500).await;
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
            "sink stopped: no database; restarting in 0.0 s",
            "sink stopped: no table; restarts do not help until the cause is removed: next restart in 0 s, then with growing \
             pauses of up to 5 minutes",
            "sink has recovered",
        ];
        assert_eq!(*said.lock().unwrap(), expected);
        assert_eq!(starts.load(Ordering::Relaxed), 11);
    }

    #[tokio::test]
    async fn stops_with_the_reason_when_the_error_follows_from_the_plan() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let watcher = Watcher { notify: Arc::new(|_| {}), restarts: Arc::default() };
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
        assert_eq!(backoff.after(RESTARTS.stable_after, false), RESTARTS.soon.first);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.after(Duration::ZERO, true).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}

//! Supervises stages (crash-only): a stage that stops with an error is restarted from its last commit. Repeated errors are
//! reported once. Permanent errors are retried with long pauses, because a user has to remove the cause.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use herd_bus::BusError;
use herd_detector::DetectorError;
use herd_sink::SinkError;
use herd_stage::Stage;

/// Backoff of restarts.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// First pause before a restart; doubled each time, up to `longest`.
    first: Duration,
    longest: Duration,
    /// First pause after a permanent error.
    permanent_first: Duration,
    /// Longest pause after a permanent error: the stage resumes at most this long after the cause is removed.
    permanent_longest: Duration,
    /// Time after which a run counts as stable: pauses and reported errors are reset.
    stable_after: Duration,
}

const PACE: Pace = Pace {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(15),
    permanent_first: Duration::from_secs(5),
    permanent_longest: Duration::from_secs(300),
    stable_after: Duration::from_secs(30),
};

/// Maximum number of remembered error messages per stage.
const MAX_REPORTED: usize = 16;

/// An error that ends a stage.
pub trait StageFailure: Display {
    /// Whether a restart does not help until a user removes the cause.
    fn is_permanent(&self) -> bool;
}

impl StageFailure for SinkError {
    fn is_permanent(&self) -> bool {
        match self {
            Self::Bus { source, .. } => matches!(source, BusError::Refused { .. }),
            Self::Store { source, .. } => source.needs_mending(),
            Self::Secret { .. } | Self::Webhook { .. } => true,
            Self::DeadLetter { .. } | Self::Thread { .. } => false,
        }
    }
}

impl StageFailure for DetectorError {
    fn is_permanent(&self) -> bool {
        matches!(self, Self::Bus(BusError::Refused { .. }))
    }
}

/// Pauses between restarts.
#[derive(Debug)]
struct Backoff {
    pace: Pace,
    transient: Duration,
    permanent: Duration,
}

impl Backoff {
    fn new(pace: Pace) -> Self {
        Self { pace, transient: pace.first, permanent: pace.permanent_first }
    }

    /// The pause after a run that lasted `ran`.
    fn after(&mut self, ran: Duration, permanent: bool) -> Duration {
        let pace = self.pace;
        if ran >= pace.stable_after {
            *self = Self::new(pace);
        }
        let (next, longest) = if permanent {
            (&mut self.permanent, pace.permanent_longest)
        } else {
            (&mut self.transient, pace.longest)
        };
        let pause = *next;
        *next = (pause * 2).min(longest);
        pause
    }
}

/// Receiver of messages, and the number of restarts.
#[derive(Clone)]
pub struct Watcher {
    /// Receives one line per message.
    pub notify: Arc<dyn Fn(&str) + Send + Sync>,
    /// Number of restarts of all stages.
    pub restarts: Arc<AtomicU64>,
}

/// Runs a stage until its shutdown is cancelled, and restarts it if it stops before.
pub async fn supervise<F, W, E>(name: String, stage: Stage, watcher: Watcher, start: F)
where
    F: Fn(Stage) -> W + Send,
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: StageFailure + Send + 'static,
{
    supervise_at(PACE, name, stage, watcher, start).await;
}

async fn supervise_at<F, W, E>(pace: Pace, name: String, stage: Stage, watcher: Watcher, start: F)
where
    F: Fn(Stage) -> W + Send,
    W: Future<Output = Result<(), E>> + Send + 'static,
    E: StageFailure + Send + 'static,
{
    let mut backoff = Backoff::new(pace);
    let mut reported = BTreeSet::new();
    loop {
        let began = Instant::now();
        // A task of its own: a panic does not affect other stages.
        let mut run = tokio::spawn(start(stage.part()));
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = tokio::time::sleep(pace.stable_after) => {
                if !reported.is_empty() {
                    (watcher.notify)(&format!("{name} has recovered"));
                    reported.clear();
                }
                run.await
            }
        };
        let (why, permanent) = match ended {
            Ok(Ok(())) if stage.shutdown.is_cancelled() => return,
            Ok(Ok(())) => ("it ended without an error".to_owned(), false),
            Ok(Err(error)) => (error.to_string(), error.is_permanent()),
            Err(panic) => (format!("it panicked: {panic}"), false),
        };
        if stage.shutdown.is_cancelled() {
            (watcher.notify)(&format!(
                "{name} stopped with an error: {why}; the next start continues from its last commit, so nothing is lost"
            ));
            return;
        }
        let pause = backoff.after(began.elapsed(), permanent);
        watcher.restarts.fetch_add(1, Ordering::Relaxed);
        if reported.len() >= MAX_REPORTED {
            reported.clear();
        }
        if !reported.contains(&why) {
            let seconds = pause.as_secs_f64();
            (watcher.notify)(&if permanent {
                format!(
                    "{name} stopped: {why}; restarts do not help until the cause is removed: next restart in {seconds:.0} s, \
                     then with growing pauses of at most {} minutes",
                    pace.permanent_longest.as_secs() / 60
                )
            } else {
                format!("{name} stopped: {why}; restarting in {seconds:.1} s")
            });
            reported.insert(why);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stage.shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_stage::Secrets;
    use std::sync::Mutex;
    use tokio_util::sync::CancellationToken;

    struct Failed {
        why: &'static str,
        permanent: bool,
    }

    impl Display for Failed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.why)
        }
    }

    impl StageFailure for Failed {
        fn is_permanent(&self) -> bool {
            self.permanent
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
        supervise("sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0 => Err(Failed { why: "no database", permanent: false }),
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
        assert_eq!((starts.load(Ordering::Relaxed), restarts.load(Ordering::Relaxed)), (3, 2));
        let said = said.lock().unwrap();
        assert_eq!(said[0], "sink stopped: no database; restarting in 0.2 s");
        assert!(said[1].contains("a defect"), "{}", said[1]);
    }

    #[tokio::test]
    async fn reports_a_repeated_error_once_and_its_recovery() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            notify: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
            restarts: Arc::default(),
        };
        let (root, counted) = (stage.shutdown.clone(), Arc::clone(&starts));
        let milli = Duration::from_millis(1);
        let pace =
            Pace { first: milli, longest: milli, permanent_first: milli, stable_after: milli * 1000, ..PACE };
        supervise_at(pace, "sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0..5 => Err(Failed { why: "no database", permanent: false }),
                    5..10 => Err(Failed { why: "no table", permanent: true }),
                    _ => {
                        tokio::time::sleep(pace.stable_after + milli * 500).await;
                        root.cancel();
                        part.shutdown.cancelled().await;
                        Ok(())
                    }
                }
            }
        })
        .await;
        let expected = [
            "sink stopped: no database; restarting in 0.0 s",
            "sink stopped: no table; restarts do not help until the cause is removed: next restart in 0 s, then with growing \
             pauses of at most 5 minutes",
            "sink has recovered",
        ];
        assert_eq!(*said.lock().unwrap(), expected);
        assert_eq!(starts.load(Ordering::Relaxed), 11);
    }

    #[test]
    fn backoff_is_bounded_and_reset_after_a_stable_run() {
        let mut backoff = Backoff::new(PACE);
        let pauses: Vec<u128> = (0..9).map(|_| backoff.after(Duration::ZERO, false).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]);
        assert_eq!(backoff.after(PACE.stable_after, false), PACE.first);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.after(Duration::ZERO, true).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}

//! Keeps a stage running: crash-only. A stage that stops with an error is started again from what it has committed. What stays
//! the same is told once; what a person must mend is tried again with long pauses.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use herd_bus::BusError;
use herd_detector::DetectorError;
use herd_sink::SinkError;
use herd_stage::Stage;

/// How a stage is started again.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The first pause before a start; doubled each time up to `longest`.
    first: Duration,
    longest: Duration,
    /// The same where somebody must mend something.
    mending_first: Duration,
    /// So long after it is mended, at the latest, it goes on.
    mending_longest: Duration,
    /// A stage that ran this long is not one that fails at once: the pauses begin anew, and so does what is told.
    steady: Duration,
}

const PACE: Pace = Pace {
    first: Duration::from_millis(200),
    longest: Duration::from_secs(15),
    mending_first: Duration::from_secs(5),
    mending_longest: Duration::from_secs(300),
    steady: Duration::from_secs(30),
};

/// Errors of one stage that are remembered as told.
const TOLD: usize = 16;

/// What ended a stage.
pub trait StageFailure: Display {
    /// Whether it stays so until a person changes something: a restart does not help.
    fn needs_mending(&self) -> bool;
}

impl StageFailure for SinkError {
    fn needs_mending(&self) -> bool {
        match self {
            Self::Bus { source, .. } => matches!(source, BusError::Refused { .. }),
            Self::Store { source, .. } => source.needs_mending(),
            Self::Secret { .. } | Self::Webhook { .. } => true,
            Self::DeadLetter { .. } | Self::Thread { .. } => false,
        }
    }
}

impl StageFailure for DetectorError {
    fn needs_mending(&self) -> bool {
        matches!(self, Self::Bus(BusError::Refused { .. }))
    }
}

/// Pauses between starts.
#[derive(Debug)]
struct Backoff {
    pace: Pace,
    passing: Duration,
    mending: Duration,
}

impl Backoff {
    fn new(pace: Pace) -> Self {
        Self { pace, passing: pace.first, mending: pace.mending_first }
    }

    /// The pause after a run that lasted `ran`.
    fn after(&mut self, ran: Duration, mending: bool) -> Duration {
        let pace = self.pace;
        if ran >= pace.steady {
            *self = Self::new(pace);
        }
        let (next, longest) = if mending {
            (&mut self.mending, pace.mending_longest)
        } else {
            (&mut self.passing, pace.longest)
        };
        let pause = *next;
        *next = (pause * 2).min(longest);
        pause
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
    let mut told = BTreeSet::new();
    loop {
        let began = Instant::now();
        // A task of its own: a panic ends the stage, not the others.
        let mut run = tokio::spawn(start(stage.part()));
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = tokio::time::sleep(pace.steady) => {
                if !told.is_empty() {
                    (watcher.tell)(&format!("{name} runs again"));
                    told.clear();
                }
                run.await
            }
        };
        let (why, mending) = match ended {
            Ok(Ok(())) if stage.shutdown.is_cancelled() => return,
            Ok(Ok(())) => ("it ended by itself".to_owned(), false),
            Ok(Err(error)) => (error.to_string(), error.needs_mending()),
            Err(panic) => (format!("it broke: {panic}"), false),
        };
        if stage.shutdown.is_cancelled() {
            (watcher.tell)(&format!(
                "{name} stopped with an error: {why}; nothing is lost, the next start goes on from its last commit"
            ));
            return;
        }
        let pause = backoff.after(began.elapsed(), mending);
        watcher.restarts.fetch_add(1, Ordering::Relaxed);
        if told.len() >= TOLD {
            told.clear();
        }
        if !told.contains(&why) {
            let seconds = pause.as_secs_f64();
            (watcher.tell)(&if mending {
                format!(
                    "{name} stopped: {why}; this needs mending: it is started again in {seconds:.0} s, then less and \
                     less often, at most {} minutes apart",
                    pace.mending_longest.as_secs() / 60
                )
            } else {
                format!("{name} stopped: {why}; starting it again in {seconds:.1} s")
            });
            told.insert(why);
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
        mending: bool,
    }

    impl Display for Failed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.why)
        }
    }

    impl StageFailure for Failed {
        fn needs_mending(&self) -> bool {
            self.mending
        }
    }

    #[tokio::test]
    async fn a_stage_that_fails_is_started_again_and_one_that_is_stopped_is_not() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            tell: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
            restarts: Arc::default(),
        };
        let (root, counted, restarts) =
            (stage.shutdown.clone(), Arc::clone(&starts), Arc::clone(&watcher.restarts));
        supervise("sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0 => Err(Failed { why: "no database", mending: false }),
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
        assert_eq!(said[0], "sink stopped: no database; starting it again in 0.2 s");
        assert!(said[1].contains("a defect"), "{}", said[1]);
    }

    #[tokio::test]
    async fn what_stays_the_same_is_told_once_and_that_it_is_over_too() {
        let stage = Stage::new(CancellationToken::new(), Secrets::default());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (listener, starts) = (Arc::clone(&said), Arc::new(AtomicU64::new(0)));
        let watcher = Watcher {
            tell: Arc::new(move |line| listener.lock().unwrap().push(line.to_owned())),
            restarts: Arc::default(),
        };
        let (root, counted) = (stage.shutdown.clone(), Arc::clone(&starts));
        let milli = Duration::from_millis(1);
        let pace = Pace { first: milli, longest: milli, mending_first: milli, steady: milli * 1000, ..PACE };
        supervise_at(pace, "sink".into(), stage, watcher, move |part| {
            let (root, number) = (root.clone(), counted.fetch_add(1, Ordering::Relaxed));
            async move {
                match number {
                    0..5 => Err(Failed { why: "no database", mending: false }),
                    5..10 => Err(Failed { why: "no table", mending: true }),
                    _ => {
                        tokio::time::sleep(pace.steady + milli * 500).await;
                        root.cancel();
                        part.shutdown.cancelled().await;
                        Ok(())
                    }
                }
            }
        })
        .await;
        let expected = [
            "sink stopped: no database; starting it again in 0.0 s",
            "sink stopped: no table; this needs mending: it is started again in 0 s, then less and less often, at most \
             5 minutes apart",
            "sink runs again",
        ];
        assert_eq!(*said.lock().unwrap(), expected);
        assert_eq!(starts.load(Ordering::Relaxed), 11);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_steady_run() {
        let mut backoff = Backoff::new(PACE);
        let pauses: Vec<u128> = (0..9).map(|_| backoff.after(Duration::ZERO, false).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]);
        assert_eq!(backoff.after(PACE.steady, false), PACE.first);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.after(Duration::ZERO, true).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    }
}

//! Keeps a stage running: crash-only. A stage that stops with an error is started again from what it has committed.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use herd_stage::Stage;

/// The first pause before a start; doubled each time up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15);
/// A stage that ran this long is not one that fails at once: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(30);

/// Pauses between starts.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    /// The pause after a run that lasted `ran`.
    fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.0 = FIRST;
        }
        let pause = self.0;
        self.0 = (self.0 * 2).min(LONGEST);
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
    E: Display + Send + 'static,
{
    let mut backoff = Backoff(FIRST);
    loop {
        let began = Instant::now();
        // A task of its own: a panic ends the stage, not the others.
        let ended = tokio::spawn(start(stage.part())).await;
        let why = match ended {
            Ok(Ok(())) if stage.shutdown.is_cancelled() => return,
            Ok(Ok(())) => "it ended by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("it broke: {panic}"),
        };
        if stage.shutdown.is_cancelled() {
            (watcher.tell)(&format!(
                "{name} stopped with an error: {why}; nothing is lost, the next start goes on from its last commit"
            ));
            return;
        }
        let pause = backoff.after(began.elapsed());
        watcher.restarts.fetch_add(1, Ordering::Relaxed);
        (watcher.tell)(&format!("{name} stopped: {why}; starting it again in {:.1} s", pause.as_secs_f64()));
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
                    0 => Err("no database"),
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

    #[test]
    fn pauses_grow_to_a_bound_and_begin_anew_after_a_steady_run() {
        let mut backoff = Backoff(FIRST);
        let pauses: Vec<u128> = (0..9).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]);
        assert_eq!(backoff.after(STEADY), FIRST);
    }
}

//! A part of a stage on a thread of its own.

use std::pin::Pin;

use crate::{Stage, StageError};

/// How a thread ends.
pub type Ended<E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send>>;

/// Runs `body` on a thread of that name. Its health is reported as `condition`, and however it ends, the whole of `stage` is told to
/// stop. `broken` makes an error of a thread that cannot be started, or panics.
///
/// # Errors
/// If the thread cannot be started; the future gives what `body` returns.
///
/// # Panics
/// Outside of a Tokio runtime.
pub fn spawn<E: StageError + Send + 'static>(
    name: String,
    condition: &'static str,
    stage: &Stage,
    broken: impl Fn(String) -> E + Send + 'static,
    body: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<Ended<E>, E> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let guard = stage.shutdown.clone().drop_guard();
    let health = stage.health.clone();
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        let _guard = guard;
        // Timeouts are made on this thread, and need to know whose clock they go by.
        let _runtime = runtime.enter();
        health.ok(condition);
        let outcome = body();
        if let Err(error) = &outcome {
            health.fail(condition, error.trouble(), error.to_string());
            tracing::error!(part = condition, %error, "stopped");
        }
        // The receiver is gone only where nobody wants to know any more.
        let _ = done.send(outcome);
    };
    if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
        return Err(broken(format!("could not be started: {error}")));
    }
    Ok(Box::pin(async move { ended.await.unwrap_or_else(|_| Err(broken("panicked".into()))) }))
}

//! The past, from the store. The api stands also while the database does not: it opens the store as soon as that answers, watches
//! it, and answers within a second whether there is an answer of the store or not.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use herd_spec::health::Trouble;
use herd_stage::Health;
use herd_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;

/// How long opening may take.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);
/// The shortest and the longest pause before the store is opened again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// How often the store is asked whether it answers, and how long it may take.
const PING: Duration = Duration::from_millis(500);
const PING_PATIENCE: Duration = Duration::from_millis(400);
/// So many failures in a row are reported. Questions are given up at the first.
const FAILURES: u32 = 3;
/// A question to a store that does not answer pings is given up after this.
const PATIENCE_UNWELL: Duration = Duration::from_millis(800);
/// A question to one that does: some read all users.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: &str = "store";

type Opening = Pin<Box<dyn Future<Output = Result<Store, StoreError>> + Send>>;

/// How the store is opened, whenever that is tried.
#[derive(Clone)]
pub struct StoreSource(Arc<dyn Fn() -> Opening + Send + Sync>);

impl StoreSource {
    /// A store that `open` opens.
    pub fn new<F>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Store, StoreError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(open())))
    }
}

impl From<Store> for StoreSource {
    fn from(store: Store) -> Self {
        Self::new(move || std::future::ready(Ok(store.clone())))
    }
}

impl fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSource")
    }
}

/// The store, once it is open, and how it is.
#[derive(Debug)]
pub(crate) struct History {
    source: StoreSource,
    store: OnceLock<Store>,
    /// Why it does not answer; none: it does.
    unwell: watch::Sender<Option<String>>,
}

impl History {
    pub(crate) fn new(source: StoreSource, health: &Health) -> Self {
        health.starting(STEP, "the store is being opened");
        let unwell = watch::Sender::new(Some("it has not been opened yet".to_owned()));
        Self { source, store: OnceLock::new(), unwell }
    }

    /// The store.
    ///
    /// # Errors
    /// 503 while it could not be opened.
    pub(crate) fn store(&self) -> Result<&Store, Problem> {
        self.store.get().ok_or_else(|| self.problem())
    }

    /// What the store answers.
    ///
    /// # Errors
    /// 503 if it does not, 400 if the question makes no sense to it.
    pub(crate) async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let mut unwell = self.unwell.subscribe();
        let given_up = async {
            tokio::time::sleep(PATIENCE_UNWELL).await;
            // The sender is ours, so that this ends with a reason or not at all.
            let _ = unwell.wait_for(Option::is_some).await;
        };
        tokio::select! {
            answer = question => answer.map_err(Problem::from),
            () = given_up => Err(self.problem()),
            () = tokio::time::sleep(PATIENCE) => Err(Problem::store_away(&format!("no answer in {PATIENCE:?}"))),
        }
    }

    fn problem(&self) -> Problem {
        Problem::store_away(self.unwell.borrow().as_deref().unwrap_or("no answer in time"))
    }

    /// Opens the store and watches it, until `shutdown`.
    pub(crate) async fn keep(self: Arc<Self>, health: Health, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async {
                let store = self.open(&health).await;
                self.watch(&store, &health).await;
            } => {}
        }
    }

    async fn open(&self, health: &Health) -> Store {
        let mut pause = PAUSES.0;
        loop {
            let opened = tokio::time::timeout(OPEN_PATIENCE, (self.source.0)());
            let (reason, why) = match opened.await {
                Ok(Ok(store)) => {
                    // Nobody else opens it.
                    let _ = self.store.set(store.clone());
                    self.well(health);
                    return store;
                }
                Ok(Err(error)) => (error.trouble(), error.to_string()),
                Err(_) => (Trouble::DatabaseUnreachable, format!("no answer in {OPEN_PATIENCE:?}")),
            };
            tracing::warn!(%reason, why, "the store cannot be opened; the api serves what it has without it");
            health.fail(STEP, reason, why.clone());
            self.unwell.send_replace(Some(why));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn watch(&self, store: &Store, health: &Health) {
        let mut tick = tokio::time::interval(PING);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            tick.tick().await;
            let (reason, why) = match tokio::time::timeout(PING_PATIENCE, store.ping()).await {
                Ok(Ok(())) => {
                    failures = 0;
                    self.well(health);
                    continue;
                }
                Ok(Err(error)) => (error.trouble(), error.to_string()),
                Err(_) => (Trouble::DatabaseUnreachable, format!("no answer in {PING_PATIENCE:?}")),
            };
            self.unwell.send_replace(Some(why.clone()));
            failures += 1;
            if failures >= FAILURES {
                health.fail(STEP, reason, why);
            }
        }
    }

    fn well(&self, health: &Health) {
        self.unwell.send_if_modified(|why| why.take().is_some());
        health.ok(STEP);
    }
}

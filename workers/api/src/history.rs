//! History from the store. The api also runs while the database is unavailable: it opens the store as soon as possible, checks its
//! health, and answers within a second even if the store does not respond.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use herd_spec::health::Trouble;
use herd_stage::{Health, Problem};
use herd_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::problem::{of_store_error, store_unavailable};

/// Timeout for opening the store.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Initial and maximum backoff between attempts to open the store.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Interval of health checks of the store.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Timeout of a health check.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_millis(400);
/// Number of consecutive failures after which the store is reported as unhealthy. Queries fail fast from the first one on.
const REPORTED_AFTER: u32 = 3;
/// Timeout of queries while health checks fail.
const UNHEALTHY_QUERY_TIMEOUT: Duration = Duration::from_millis(800);
/// Timeout of queries. Some read all users.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
const STEP: &str = "store";

type Opening = Pin<Box<dyn Future<Output = Result<Store, StoreError>> + Send>>;

/// Opens the store, as often as necessary.
#[derive(Clone)]
pub struct StoreSource(Arc<dyn Fn() -> Opening + Send + Sync>);

impl StoreSource {
    /// A source that opens the store with `open`.
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

/// The store, once it is open, and its health.
#[derive(Debug)]
pub(crate) struct History {
    source: StoreSource,
    store: OnceLock<Store>,
    /// The error of the last health check; `None` if the store is healthy.
    unhealthy: watch::Sender<Option<String>>,
}

impl History {
    pub(crate) fn new(source: StoreSource, health: &Health) -> Self {
        health.starting(STEP, "the store is being opened");
        let unhealthy = watch::Sender::new(Some("it is not open yet".to_owned()));
        Self { source, store: OnceLock::new(), unhealthy }
    }

    /// The store.
    ///
    /// # Errors
    /// 503 while it is not open.
    pub(crate) fn store(&self) -> Result<&Store, Problem> {
        self.store.get().ok_or_else(|| self.problem())
    }

    /// Runs a query, with a timeout.
    ///
    /// # Errors
    /// 503 if the store is unavailable, 400 if it refuses the query.
    pub(crate) async fn query<T>(
        &self,
        query: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Problem> {
        let mut unhealthy = self.unhealthy.subscribe();
        let fail_fast = async {
            tokio::time::sleep(UNHEALTHY_QUERY_TIMEOUT).await;
            // The sender is owned by `self`, so the wait cannot fail.
            let _ = unhealthy.wait_for(Option::is_some).await;
        };
        tokio::select! {
            result = query => result.map_err(|error| of_store_error(&error)),
            () = fail_fast => Err(self.problem()),
            () = tokio::time::sleep(QUERY_TIMEOUT) => Err(store_unavailable(&format!("no response within {QUERY_TIMEOUT:?}"))),
        }
    }

    fn problem(&self) -> Problem {
        store_unavailable(self.unhealthy.borrow().as_deref().unwrap_or("no response in time"))
    }

    /// Opens the store and checks its health, until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, health: Health, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = async {
                let store = self.open(&health).await;
                self.watch(&store, &health).await;
            } => {}
        }
    }

    async fn open(&self, health: &Health) -> Store {
        let mut backoff = BACKOFF.0;
        loop {
            let opened = tokio::time::timeout(OPEN_TIMEOUT, (self.source.0)());
            let (reason, why) = match opened.await {
                Ok(Ok(store)) => {
                    // Only this task opens it.
                    let _ = self.store.set(store.clone());
                    self.mark_healthy(health);
                    return store;
                }
                Ok(Err(error)) => (error.trouble(), error.to_string()),
                Err(_) => (Trouble::DatabaseUnreachable, format!("no response within {OPEN_TIMEOUT:?}")),
            };
            tracing::warn!(%reason, why, "cannot open the store; the api serves live data only");
            health.fail(STEP, reason, why.clone());
            self.unhealthy.send_replace(Some(why));
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    async fn watch(&self, store: &Store, health: &Health) {
        let mut tick = tokio::time::interval(HEALTH_CHECK_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failures = 0;
        loop {
            tick.tick().await;
            let (reason, why) = match tokio::time::timeout(HEALTH_CHECK_TIMEOUT, store.ping()).await {
                Ok(Ok(())) => {
                    failures = 0;
                    self.mark_healthy(health);
                    continue;
                }
                Ok(Err(error)) => (error.trouble(), error.to_string()),
                Err(_) => {
                    (Trouble::DatabaseUnreachable, format!("no response within {HEALTH_CHECK_TIMEOUT:?}"))
                }
            };
            self.unhealthy.send_replace(Some(why.clone()));
            failures += 1;
            if failures >= REPORTED_AFTER {
                health.fail(STEP, reason, why);
            }
        }
    }

    fn mark_healthy(&self, health: &Health) {
        self.unhealthy.send_if_modified(|why| why.take().is_some());
        health.ok(STEP);
    }
}

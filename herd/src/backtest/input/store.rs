//! Events of the table `user_events`.

use std::path::{Path, PathBuf};

use herd_spec::plan::{Plan, StorePlan};
use herd_spec::units::EventTime;
use herd_stage::Secrets;
use herd_store::{EventTimes, JudgedAlert, Store, StoreError, StoreLocation, StoredEvent};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;

use super::{Events, InputError, InputEvent, Opened};
use crate::backtest::time::TimeRange;

/// Batches of 1,024 events that are read ahead.
const AHEAD: usize = 4;
/// Alerts with feedback that are compared at most, the newest first.
const MAX_JUDGED: u32 = 100_000;

/// The tables of a sink.
pub(crate) struct StoreInput {
    store: Store,
}

impl StoreInput {
    /// The tables at `url`, a URL of PostgreSQL or the path of an SQLite file; without one, those of the first sink of `plan` that
    /// has tables, or of the sink that its api reads. `data` is the data directory of `herd up`.
    ///
    /// # Errors
    /// If there is no such sink, or its address cannot be read.
    pub(crate) fn new(
        plan: &Plan,
        url: Option<&str>,
        secrets: &Secrets,
        data: &Path,
    ) -> Result<Self, InputError> {
        let planned = plan.store().or_else(|| plan.sinks.iter().find_map(|sink| sink.store()));
        let location = match (url, planned) {
            (Some(url), planned) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                let schema = match planned {
                    Some(StorePlan::Postgres { schema, .. }) => schema.clone(),
                    _ => StorePlan::default_schema(plan.pipeline.as_str()),
                };
                StoreLocation::Postgres { url: url.to_owned(), schema }
            }
            (Some(path), _) => StoreLocation::Sqlite(PathBuf::from(path)),
            (None, Some(planned)) => StoreLocation::resolve(planned, data, |secret| {
                secrets.read(secret).map(|secret| secret.reveal().to_owned())
            })?,
            (None, None) => return Err(InputError::NoStore { pipeline: plan.pipeline.to_string() }),
        };
        // Pools of connections belong to the runtime.
        let _runtime = Handle::current().enter();
        Ok(Self { store: Store::open_to_read(&location)? })
    }

    /// Opens it.
    ///
    /// # Errors
    /// If the database is unavailable or has no such tables.
    pub(super) fn open(&self, range: &TimeRange) -> Result<Opened, InputError> {
        let runtime = Handle::current();
        let store = self.store.clone();
        let (partitions, total) = runtime.block_on(async {
            let total = if range.is_all() { Some(store.counts().await?.events.unsigned_abs()) } else { None };
            Ok::<_, StoreError>((store.event_partitions().await?, total))
        })?;
        let (from, until) = (range.from(), range.until);
        let (sender, batches) = mpsc::channel(AHEAD);
        let task = runtime.spawn(async move { store.replay(from, until, &sender).await });
        let events =
            StoredEvents { runtime, batches, task: Some(task), batch: Vec::new().into_iter(), event: None };
        Ok(Opened { events: Box::new(events), partitions, total, has_expired: false })
    }

    /// The times of all events.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub(crate) fn times(&self) -> Result<Option<EventTimes>, InputError> {
        Ok(Handle::current().block_on(self.store.event_times())?)
    }

    /// The alerts of this time of which somebody said whether they were useful.
    ///
    /// # Errors
    /// If the database is unavailable.
    pub(crate) fn judged(&self, first: EventTime, last: EventTime) -> Result<Vec<JudgedAlert>, InputError> {
        let judged =
            self.store.judged_alerts(Some(first), Some(EventTime(last.0.saturating_add(1))), MAX_JUDGED);
        Ok(Handle::current().block_on(judged)?)
    }
}

struct StoredEvents {
    runtime: Handle,
    batches: Receiver<Vec<StoredEvent>>,
    task: Option<JoinHandle<Result<(), StoreError>>>,
    batch: std::vec::IntoIter<StoredEvent>,
    event: Option<StoredEvent>,
}

impl Events for StoredEvents {
    fn next_event(&mut self) -> Option<Result<InputEvent<'_>, InputError>> {
        let next = match self.batch.next() {
            Some(event) => Some(event),
            None => match self.batches.blocking_recv() {
                Some(batch) => {
                    self.batch = batch.into_iter();
                    self.batch.next()
                }
                None => None,
            },
        };
        let Some(event) = next else {
            return match self.runtime.block_on(self.task.take()?) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Err(error.into())),
                Err(_) => Some(Err(InputError::Ended)),
            };
        };
        let stored = self.event.insert(event);
        let event = stored.event().map(|event| InputEvent::Accepted { partition: stored.partition, event });
        Some(event.map_err(InputError::from))
    }
}

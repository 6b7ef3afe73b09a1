//! Database sinks: three table sinks, each with a consumer, a writer and a thread of its own.
//!
//! What time heals (a server that restarts) a table sink waits for with short pauses. What a person must mend (a table that was
//! dropped, a wrong password) is told once, in the words of whoever is to mend it, and tried again with long pauses; the
//! other tables go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use herd_bus::Bus;
use herd_spec::pipeline::SecretRef;
use herd_spec::plan::{SinkName, StorePlan, TopicPlan};
use herd_stage::backoff::{Pace, Pauses};
use herd_stage::{Stage, StageError, SystemClock};
use herd_store::{Store, StoreError, StoreLocation, Table};
use tokio::runtime::Handle;

use crate::conditions::condition;
use crate::table::{Limits, TableSink, TableSinkSetup};
use crate::{SinkContext, SinkError, spawn};

/// How often a database is asked whether it answers, and how long it may take.
const WATCH: Duration = Duration::from_secs(4);
/// How long opening the store may take.
const OPENING: Duration = Duration::from_secs(60);
/// SQLite commits cheaply, and a reader should see things soon.
const SQLITE: Limits = Limits { rows: 5_000, max_wait: Duration::from_millis(200) };

pub(crate) async fn run<B: Bus>(
    context: &SinkContext<'_, B>,
    store: &StorePlan,
    data: &Path,
) -> Result<(), SinkError> {
    let SinkContext { plan, sink, bus, stage, member } = context;
    let limits = match store {
        StorePlan::Postgres { batch_rows, batch_wait, .. } => {
            Limits { rows: *batch_rows as usize, max_wait: *batch_wait }
        }
        StorePlan::Sqlite { .. } => SQLITE,
    };
    let opener = Arc::new(Opener {
        sink: sink.name.clone(),
        store: store.clone(),
        stage: stage.clone(),
        data: data.to_owned(),
    });
    let Some(store) = open(&opener).await? else { return Ok(()) };
    let tables: [(&TopicPlan, Table, &'static str); 3] = [
        (&plan.topics.events, Table::UserEvents, "events"),
        (&plan.topics.windows, Table::Windows, "windows"),
        (&plan.topics.alerts, Table::Alerts, "alerts"),
    ];
    let mut threads = Vec::with_capacity(tables.len());
    for (topic, table, part) in tables {
        let condition = condition(&sink.name, part);
        let setup = TableSinkSetup {
            sink: sink.name.to_string(),
            topic: topic.name.clone(),
            dead_letter: plan.topics.dead_letter.name.clone(),
            table,
            group: sink.group.clone(),
            // Unique in the group, which all three share.
            member: format!("{member}.{part}"),
            limits,
            condition,
            stage: stage.clone(),
            runtime: Handle::current(),
        };
        let (bus, store, opener) = (bus.clone(), store.clone(), opener.clone());
        threads.push(spawn(&sink.name, part, condition, stage, move || keep(&setup, &bus, store, &opener))?);
    }
    let watched = tokio::spawn(watch(store, stage.clone(), condition(&sink.name, "database")));
    let mut outcome = Ok(());
    for thread in threads {
        outcome = outcome.and(thread.await);
    }
    watched.abort();
    outcome
}

/// Runs a table sink; again and again where the tables need mending.
fn keep<B: Bus>(setup: &TableSinkSetup, bus: &B, mut store: Store, opener: &Opener) -> Result<(), SinkError> {
    let mut outage = Outage::new();
    loop {
        let mut member = TableSink::join(setup.clone(), bus, store.writer(), SystemClock, outage.goes_on())?;
        let ended = member.run(&setup.stage.shutdown);
        if member.processor().has_stored() {
            outage = Outage::new();
        }
        let mut error = match ended {
            Ok(()) => return member.finish(),
            Err(SinkError::Store { source, .. }) if source.needs_mending() => source,
            Err(error) => return Err(error),
        };
        // It leaves the group, and what it had not stored comes again.
        drop(member);
        store = loop {
            let pause = outage.pause_after(&error);
            outage.tell(&setup.sink, &setup.topic, &error);
            setup.stage.health.fail(setup.condition, error.trouble(), error.to_string());
            let stopped = tokio::time::timeout(pause, setup.stage.shutdown.cancelled());
            if setup.runtime.block_on(stopped).is_ok() {
                return Ok(());
            }
            // Opened anew: tables that are gone altogether are made again.
            match setup.runtime.block_on(opener.attempt()) {
                Ok(store) => break store,
                Err(SinkError::Store { source, .. }) => error = source,
                Err(error) => return Err(error),
            }
        };
    }
}

/// A time in which the database does not do what it is asked.
#[derive(Debug)]
struct Outage {
    passing: Pauses,
    mending: Pauses,
    told: Option<String>,
}

impl Outage {
    fn new() -> Self {
        Self { passing: Pace::STORE.pauses(), mending: Pace::MENDING.pauses(), told: None }
    }

    fn goes_on(&self) -> bool {
        self.told.is_some()
    }

    fn pause_after(&mut self, error: &StoreError) -> Duration {
        if error.needs_mending() { self.mending.next() } else { self.passing.next() }
    }

    /// Whether nobody was told of this yet; from now on it is known.
    fn is_news(&mut self, error: &StoreError) -> bool {
        let words = error.to_string();
        let news = self.told.as_ref() != Some(&words);
        self.told = Some(words);
        news
    }

    /// Tells a person, unless that is known.
    fn tell(&mut self, sink: &str, of: &str, error: &StoreError) {
        if !self.is_news(error) {
            tracing::debug!(sink, of, %error, "still");
        } else if error.needs_mending() {
            let most = Pace::MENDING.longest.as_secs() / 60;
            tracing::error!(
                sink,
                of,
                %error,
                "the sink cannot store records until the cause is removed; it retries with growing pauses of at most {most} \
                 minutes and then continues from the stored position"
            );
        } else {
            tracing::warn!(sink, of, %error, "the database is away");
        }
    }
}

/// Says whether the database answers, also while there is nothing to write: until then nobody would know.
async fn watch(store: Store, stage: Stage, condition: &'static str) {
    loop {
        tokio::time::sleep(WATCH).await;
        let asked = tokio::time::timeout(WATCH, store.ping()).await.unwrap_or_else(|_| {
            let why = format!("no answer in {} s", WATCH.as_secs());
            Err(StoreError::Unavailable { doing: "health check of the database", why })
        });
        match asked {
            Ok(()) => stage.health.ok(condition),
            Err(error) => stage.health.fail(condition, error.trouble(), error.to_string()),
        }
    }
}

/// Opens the store, and waits for a database that does not answer or does not let us in yet. None: told to stop before that.
async fn open(opener: &Opener) -> Result<Option<Store>, SinkError> {
    let (sink, stage) = (&opener.sink, &opener.stage);
    let condition = condition(sink, "store");
    let mut outage = Outage::new();
    loop {
        let error = match opener.attempt().await {
            Ok(store) => {
                stage.health.ok(condition);
                return Ok(Some(store));
            }
            Err(SinkError::Store { source, .. }) => source,
            Err(error) => {
                stage.health.fail(condition, error.trouble(), error.to_string());
                return Err(error);
            }
        };
        outage.tell(sink, "store", &error);
        stage.health.fail(condition, error.trouble(), error.to_string());
        tokio::select! {
            () = tokio::time::sleep(outage.pause_after(&error)) => {}
            () = stage.shutdown.cancelled() => return Ok(None),
        }
    }
}

/// Opens the store of a sink, each time by the Secret as it is then.
struct Opener {
    sink: SinkName,
    store: StorePlan,
    stage: Stage,
    data: PathBuf,
}

impl Opener {
    async fn attempt(&self) -> Result<Store, SinkError> {
        let sink = || self.sink.to_string();
        let read = |secret: &SecretRef| self.stage.secrets.read(secret).map(|url| url.reveal().to_owned());
        let location = StoreLocation::resolve(&self.store, &self.data, read)
            .map_err(|source| SinkError::Secret { sink: sink(), source })?;
        let opened = tokio::time::timeout(OPENING, Store::open(&location)).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable { doing: "opening the store", why: "no answer in 60 s".into() })
        });
        opened.map_err(|source| SinkError::Store { sink: sink(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use herd_store::{Fault, Place};

    #[test]
    fn reports_an_outage_once_and_backs_off_to_minutes() {
        let dropped = |table: &str| StoreError::Refused {
            doing: "storing a batch",
            fault: Fault::TableMissing,
            place: Place::Schema("shop".into()),
            why: format!("relation \"{table}\" does not exist"),
        };
        let away = StoreError::Unavailable { doing: "storing a batch", why: "no answer".into() };
        let mut outage = Outage::new();
        assert!(!outage.goes_on());
        let said = [dropped("windows"), dropped("windows"), away, dropped("windows"), dropped("alerts")];
        assert_eq!(said.map(|error| outage.is_news(&error)), [true, false, true, true, true]);
        assert!(outage.goes_on());
        let pauses: Vec<Duration> = (0..9).map(|_| outage.pause_after(&dropped("windows"))).collect();
        assert!(pauses[0] >= Duration::from_secs(5) && pauses[8] >= Duration::from_secs(300), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(600)), "{pauses:?}");
    }
}

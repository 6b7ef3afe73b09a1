//! Database sinks: three feeds, each with a consumer, a writer and a thread of its own.

use std::path::Path;
use std::time::Duration;

use herd_bus::Bus;
use herd_spec::plan::{Plan, SinkKind, SinkPlan, TopicPlan};
use herd_stage::{Stage, SystemClock};
use herd_store::{Store, StoreError, Table};
use tokio::runtime::Handle;

use crate::backoff::Pace;
use crate::conditions::condition;
use crate::feed::Feed;
use crate::{SinkError, spawn};

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// With so many rows.
    pub rows: usize,
    /// So long after its first record came.
    pub wait: Duration,
}

/// What a feed is about.
pub struct FeedSetup {
    /// The sink's name.
    pub sink: String,
    /// The topic it reads.
    pub topic: String,
    /// Where refused records go.
    pub dead_letter: String,
    /// The table it fills.
    pub table: Table,
    /// Its group.
    pub group: String,
    /// Its name in the group.
    pub member: String,
    /// When a batch is full.
    pub limits: Limits,
    /// What its readiness is called.
    pub condition: &'static str,
    /// Its surroundings.
    pub stage: Stage,
    /// Where the store's futures run.
    pub runtime: Handle,
}

/// How often a database is asked whether it answers, and how long it may take.
const WATCH: Duration = Duration::from_secs(4);
/// SQLite commits cheaply, and a reader should see things soon.
const SQLITE: Limits = Limits { rows: 5_000, wait: Duration::from_millis(200) };

pub(crate) async fn run<B: Bus>(
    plan: &Plan,
    sink: &SinkPlan,
    bus: B,
    stage: &Stage,
    data: &Path,
    member: &str,
) -> Result<(), SinkError> {
    let limits = match &sink.kind {
        SinkKind::Postgres { batch_rows, batch_wait, .. } => {
            Limits { rows: *batch_rows as usize, wait: *batch_wait }
        }
        _ => SQLITE,
    };
    let Some(store) = open(sink, stage, data).await? else { return Ok(()) };
    let feeds: [(&TopicPlan, Table, &'static str); 3] = [
        (&plan.topics.events, Table::UserEvents, "events"),
        (&plan.topics.windows, Table::Windows, "windows"),
        (&plan.topics.alerts, Table::Alerts, "alerts"),
    ];
    let mut threads = Vec::with_capacity(feeds.len());
    for (topic, table, part) in feeds {
        let condition = condition(&sink.name, part);
        let setup = FeedSetup {
            sink: sink.name.clone(),
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
        let (bus, store) = (bus.clone(), store.clone());
        threads.push(spawn(&sink.name, part, condition, stage, move || {
            Feed::join(setup, &bus, store.writer(), SystemClock)?.run()
        })?);
    }
    let watched = tokio::spawn(watch(store, stage.clone(), condition(&sink.name, "store")));
    let mut outcome = Ok(());
    for thread in threads {
        outcome = outcome.and(thread.await);
    }
    watched.abort();
    outcome
}

/// Says whether the database answers, also while there is nothing to write: until then nobody would know.
async fn watch(store: Store, stage: Stage, condition: &'static str) {
    loop {
        tokio::time::sleep(WATCH).await;
        let asked = tokio::time::timeout(WATCH, store.ping()).await.unwrap_or_else(|_| {
            let why = format!("no answer in {} s", WATCH.as_secs());
            Err(StoreError::Unavailable { doing: "asking the database whether it answers", why })
        });
        match asked {
            Ok(()) => stage.health.ok(condition),
            Err(error) => stage.health.fail(condition, error.trouble(), error.to_string()),
        }
    }
}

/// Opens the store, and waits for a database that does not answer yet, or is not there. None: told to stop before that.
async fn open(sink: &SinkPlan, stage: &Stage, data: &Path) -> Result<Option<Store>, SinkError> {
    let condition = condition(&sink.name, "store");
    let mut pauses = Pace::STORE.pauses();
    loop {
        let error = match attempt(sink, stage, data).await {
            Ok(store) => {
                stage.health.ok(condition);
                return Ok(Some(store));
            }
            // A database that is missing, or a right in it, may be given later: that is waited for too, in view of everybody.
            Err(SinkError::Store { source, .. }) => source,
            Err(error) => {
                stage.health.fail(condition, error.trouble(), error.to_string());
                return Err(error);
            }
        };
        tracing::warn!(sink = sink.name, %error, "the database cannot be used yet");
        stage.health.fail(condition, error.trouble(), error.to_string());
        tokio::select! {
            () = tokio::time::sleep(pauses.next()) => {}
            () = stage.shutdown.cancelled() => return Ok(None),
        }
    }
}

async fn attempt(sink: &SinkPlan, stage: &Stage, data: &Path) -> Result<Store, SinkError> {
    let opened = match &sink.kind {
        SinkKind::Postgres { url, schema, .. } => {
            let url = stage
                .secrets
                .read(url)
                .map_err(|source| SinkError::Secret { sink: sink.name.clone(), source })?;
            let connecting = Store::postgres(url.reveal(), schema);
            tokio::time::timeout(Duration::from_secs(60), connecting).await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable { doing: "opening PostgreSQL", why: "no answer in 60 s".into() })
            })
        }
        SinkKind::Sqlite { path } => Store::sqlite(&data.join(path)).await,
        SinkKind::Webhook { .. } => unreachable!("run() gives webhooks to another room"),
    };
    opened.map_err(|source| SinkError::Store { sink: sink.name.clone(), source })
}

//! The webhook sink: alerts to an HTTP endpoint, one message when an alert is raised and one when it ends.
//!
//! A thread drives the consumer; messages go out from tasks, a few at a time, those of one alert in order. While they do,
//! the consumer is held but stays a member of its group, however slow the endpoint is. The position is committed after
//! the last message of a batch was taken or given up, so each is sent at least once.

mod format;
mod notified;
mod post;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use herd_bus::{Acks, Bus, BusError, Change, Commit, Consumer, Membership, SendError};
use herd_spec::pipeline::WebhookFormat;
use herd_spec::plan::{Plan, SinkPlan, WebhookPlan, WebhookUrl};
use herd_spec::units::{Offset, Partition, WallTime};
use herd_spec::wire::{Alert, AlertId, Severity};
use herd_stage::{Stage, SystemClock, Waiting};
use reqwest::Url;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use self::notified::{Notified, Told};
use self::post::{Post, Undelivered};
use crate::backoff::{Pace, Pauses};
use crate::conditions::condition;
use crate::dead_letter::{DeadLetters, Letter, Refusal};
use crate::metrics::{SinkLabels, SinkMetrics};
use crate::{SinkError, spawn};

/// Records taken at once.
const BATCH: usize = 64;
/// Messages under way at once.
const AT_ONCE: usize = 8;
/// How soon the end of a delivery, or a request to stop, is noticed.
const STEP: Duration = Duration::from_millis(50);
/// How long messages under way may take after a request to stop.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) async fn run<B: Bus>(
    plan: &Plan,
    sink: &SinkPlan,
    webhook: &WebhookPlan,
    bus: B,
    stage: &Stage,
    member: &str,
) -> Result<(), SinkError> {
    let condition = condition(&sink.name, "webhook");
    let (post, min_severity) = post(&sink.name, webhook, stage, condition, Pace::ENDPOINT)?;
    let setup = Setup {
        sink: sink.name.to_string(),
        group: sink.group.clone(),
        member: member.to_owned(),
        topic: plan.topics.alerts.name.clone(),
        dead_letter: plan.topics.dead_letter.name.clone(),
        min_severity,
        stage: stage.clone(),
        runtime: Handle::current(),
    };
    let body = move || Courier::join(setup, &bus, post)?.run();
    spawn(&sink.name, "webhook", condition, stage, body)?.await
}

/// What will post, and the least severity it posts.
fn post(
    sink: &str,
    webhook: &WebhookPlan,
    stage: &Stage,
    condition: &'static str,
    pace: Pace,
) -> Result<(Post<SystemClock>, Severity), SinkError> {
    let WebhookPlan { url, format, signing_key, min_severity, timeout, attempts } = webhook;
    let secret = |reference| {
        stage.secrets.read(reference).map_err(|source| SinkError::Secret { sink: sink.to_owned(), source })
    };
    let unusable = |why: String| SinkError::Webhook { sink: sink.to_owned(), why };
    let written = match url {
        WebhookUrl::Plain(url) => url.clone(),
        WebhookUrl::Secret(reference) => secret(reference)?.reveal().trim().to_owned(),
    };
    // Not even the parser's words: they may quote the secret.
    let url = Url::parse(&written)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| unusable("its address is not of the form https://host/path".into()))?;
    let client = reqwest::Client::builder()
        .user_agent(concat!("herd/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| unusable(format!("the HTTP client cannot be set up: {error}")))?;
    let post = Post {
        sink: sink.to_owned(),
        client,
        url: alerts_path(url, *format),
        format: *format,
        signing_key: signing_key.as_ref().map(secret).transpose()?,
        timeout: *timeout,
        attempts: (*attempts).max(1),
        pace,
        mending: Pace::MENDING,
        told: Mutex::new(None),
        clock: SystemClock,
        health: stage.health.clone(),
        condition,
        metrics: SinkMetrics::of(stage),
    };
    Ok((post, *min_severity))
}

/// Alertmanager's address may be given with or without the path of its API.
fn alerts_path(mut url: Url, format: WebhookFormat) -> Url {
    let path = url.path().trim_end_matches('/').to_owned();
    if format == WebhookFormat::Alertmanager && !path.ends_with("/api/v2/alerts") {
        url.set_path(&format!("{path}/api/v2/alerts"));
    }
    url
}

struct Setup {
    sink: String,
    group: String,
    member: String,
    topic: String,
    dead_letter: String,
    min_severity: Severity,
    stage: Stage,
    runtime: Handle,
}

/// A record, until what it says is told.
struct Item {
    partition: Partition,
    offset: Offset,
    timestamp: WallTime,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// None: nothing to tell.
    alert: Result<Option<Alert>, Refusal>,
}

/// How the messages of a batch went.
#[derive(Default)]
struct Report {
    /// By the item's place in the batch.
    undelivered: Vec<(usize, Undelivered)>,
    /// To be remembered once the undelivered ones are in the dead-letter topic.
    told: Vec<(AlertId, Told)>,
}

struct Courier<B: Bus> {
    setup: Setup,
    consumer: B::Consumer,
    letters: DeadLetters<B::Producer>,
    metrics: SinkMetrics,
    idle: Waiting,
    post: Arc<Post<SystemClock>>,
    memory: Arc<Mutex<Notified>>,
    batch: Vec<Item>,
    flight: Option<JoinHandle<Report>>,
    owned: Vec<Partition>,
    waiting: Vec<Partition>,
    changes: Vec<Change>,
    /// Told, not yet committed.
    uncommitted: BTreeMap<Partition, Offset>,
    held: bool,
    pauses: Pauses,
    not_before: Instant,
}

impl<B: Bus> Courier<B> {
    fn join(setup: Setup, bus: &B, post: Post<SystemClock>) -> Result<Self, SinkError> {
        let failed = |source| SinkError::Bus { sink: setup.sink.clone(), source };
        let connector = format!("sink.{}", setup.sink);
        let producer = bus.producer(&connector).map_err(failed)?;
        let membership = Membership::Group { group: &setup.group, instance: Some(&setup.member) };
        let consumer = bus.consumer(&setup.topic, membership).map_err(failed)?;
        Ok(Self {
            consumer,
            letters: DeadLetters {
                producer,
                topic: setup.dead_letter.clone(),
                source: setup.topic.clone(),
                connector,
            },
            metrics: SinkMetrics::of(&setup.stage),
            idle: Waiting::register(&setup.stage, "webhook"),
            post: Arc::new(post),
            memory: Arc::default(),
            batch: Vec::new(),
            flight: None,
            owned: Vec::new(),
            waiting: Vec::new(),
            changes: Vec::new(),
            uncommitted: BTreeMap::new(),
            held: false,
            pauses: Pace::STORE.pauses(),
            not_before: Instant::now(),
            setup,
        })
    }

    fn run(mut self) -> Result<(), SinkError> {
        while !self.stopping() {
            self.fetch()?;
            self.settle()?;
            self.start_waiting()?;
            self.step()?;
            self.commit()?;
        }
        let until = Instant::now() + FAREWELL;
        while self.flight.is_some() && Instant::now() < until {
            self.fetch()?;
            self.step()?;
        }
        // What is not through by now comes again.
        self.abort();
        self.commit()?;
        self.consumer.close();
        Ok(())
    }

    fn stopping(&self) -> bool {
        self.setup.stage.shutdown.is_cancelled()
    }

    fn bus_failed(&self, source: BusError) -> SinkError {
        SinkError::Bus { sink: self.setup.sink.clone(), source }
    }

    fn fetch(&mut self) -> Result<(), SinkError> {
        let room = BATCH.saturating_sub(self.batch.len()).max(1);
        let (batch, owned, least) = (&mut self.batch, &self.owned, self.setup.min_severity);
        let (begun, before) = (Instant::now(), batch.len());
        let fetched = self.consumer.fetch(STEP, room, |record| {
            if owned.contains(&record.partition) {
                let alert = match record.value.map(Alert::parse) {
                    None => Ok(None),
                    Some(Ok(alert)) => Ok(Some(alert).filter(|alert| alert.severity >= least)),
                    Some(Err(error)) => Err(Refusal::malformed(&error)),
                };
                batch.push(Item {
                    partition: record.partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    alert,
                });
            }
        });
        // While a message is on its way, it is not idle; nor was it, if something came at once.
        if self.flight.is_none() && self.batch.len() == before {
            self.idle.waited(begun, Instant::now());
        }
        self.changes.extend(fetched.map_err(|error| self.bus_failed(error))?.changes);
        Ok(())
    }

    fn settle(&mut self) -> Result<(), SinkError> {
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Assigned(partitions) => self.waiting.extend(partitions),
                Change::Revoked(gone) | Change::Lost(gone) => {
                    // What is under way for others of our partitions starts again, and remembers what was told.
                    self.abort();
                    self.commit()?;
                    self.batch.retain(|item| !gone.contains(&item.partition));
                    self.owned.retain(|partition| !gone.contains(partition));
                    self.waiting.retain(|partition| !gone.contains(partition));
                    self.uncommitted.retain(|partition, _| !gone.contains(partition));
                    self.consumer.release(&gone).map_err(|error| self.bus_failed(error))?;
                }
            }
        }
        Ok(())
    }

    fn start_waiting(&mut self) -> Result<(), SinkError> {
        if self.waiting.is_empty() || Instant::now() < self.not_before {
            return Ok(());
        }
        let committed = match self.consumer.committed(&self.waiting) {
            Ok(committed) => committed,
            Err(error) if error.is_retryable() => {
                self.not_before = Instant::now() + self.pauses.next();
                return Ok(());
            }
            Err(error) => return Err(self.bus_failed(error)),
        };
        let positions: Vec<(Partition, Offset)> = committed
            .into_iter()
            .map(|(partition, commit)| (partition, commit.map_or(Offset(0), |commit| commit.next)))
            .collect();
        self.consumer.start(&positions).map_err(|error| self.bus_failed(error))?;
        self.owned.append(&mut self.waiting);
        self.pauses.reset();
        if self.held {
            self.consumer.pause(&self.owned, true).map_err(|error| self.bus_failed(error))?;
        }
        Ok(())
    }

    /// Sends a batch off, or sees to one that has come back.
    fn step(&mut self) -> Result<(), SinkError> {
        match self.flight.take() {
            None if self.batch.is_empty() || self.stopping() => self.hold(false),
            None => {
                self.hold(true)?;
                self.flight = Some(self.send_off());
                Ok(())
            }
            Some(flight) if !flight.is_finished() => {
                self.flight = Some(flight);
                Ok(())
            }
            Some(flight) => {
                let report = self.setup.runtime.block_on(flight).map_err(|_| SinkError::Thread {
                    sink: self.setup.sink.clone(),
                    part: "webhook deliveries",
                    why: "panicked".into(),
                })?;
                self.bury(report)
            }
        }
    }

    /// Starts the messages of the batch: those of one alert one after the other, of several at once.
    fn send_off(&self) -> JoinHandle<Report> {
        let mut groups: BTreeMap<AlertId, Vec<(usize, Alert)>> = BTreeMap::new();
        for (index, item) in self.batch.iter().enumerate() {
            if let Ok(Some(alert)) = &item.alert {
                groups.entry(alert.id.clone()).or_default().push((index, alert.clone()));
            }
        }
        let (post, memory) = (Arc::clone(&self.post), Arc::clone(&self.memory));
        self.setup.runtime.spawn(async move {
            let room = Arc::new(Semaphore::new(AT_ONCE));
            let mut alerts = JoinSet::new();
            for (id, records) in groups {
                let (post, memory, room) = (Arc::clone(&post), Arc::clone(&memory), Arc::clone(&room));
                alerts.spawn(async move {
                    // Never closed.
                    let _turn = room.acquire().await;
                    tell(&post, &memory, id, records).await
                });
            }
            let mut whole = Report::default();
            while let Some(report) = alerts.join_next().await {
                let report =
                    report.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
                whole.undelivered.extend(report.undelivered);
                whole.told.extend(report.told);
            }
            whole
        })
    }

    /// Sends what was refused or given up to the dead-letter topic; then the batch is through.
    fn bury(&mut self, report: Report) -> Result<(), SinkError> {
        let put = |(index, why): (usize, Undelivered)| (index, Refusal::put(why.class(), &why));
        let mut refused: Vec<(usize, Refusal)> = report.undelivered.into_iter().map(put).collect();
        for (index, item) in self.batch.iter().enumerate() {
            if let Err(refusal) = &item.alert {
                refused.push((index, refusal.clone()));
            }
        }
        for (index, refusal) in &refused {
            if !self.send_letter(*index, refusal)? {
                return Ok(());
            }
        }
        for (id, told) in report.told {
            lock(&self.memory).remember(id, told);
        }
        for item in self.batch.drain(..) {
            let place = self.uncommitted.entry(item.partition).or_default();
            *place = item.offset.next().max(*place);
        }
        Ok(())
    }

    /// Sends one refused record, and waits until the topic has it. False: told to stop before.
    fn send_letter(&self, index: usize, refusal: &Refusal) -> Result<bool, SinkError> {
        let undeliverable = |why| SinkError::DeadLetter {
            sink: self.setup.sink.clone(),
            topic: self.setup.dead_letter.clone(),
            why,
        };
        let Some(item) = self.batch.get(index) else { return Ok(true) };
        let letter = Letter {
            partition: item.partition,
            offset: item.offset,
            timestamp: item.timestamp,
            key: item.key.as_deref(),
            value: item.value.as_deref(),
            refusal,
        };
        loop {
            let acks = Acks::new();
            match self.letters.send(&letter, acks.expect(0)) {
                Ok(()) => {
                    while !acks.wait(STEP) {
                        if self.stopping() {
                            return Ok(false);
                        }
                    }
                    if let Some((_, error)) = acks.take_failed().into_iter().next() {
                        return Err(undeliverable(error.why));
                    }
                    self.metrics
                        .dead_letters
                        .get_or_create(&SinkLabels { sink: self.setup.sink.clone() })
                        .inc();
                    tracing::warn!(sink = self.setup.sink, refusal.message, "not delivered");
                    return Ok(true);
                }
                Err(SendError::Refused(why)) => return Err(undeliverable(why)),
                Err(SendError::Full | SendError::Unavailable(_)) if self.stopping() => return Ok(false),
                // The producer drains its queue by itself.
                Err(SendError::Full | SendError::Unavailable(_)) => std::thread::sleep(STEP),
            }
        }
    }

    fn abort(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.abort();
        }
    }

    fn hold(&mut self, held: bool) -> Result<(), SinkError> {
        if self.held != held {
            self.consumer.pause(&self.owned, held).map_err(|error| self.bus_failed(error))?;
            self.held = held;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SinkError> {
        if self.uncommitted.is_empty() {
            return Ok(());
        }
        let commits: Vec<(Partition, Commit)> = std::mem::take(&mut self.uncommitted)
            .into_iter()
            .map(|(partition, next)| (partition, Commit { next, metadata: String::new() }))
            .collect();
        match self.consumer.commit(&commits) {
            // Whoever has the partition now tells it again.
            Ok(()) | Err(BusError::NotOwner { .. }) => Ok(()),
            Err(error) => Err(self.bus_failed(error)),
        }
    }
}

/// Tells what the records of one alert say, in order.
async fn tell(
    post: &Post<SystemClock>,
    memory: &Mutex<Notified>,
    id: AlertId,
    records: Vec<(usize, Alert)>,
) -> Report {
    let mut report = Report::default();
    let mut told = lock(memory).told(&id);
    for (index, alert) in records {
        let (next, message) = told.after(alert.state);
        told = next;
        if message && let Err(why) = post.deliver(&alert).await {
            report.undelivered.push((index, why));
        }
        if report.undelivered.is_empty() {
            lock(memory).remember(id.clone(), told);
        }
    }
    if !report.undelivered.is_empty() {
        report.told.push((id, told));
    }
    report
}

fn lock(memory: &Mutex<Notified>) -> MutexGuard<'_, Notified> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

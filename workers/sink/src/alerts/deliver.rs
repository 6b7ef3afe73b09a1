//! Delivering the messages of a batch: those of one alert one after the other, of several at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use herd_spec::wire::{Alert, AlertId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::notified::{Notified, Told};
use super::receiver::{Message, Receiver};
use super::sender::{Sender, Undelivered};

/// Messages under way at once.
const AT_ONCE: usize = 8;

/// A record of a batch.
pub(super) struct Outgoing {
    /// Its place in the batch.
    pub(super) index: usize,
    pub(super) alert: Alert,
    /// Whether a message about it is held back.
    pub(super) is_quiet: bool,
}

/// The alerts of a batch, each with its records.
pub(super) type Alerts = BTreeMap<AlertId, Vec<Outgoing>>;

/// How the messages of a batch went.
#[derive(Default)]
pub(super) struct Report {
    /// By the record's place in the batch.
    pub(super) undelivered: Vec<(usize, Undelivered)>,
    /// The places of messages that are to be held back, and whether nobody was told of their alert before.
    pub(super) held: Vec<(usize, bool)>,
    /// To be remembered once the undelivered ones are in the dead-letter topic.
    pub(super) told: Vec<(AlertId, Told)>,
}

/// Delivers the messages of a batch.
pub(super) async fn deliver<R: Receiver>(
    sender: Arc<Sender<R>>,
    memory: Arc<Mutex<Notified>>,
    alerts: Alerts,
) -> Report {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (id, records) in alerts {
        let (sender, memory, room) = (Arc::clone(&sender), Arc::clone(&memory), Arc::clone(&room));
        tasks.spawn(async move {
            // Never closed.
            let _turn = room.acquire().await;
            deliver_one(&sender, &memory, id, records).await
        });
    }
    let mut whole = Report::default();
    while let Some(report) = tasks.join_next().await {
        let report = report.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        whole.undelivered.extend(report.undelivered);
        whole.held.extend(report.held);
        whole.told.extend(report.told);
    }
    whole
}

/// Delivers what the records of one alert say, in order.
async fn deliver_one<R: Receiver>(
    sender: &Sender<R>,
    memory: &Mutex<Notified>,
    id: AlertId,
    records: Vec<Outgoing>,
) -> Report {
    let mut report = Report::default();
    let mut told = lock(memory).told(&id);
    for Outgoing { index, alert, is_quiet } in records {
        let (next, message) = told.after(alert.state);
        if message && is_quiet {
            report.held.push((index, told == Told::Nothing));
        } else if message && let Err(why) = sender.deliver(Message::Alert(&alert)).await {
            report.undelivered.push((index, why));
        }
        told = next;
        if report.undelivered.is_empty() {
            lock(memory).remember(id.clone(), told);
        }
    }
    if !report.undelivered.is_empty() {
        report.told.push((id, told));
    }
    report
}

pub(super) fn lock(memory: &Mutex<Notified>) -> MutexGuard<'_, Notified> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

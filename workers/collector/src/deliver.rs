//! Handing records to the bus and waiting for its acknowledgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use herd_bus::{Acks, Outgoing, Producer, SendError};
use herd_spec::units::WallTime;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::intake::Refusal;
use crate::prepare::{Batch, Record};
use crate::problem::Problem;
use crate::reply::{ItemReply, reply};

/// Places of events in flight. They are given back when the bus has answered for all of them, even where nobody waits for
/// the answer any more: what is in flight stays bounded.
struct InFlight {
    places: Option<OwnedSemaphorePermit>,
    acks: Arc<Acks>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let places = self.places.take();
        if self.acks.pending() == 0 {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let acks = Arc::clone(&self.acks);
            runtime.spawn(async move {
                acks.done().await;
                drop(places);
            });
        }
    }
}

/// Sends everything and answers once the bus has acknowledged, or `patience` is over.
pub(crate) async fn deliver<P: Producer>(
    app: &App,
    producer: &P,
    batch: Batch,
    received: WallTime,
    patience: Duration,
) -> Result<Response, Problem> {
    let places = app.take_places(batch.records.len())?;
    let acks = Acks::new();
    let in_flight = InFlight { places: Some(places), acks: Arc::clone(&acks) };
    let mut why = None;
    let mut unsent = Vec::new();
    for (index, record) in (0_u32..).zip(&batch.records) {
        if why.is_some() {
            // What comes after something that was not taken is not sent either: a user's events stay in order.
            unsent.push(index);
            continue;
        }
        if let Err(error) = send(app, producer, record, received, index, &acks) {
            why = Some(error.to_string());
            unsent.push(index);
        }
    }
    let in_time = tokio::time::timeout(patience, acks.done()).await.is_ok();
    let failed = acks.take_failed();
    if let Some((_, error)) = failed.first() {
        why = Some(error.why.clone());
    }
    if !in_time {
        why = Some(format!("no answer within {patience:?}"));
    }
    drop(in_flight);
    app.show_saturation();
    match &why {
        Some(why) => app.delivery.failed(Instant::now(), why),
        None => app.delivery.delivered(Instant::now()),
    }
    // Which of those in time did not make it is known; where time ran out, none is sure.
    unsent.extend(failed.iter().map(|(index, _)| *index));
    let lost = |index: u32| !in_time || unsent.contains(&index);
    Ok(answer(app, batch, lost, why))
}

fn send<P: Producer>(
    app: &App,
    producer: &P,
    record: &Record,
    received: WallTime,
    index: u32,
    acks: &Arc<Acks>,
) -> Result<(), SendError> {
    let ack = acks.expect(index);
    match record {
        Record::Event { accepted, value } => producer.send(
            &Outgoing {
                topic: &app.plan.topics.events.name,
                partition: None,
                key: Some(accepted.key.as_bytes()),
                value: Some(value),
                timestamp: received,
                headers: &[],
            },
            ack,
        ),
        Record::Letter(letter) => {
            let headers: Vec<(&str, &[u8])> =
                letter.headers.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())).collect();
            producer.send(
                &Outgoing {
                    topic: &app.plan.topics.dead_letter.name,
                    partition: None,
                    key: None,
                    value: Some(&letter.bytes),
                    timestamp: received,
                    headers: &headers,
                },
                ack,
            )
        }
    }
}

fn answer(app: &App, batch: Batch, lost: impl Fn(u32) -> bool, why: Option<String>) -> Response {
    let mut items = Vec::with_capacity(batch.records.len());
    let mut refusals: Vec<(u32, Refusal)> = Vec::new();
    let (mut accepted, mut unavailable) = (0, 0);
    for (index, record) in (0_u32..).zip(batch.records) {
        if lost(index) {
            unavailable += 1;
            items.push(ItemReply::Failed { index });
            continue;
        }
        match record {
            Record::Event { accepted: event, .. } => {
                accepted += 1;
                app.metrics.replaced.inc_by(u64::from(event.replaced));
                items.push(ItemReply::Accepted { index, event_id: event.event_id });
            }
            Record::Letter(letter) => {
                let Refusal { code, detail } = letter.refusal.clone();
                app.metrics.refused(code.as_str());
                items.push(ItemReply::Invalid { index, code: code.as_str(), detail });
                refusals.push((index, letter.refusal));
            }
        }
    }
    app.metrics.count("accepted", accepted);
    app.metrics.count("invalid", refusals.len());
    app.metrics.count("unavailable", unavailable);
    if let Some(why) = &why
        && let Some(requests) = app.metrics.unacknowledged.tell()
    {
        tracing::warn!(
            requests,
            events = unavailable,
            why,
            "events were not acknowledged: clients were told to send them again; the last request is named here"
        );
    }
    reply(items, &refusals, why.as_deref())
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;

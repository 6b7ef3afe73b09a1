//! Sending records to the bus and waiting for the acknowledgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use herd_bus::{Acks, Outgoing, Producer, SendError};
use herd_spec::units::WallTime;
use herd_stage::Problem;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::intake::Refusal;
use crate::prepare::{Batch, Endpoint, Record};
use crate::reply::{ItemReply, reply, reply_segment};

/// Permits of events in flight. They are released when the bus has reported the result of all events, even if the request has been
/// cancelled, so that the number of events in flight stays bounded.
struct InFlight {
    permits: Option<OwnedSemaphorePermit>,
    acks: Arc<Acks>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let permits = self.permits.take();
        if self.acks.pending() == 0 {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let acks = Arc::clone(&self.acks);
            runtime.spawn(async move {
                acks.done().await;
                drop(permits);
            });
        }
    }
}

/// Sends all records and responds once the bus has acknowledged them, or after `timeout`.
pub(crate) async fn deliver<P: Producer>(
    app: &App,
    producer: &P,
    batch: Batch,
    received: WallTime,
    timeout: Duration,
) -> Result<Response, Problem> {
    let permits = app.acquire_in_flight(batch.records.len())?;
    let acks = Acks::new();
    let in_flight = InFlight { permits: Some(permits), acks: Arc::clone(&acks) };
    let mut why = None;
    let mut unsent = Vec::new();
    for (index, record) in (0_u32..).zip(&batch.records) {
        if matches!(record, Record::Ignored) {
            continue;
        }
        if why.is_some() {
            // After a failed record no further one is sent, so that the events of a user stay in order.
            unsent.push(index);
            continue;
        }
        if let Err(error) = send(app, producer, record, received, index, &acks) {
            why = Some(error.to_string());
            unsent.push(index);
        }
    }
    let in_time = tokio::time::timeout(timeout, acks.done()).await.is_ok();
    let failed = acks.take_failed();
    if let Some((_, error)) = failed.first() {
        why = Some(error.why.clone());
    }
    if !in_time {
        why = Some(format!("no acknowledgement within {timeout:?}"));
    }
    drop(in_flight);
    app.update_saturation();
    match &why {
        Some(why) => app.delivery.failed(Instant::now(), why),
        None => app.delivery.delivered(Instant::now()),
    }
    // After a timeout the results of single records are unknown.
    unsent.extend(failed.iter().map(|(index, _)| *index));
    let unacknowledged = |index: u32| !in_time || unsent.contains(&index);
    Ok(response(app, batch, unacknowledged, why))
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
        Record::DeadLetter(dead_letter) => {
            let headers: Vec<(&str, &[u8])> =
                dead_letter.headers.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())).collect();
            producer.send(
                &Outgoing {
                    topic: &app.plan.topics.dead_letter.name,
                    partition: None,
                    key: None,
                    value: Some(&dead_letter.bytes),
                    timestamp: received,
                    headers: &headers,
                },
                ack,
            )
        }
        Record::Ignored => Ok(()),
    }
}

fn response(app: &App, batch: Batch, unacknowledged: impl Fn(u32) -> bool, why: Option<String>) -> Response {
    let mut items = Vec::with_capacity(batch.records.len());
    let mut refusals: Vec<(u32, Refusal)> = Vec::new();
    let (mut accepted, mut unavailable, mut ignored) = (0, 0, 0);
    for (index, record) in (0_u32..).zip(batch.records) {
        if matches!(record, Record::Ignored) {
            ignored += 1;
            continue;
        }
        if unacknowledged(index) {
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
            Record::DeadLetter(dead_letter) => {
                let Refusal { code, detail } = dead_letter.refusal.clone();
                app.metrics.refused(code.as_str());
                items.push(ItemReply::Invalid { index, code: code.as_str(), detail });
                refusals.push((index, dead_letter.refusal));
            }
            Record::Ignored => {}
        }
    }
    app.metrics.count("accepted", accepted);
    app.metrics.count("invalid", refusals.len());
    app.metrics.count("unavailable", unavailable);
    app.metrics.count("ignored", ignored);
    if let Some(why) = &why
        && let Some(requests) = app.metrics.unacknowledged.tell()
    {
        tracing::warn!(
            requests,
            events = unavailable,
            why,
            "events were not acknowledged; clients were asked to send them again"
        );
    }
    match batch.endpoint {
        Endpoint::Track => reply(items, &refusals, why.as_deref()),
        Endpoint::Segment(_) => reply_segment(items, &refusals, ignored, why.as_deref()),
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;

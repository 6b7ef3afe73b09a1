//! Alerts to a receiver: one message when an alert is raised and one when it ends, each at least once.
//!
//! `sink` takes alerts in and sends them off, `ready` says which ones, `held` keeps those of quiet times, `deliver` sends the messages of
//! a batch, `sender` one message. What kind of receiver it is, is behind the trait of `receiver`.

mod deliver;
mod held;
mod notified;
mod ready;
mod receiver;
mod sender;
mod sink;

use std::collections::BTreeMap;
use std::sync::Mutex;

use herd_bus::Bus;
use herd_spec::plan::QuietPlan;
use herd_spec::wire::Severity;
use tokio::runtime::Handle;

pub(crate) use self::held::Summary;
pub(crate) use self::receiver::{Answer, Message, Receiver};
use self::sender::Sender;
use self::sink::{AlertSink, Setup};
use crate::conditions::condition;
use crate::metrics::SinkMetrics;
use crate::{SinkContext, SinkError, spawn};

/// What a receiver is sent, and how often it is tried.
pub(crate) struct Delivery {
    /// The least severity that is sent.
    pub(crate) min_severity: Severity,
    /// Tries before the dead-letter topic.
    pub(crate) attempts: u32,
    /// The quiet times of each detector.
    pub(crate) quiet: BTreeMap<String, QuietPlan>,
}

/// Sends the alerts of the pipeline to `receiver`, until the stage is told to stop.
pub(crate) async fn run<B: Bus, R: Receiver>(
    context: &SinkContext<'_, B>,
    receiver: R,
    delivery: Delivery,
) -> Result<(), SinkError> {
    let SinkContext { plan, sink, bus, stage, member } = context;
    let condition = condition(&sink.name, R::KIND);
    let sender = Sender {
        sink: sink.name.to_string(),
        receiver,
        attempts: delivery.attempts.max(1),
        told: Mutex::new(None),
        health: stage.health.clone(),
        condition,
        metrics: SinkMetrics::of(stage),
    };
    let setup = Setup {
        sink: sink.name.to_string(),
        group: sink.group.clone(),
        member: (*member).to_owned(),
        topic: plan.topics.alerts.name.clone(),
        dead_letter: plan.topics.dead_letter.name.clone(),
        min_severity: delivery.min_severity,
        quiet: delivery.quiet,
        stage: stage.clone(),
        runtime: Handle::current(),
    };
    let (bus, shutdown) = (bus.clone(), stage.shutdown.clone());
    let body = move || {
        let mut member = AlertSink::join(setup, &bus, sender)?;
        member.run(&shutdown)?;
        member.finish()
    };
    spawn(&sink.name, R::KIND, condition, stage, body)?.await
}

#[cfg(test)]
pub(crate) mod tests;

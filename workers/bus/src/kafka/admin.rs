//! Creating topics. librdkafka answers through futures that it completes on a thread of its own.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use herd_spec::plan::TopicPlan;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::error::RDKafkaErrorCode;

use super::KafkaBus;
use super::context::Plain;
use super::error::{Kind, bus_error, kind};
use crate::{Bus as _, BusError};

/// How long topics may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

impl KafkaBus {
    pub(super) fn create_topics(&self, plans: &[&TopicPlan]) -> Result<(), BusError> {
        let admin: AdminClient<Plain> = self
            .settings()
            .reader("admin", &self.reader_group())
            .create_with_context(Plain)
            .map_err(|error| bus_error("opening the admin client", &error))?;
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        for plan in plans {
            let count = i32::try_from(plan.partitions).unwrap_or(i32::MAX);
            let had = match self.partitions(&plan.name) {
                Ok(had) => had,
                Err(BusError::Missing { .. }) => {
                    let mut topic = NewTopic::new(
                        &plan.name,
                        count,
                        TopicReplication::Fixed(i32::from(plan.replication)),
                    );
                    for (name, value) in &plan.config {
                        topic = topic.set(name, value);
                    }
                    let doing = format!("creating {}", plan.name);
                    let results =
                        wait(admin.create_topics([&topic], &options)).map_err(|e| bus_error(&*doing, &e))?;
                    accept(results, &doing, RDKafkaErrorCode::TopicAlreadyExists)?;
                    self.await_partitions(&plan.name, 1)?
                }
                Err(error) => return Err(error),
            };
            if had < plan.partitions {
                let more = NewPartitions::new(&plan.name, plan.partitions as usize);
                let doing = format!("adding partitions to {}", plan.name);
                let results =
                    wait(admin.create_partitions([&more], &options)).map_err(|e| bus_error(&*doing, &e))?;
                // Another has added them meanwhile.
                accept(results, &doing, RDKafkaErrorCode::InvalidPartitions)?;
                self.await_partitions(&plan.name, plan.partitions)?;
            }
        }
        Ok(())
    }

    /// What was created is not known to every broker at once.
    fn await_partitions(&self, topic: &str, least: u32) -> Result<u32, BusError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.partitions(topic) {
                Ok(count) if count >= least => return Ok(count),
                Ok(count) if Instant::now() >= deadline => {
                    return Err(BusError::Unavailable {
                        doing: format!("waiting for {least} partitions of {topic}"),
                        why: format!("there are {count}"),
                    });
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn accept(results: Vec<TopicResult>, doing: &str, harmless: RDKafkaErrorCode) -> Result<(), BusError> {
    for result in results {
        match result {
            Ok(_) => {}
            Err((_, code)) if code == harmless => {}
            Err((_, code)) if kind(code) == Kind::Transient => {
                return Err(BusError::Unavailable { doing: doing.into(), why: code.to_string() });
            }
            Err((_, code)) => return Err(BusError::Refused { doing: doing.into(), why: code.to_string() }),
        }
    }
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread, whether or not a runtime runs here. librdkafka's end within their request timeout.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

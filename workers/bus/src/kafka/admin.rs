//! Creating topics. librdkafka answers through futures that it completes on a thread of its own.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use herd_spec::plan::TopicPlan;
use rdkafka::admin::{AdminClient, AdminOptions, TopicResult};
use rdkafka::error::RDKafkaErrorCode;

use super::KafkaBus;
use super::context::Plain;
use super::error::{Kind, bus_error, kind};
use crate::{Bus as _, BusError};

/// How long topics may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

impl KafkaBus {
    /// The client for requests of an administrator: one, opened when it is needed first.
    pub(super) fn admin(&self) -> Result<Arc<AdminClient<Plain>>, BusError> {
        let mut open = self.inner.admin.lock();
        if let Some(admin) = &*open {
            return Ok(Arc::clone(admin));
        }
        let admin: AdminClient<Plain> = self
            .settings()
            .reader("admin", &self.reader_group())
            .create_with_context(self.inner.plain.clone())
            .map_err(|error| bus_error("opening the admin client", &error))?;
        Ok(Arc::clone(open.insert(Arc::new(admin))))
    }

    pub(super) fn create_topics(&self, plans: &[&TopicPlan]) -> Result<(), BusError> {
        for plan in plans {
            let had = match self.partitions(&plan.name) {
                Ok(had) => had,
                Err(BusError::Missing { .. }) => {
                    self.make_topics(&[(*plan).clone()], &mut BTreeSet::new())?;
                    self.partitions(&plan.name)?
                }
                Err(error) => return Err(error),
            };
            if had < plan.partitions {
                self.grow_topic(&plan.name, plan.partitions)?;
            }
        }
        Ok(())
    }

    /// What was created is not known to every broker at once.
    pub(super) fn await_partitions(&self, topic: &str, least: u32) -> Result<u32, BusError> {
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

pub(super) fn accept(
    results: Vec<TopicResult>,
    doing: &str,
    harmless: RDKafkaErrorCode,
) -> Result<(), BusError> {
    for result in results {
        match result {
            Ok(_) => {}
            Err((_, code)) if code == harmless => {}
            Err((_, code)) => return Err(refusal(doing, code)),
        }
    }
    Ok(())
}

/// What a code in an answer means.
pub(super) fn refusal(doing: &str, code: RDKafkaErrorCode) -> BusError {
    let (doing, why) = (doing.to_owned(), code.to_string());
    if kind(code) == Kind::Transient {
        BusError::Unavailable { doing, why }
    } else {
        BusError::Refused { doing, why }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread, whether or not a runtime runs here. librdkafka's end within their request timeout.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
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

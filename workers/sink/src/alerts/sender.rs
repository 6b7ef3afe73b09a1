//! One message to one receiver, tried again where that may help.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use herd_stage::backoff::Pace;
use herd_stage::{Clock, Health, SystemClock};

use super::receiver::{Answer, Message, Receiver};
use crate::metrics::{OutcomeLabels, SinkLabels, SinkMetrics};

/// The longest a receiver may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Why a message was not delivered in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// The receiver will never take it.
    Refused(String),
    /// It was tried as often as allowed.
    GaveUp(String),
}

impl Undelivered {
    /// The error class of the dead letter, for a receiver of this kind.
    pub(super) fn class(&self, kind: &str) -> String {
        match self {
            Self::Refused(_) => format!("{kind}-refused"),
            Self::GaveUp(_) => format!("{kind}-gave-up"),
        }
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::GaveUp(why) => f.write_str(why),
        }
    }
}

/// Sends messages to one receiver.
pub(super) struct Sender<R> {
    pub(super) sink: String,
    pub(super) receiver: R,
    pub(super) attempts: u32,
    /// What was told of the receiver, until it takes a message.
    pub(super) told: Mutex<Option<String>>,
    pub(super) health: Health,
    pub(super) condition: &'static str,
    pub(super) metrics: SinkMetrics,
}

impl<R: Receiver> Sender<R> {
    /// Delivers one message.
    pub(super) async fn deliver(&self, message: Message<'_>) -> Result<(), Undelivered> {
        let (mut pauses, mut mending) = (Pace::ENDPOINT.pauses(), Pace::MENDING.pauses());
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = self.receiver.send(message, SystemClock.now()).await;
            let (why, pause, undelivered): (_, _, fn(String) -> Undelivered) = match answer {
                Answer::Taken => {
                    self.health.ok(self.condition);
                    *self.told() = None;
                    self.count("delivered");
                    return Ok(());
                }
                Answer::Refused(why) => {
                    self.count("refused");
                    return Err(Undelivered::Refused(why));
                }
                Answer::NeedsMending(why) => (why, mending.next(), Undelivered::Refused),
                Answer::Later { why, after } => {
                    let asked = after.unwrap_or_default().min(LONGEST_WAIT);
                    (why, pauses.next().max(asked), Undelivered::GaveUp)
                }
            };
            let undelivered = undelivered(format!("{why} (attempt {tried} of {})", self.attempts));
            self.health.fail(self.condition, R::TROUBLE, format!("{} {why}", self.receiver.address()));
            self.tell(&why, &undelivered);
            if tried >= self.attempts {
                self.count(if matches!(undelivered, Undelivered::Refused(_)) {
                    "refused"
                } else {
                    "gave-up"
                });
                return Err(undelivered);
            }
            self.metrics.retries.get_or_create(&SinkLabels { sink: self.sink.clone() }).inc();
            tokio::time::sleep(pause).await;
        }
    }

    fn told(&self) -> MutexGuard<'_, Option<String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a person of the receiver's answer, once for all messages that get the same.
    fn tell(&self, why: &str, undelivered: &Undelivered) {
        let mut told = self.told();
        let endpoint = self.receiver.address();
        if told.as_deref() == Some(why) {
            tracing::debug!(sink = self.sink, endpoint, why, "still");
            return;
        }
        *told = Some(why.to_owned());
        drop(told);
        match undelivered {
            Undelivered::GaveUp(_) => tracing::warn!(sink = self.sink, endpoint, why, "trying again"),
            Undelivered::Refused(_) => tracing::error!(
                sink = self.sink,
                endpoint,
                why,
                "the endpoint rejects all deliveries: {}; each alert is attempted {} times with long pauses, then it goes to the \
                 dead-letter topic",
                R::ADVICE,
                self.attempts
            ),
        }
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.deliveries.get_or_create(&OutcomeLabels { sink: self.sink.clone(), outcome }).inc();
    }
}

//! What every kind of receiver has to say of itself, and what it may answer.

use std::time::Duration;

use herd_spec::health::Trouble;
use herd_spec::units::WallTime;
use herd_spec::wire::Alert;

use super::held::Summary;

/// What is sent to a receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message<'a> {
    /// An alert, at its present state.
    Alert(&'a Alert),
    /// All that was held back in quiet times.
    Summary(&'a Summary),
}

impl Message<'_> {
    /// By which a receiver that sees the message twice can tell.
    pub(crate) fn id(self) -> String {
        match self {
            Self::Alert(alert) => format!("{}-{}", alert.id, alert.state.as_str()),
            Self::Summary(summary) => {
                let first = summary.alerts.first().map(|alert| alert.id.to_string()).unwrap_or_default();
                format!("{first}-quiet-{}", summary.until.0)
            }
        }
    }
}

/// How an attempt to send a message ended.
pub(crate) enum Answer {
    /// The receiver has it.
    Taken,
    /// This message is refused for good; others may be taken.
    Refused(String),
    /// No message is taken, until somebody corrects the configuration or the receiver.
    NeedsMending(String),
    /// It may be taken later, after this time at the earliest if the receiver says so.
    Later { why: String, after: Option<Duration> },
}

/// Takes messages about alerts. When, how often, and what becomes of a message that it does not take is decided by its caller.
pub(crate) trait Receiver: Send + Sync + 'static {
    /// Its kind, as a spec writes it: part of the names of its thread and its readiness condition, and of the dead letter's error class.
    const KIND: &'static str;
    /// The reason that the readiness gives while it takes no messages.
    const TROUBLE: Trouble;
    /// What a person should do when it refuses all messages.
    const ADVICE: &'static str;

    /// Sends a message, once.
    fn send(&self, message: Message<'_>, now: WallTime) -> impl Future<Output = Answer> + Send;

    /// Where it is, without what may be secret.
    fn address(&self) -> String;
}

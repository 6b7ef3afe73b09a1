//! Acknowledgements: one counter for many records, awaited by a task or a thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::DeliveryError;

/// A set of sent records whose acknowledgements are awaited together.
#[derive(Debug, Default)]
pub struct Acks {
    state: Mutex<State>,
    blocking: Condvar,
    waiting: Notify,
}

#[derive(Debug, Default)]
struct State {
    pending: usize,
    failed: Vec<(u32, DeliveryError)>,
}

/// The right to report one record of a set, once. Dropped unreported (a client that went away), it counts as failed.
#[derive(Debug)]
pub struct Ack {
    acks: Option<Arc<Acks>>,
    index: u32,
}

impl Acks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds one record, which failures will call `index`.
    #[must_use]
    pub fn expect(self: &Arc<Self>, index: u32) -> Ack {
        self.state.lock().pending += 1;
        Ack { acks: Some(Arc::clone(self)), index }
    }

    /// Records not yet acknowledged.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.state.lock().pending
    }

    /// The records that failed since this was last asked, with their index.
    #[must_use]
    pub fn take_failed(&self) -> Vec<(u32, DeliveryError)> {
        std::mem::take(&mut self.state.lock().failed)
    }

    /// Waits until every record is acknowledged or failed.
    pub async fn done(&self) {
        loop {
            let notified = self.waiting.notified();
            if self.pending() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// As [`Acks::done`] for a thread, at most `patience`; whether all are done.
    pub fn wait(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        while state.pending > 0 {
            if self.blocking.wait_until(&mut state, deadline).timed_out() {
                return state.pending == 0;
            }
        }
        true
    }

    fn report(&self, index: u32, outcome: Result<(), DeliveryError>) {
        let mut state = self.state.lock();
        state.pending -= 1;
        if let Err(error) = outcome {
            state.failed.push((index, error));
        }
        if state.pending == 0 {
            drop(state);
            self.blocking.notify_all();
            self.waiting.notify_waiters();
        }
    }
}

impl Ack {
    /// Says what became of the record.
    pub fn report(mut self, outcome: Result<(), DeliveryError>) {
        if let Some(acks) = self.acks.take() {
            acks.report(self.index, outcome);
        }
    }

    /// Takes the record out of the set: it was never sent.
    pub fn cancel(mut self) {
        if let Some(acks) = self.acks.take() {
            acks.report(self.index, Ok(()));
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        if let Some(acks) = self.acks.take() {
            acks.report(self.index, Err(DeliveryError { why: "the producer went away".into() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn done_returns_when_the_last_record_is_acknowledged() {
        let acks = Acks::new();
        let (first, second) = (acks.expect(0), acks.expect(1));
        first.report(Ok(()));
        assert_eq!(acks.pending(), 1);
        assert!(!acks.wait(Duration::from_millis(1)));
        let waiter = tokio::spawn({
            let acks = Arc::clone(&acks);
            async move { acks.done().await }
        });
        second.report(Err(DeliveryError { why: "too large".into() }));
        waiter.await.unwrap();
        assert_eq!(acks.take_failed(), vec![(1, DeliveryError { why: "too large".into() })]);
    }

    #[test]
    fn counts_a_dropped_acknowledgement_as_failed() {
        let acks = Acks::new();
        drop(acks.expect(7));
        assert!(acks.wait(Duration::ZERO));
        assert_eq!(acks.take_failed()[0].0, 7);
    }

    #[test]
    fn a_cancelled_acknowledgement_is_no_failure() {
        let acks = Acks::new();
        acks.expect(0).cancel();
        assert!(acks.take_failed().is_empty());
    }
}

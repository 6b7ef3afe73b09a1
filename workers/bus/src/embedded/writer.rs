//! Group commit: one thread writes everything that waits, for all partitions, as one batch; then readers see it; then
//! senders hear that it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::chunk::Chunk;
use super::log::Log;
use super::store::{Store, StoreError};
use super::topic::Topic;
use crate::{Ack, DeliveryError};

/// How long the writer waits for more once there is something: a millisecond more in each acknowledgement, far fewer
/// writes.
const LINGER: Duration = Duration::from_millis(1);

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    round_done: Condvar,
    records: AtomicUsize,
    bytes: AtomicUsize,
    limit: QueueLimit,
}

/// How much may wait to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimit {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Partitions with something to write.
    dirty: Vec<(Arc<Topic>, Arc<Log>)>,
    started: u64,
    finished: u64,
    stopping: bool,
    /// Why nothing can be written any more.
    broken: Option<String>,
}

impl Queue {
    pub(super) fn new(limit: QueueLimit) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            round_done: Condvar::new(),
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            limit,
        }
    }

    /// Takes room for a record of that size, if there is any.
    pub(super) fn reserve(&self, size: usize) -> bool {
        let records = self.records.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(size, Ordering::Relaxed);
        let fits = records < self.limit.records && bytes + size <= self.limit.bytes;
        if !fits {
            self.free(1, size);
        }
        fits
    }

    fn free(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Tells the writer of a partition that has something to write again.
    pub(super) fn wake(&self, topic: &Arc<Topic>, log: &Arc<Log>) {
        let mut state = self.state.lock();
        state.dirty.push((Arc::clone(topic), Arc::clone(log)));
        if state.dirty.len() == 1 {
            self.work.notify_one();
        }
    }

    /// Why nothing can be written any more, if so.
    pub(super) fn broken(&self) -> Option<String> {
        self.state.lock().broken.clone()
    }

    /// Waits until what was sent before is written. Returns how many records were still open at `deadline`.
    pub(super) fn flush(&self, deadline: Instant) -> usize {
        let mut state = self.state.lock();
        // What is being written now, and one round more if anything waits.
        let target = state.started + u64::from(!state.dirty.is_empty());
        while state.finished < target {
            if self.round_done.wait_until(&mut state, deadline).timed_out() && state.finished < target {
                return self.records.load(Ordering::Relaxed);
            }
        }
        0
    }

    /// Has the writer write what waits and end.
    pub(super) fn stop(&self) {
        self.state.lock().stopping = true;
        self.work.notify_one();
    }

    /// The writer: until [`Queue::stop`].
    pub(super) fn run(&self, store: &Store) {
        loop {
            let mut state = self.state.lock();
            while state.dirty.is_empty() && !state.stopping {
                self.work.wait(&mut state);
            }
            if state.dirty.is_empty() {
                return;
            }
            if !state.stopping {
                drop(state);
                std::thread::sleep(LINGER);
                state = self.state.lock();
            }
            let dirty = std::mem::take(&mut state.dirty);
            state.started += 1;
            let broken = state.broken.clone();
            drop(state);

            let outcome = self.round(store, dirty, broken);
            let mut state = self.state.lock();
            state.finished += 1;
            if let Err(why) = outcome {
                state.broken.get_or_insert(why);
            }
            drop(state);
            self.round_done.notify_all();
        }
    }

    fn round(
        &self,
        store: &Store,
        dirty: Vec<(Arc<Topic>, Arc<Log>)>,
        broken: Option<String>,
    ) -> Result<(), String> {
        let mut written = Vec::with_capacity(dirty.len());
        let mut acks: Vec<Vec<Ack>> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        let mut batch = store.batch();
        let mut outcome = broken.map_or(Ok(()), Err);
        for (topic, log) in dirty {
            let (_, mut next) = log.bounds();
            let mut chunks = Vec::new();
            for waiting in log.take_waiting() {
                records += waiting.acks.len();
                bytes += waiting.chunk.size();
                acks.push(waiting.acks);
                let slice = fjall::Slice::from(waiting.chunk.finish());
                match Chunk::new(next, slice.clone()) {
                    Ok(chunk) => {
                        store.insert_chunk(&mut batch, log.topic, log.partition, next, slice);
                        next = chunk.end();
                        chunks.push(chunk);
                    }
                    Err(error) => outcome = Err(error.to_string()),
                }
            }
            written.push((topic, log, chunks));
        }
        let outcome = outcome.and_then(|()| batch.commit().map_err(|e| StoreError::from(e).to_string()));
        if outcome.is_ok() {
            for (topic, log, chunks) in written {
                if !chunks.is_empty() {
                    log.publish(chunks);
                    topic.ring();
                }
            }
        } else if let Err(why) = &outcome {
            tracing::error!(%why, "the embedded bus can write nothing more");
        }
        self.free(records, bytes);
        for ack in acks.into_iter().flatten() {
            ack.report(outcome.clone().map_err(|why| DeliveryError { why }));
        }
        outcome
    }
}

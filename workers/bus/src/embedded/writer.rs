//! Group commit: one thread writes everything that waits, for all partitions, as one batch; then readers see it; then
//! senders hear that it is written.
//!
//! When the store cannot be written, senders hear that at once, what is sent meanwhile is refused, and the store is opened
//! anew as soon as that helps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::chunk::Chunk;
use super::log::{Log, Waiting};
use super::reopen::Store;
use super::store::{OpenStore, StoreError};
use super::topic::Topic;
use crate::{Ack, DeliveryError};

/// How long the writer waits for more once there is something: a millisecond more in each acknowledgement, far fewer
/// writes.
const LINGER: Duration = Duration::from_millis(1);

/// The first pause before the store is opened anew; doubled each time up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause: so long after there is room, at the latest, records are taken again.
const LONGEST: Duration = Duration::from_secs(8);

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
    /// Why nothing can be written now.
    broken: Option<String>,
}

/// A time in which the store cannot be written.
#[derive(Debug)]
struct Outage {
    since: Instant,
    next_try: Instant,
    pause: Duration,
}

impl Outage {
    fn begin() -> Self {
        let now = Instant::now();
        Self { since: now, next_try: now + FIRST, pause: FIRST }
    }

    fn failed_again(&mut self) {
        self.pause = (self.pause * 2).min(LONGEST);
        self.next_try = Instant::now() + self.pause;
    }
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

    /// The store cannot be written: the writer is to open it anew.
    pub(super) fn broke(&self, why: &str) {
        let mut state = self.state.lock();
        if state.broken.is_none() {
            tracing::error!(
                why,
                "the embedded broker cannot write and refuses records; it retries by itself, a restart is not needed"
            );
            state.broken = Some(why.to_owned());
            self.work.notify_one();
        }
    }

    /// Why nothing can be written now, if so.
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

    /// The writer: until [`Queue::stop`]. `reopen` opens the store anew after a failed write.
    pub(super) fn run(&self, store: &Store, reopen: impl Fn() -> Result<(), StoreError>) {
        let mut outage: Option<Outage> = None;
        loop {
            let mut state = self.state.lock();
            while state.dirty.is_empty() && !state.stopping {
                if state.broken.is_some() {
                    let outage = outage.get_or_insert_with(Outage::begin);
                    if self.work.wait_until(&mut state, outage.next_try).timed_out() {
                        break;
                    }
                } else {
                    self.work.wait(&mut state);
                }
            }
            if state.dirty.is_empty() {
                if state.stopping {
                    return;
                }
                drop(state);
                self.try_again(&mut outage, &reopen);
                continue;
            }
            if !state.stopping && state.broken.is_none() {
                drop(state);
                std::thread::sleep(LINGER);
                state = self.state.lock();
            }
            let dirty = std::mem::take(&mut state.dirty);
            state.started += 1;
            let broken = state.broken.clone();
            drop(state);

            self.round(store, dirty, broken);
            self.state.lock().finished += 1;
            self.round_done.notify_all();
        }
    }

    fn try_again(&self, outage: &mut Option<Outage>, reopen: impl Fn() -> Result<(), StoreError>) {
        let outcome = reopen();
        let mut state = self.state.lock();
        match outcome {
            Ok(()) => {
                state.broken = None;
                if let Some(outage) = outage.take() {
                    let seconds = outage.since.elapsed().as_secs();
                    tracing::warn!(
                        seconds,
                        "the embedded broker writes again; nothing acknowledged was lost"
                    );
                }
            }
            Err(error) => {
                let why = error.to_string();
                if state.broken.as_ref() != Some(&why) {
                    tracing::warn!(why, "the embedded broker cannot write yet");
                    state.broken = Some(why);
                }
                if let Some(outage) = outage {
                    outage.failed_again();
                }
            }
        }
    }

    /// Writes what waits, and tells senders what became of it.
    fn round(&self, store: &Store, dirty: Vec<(Arc<Topic>, Arc<Log>)>, broken: Option<String>) {
        let mut waiting = Vec::with_capacity(dirty.len());
        let (mut records, mut bytes) = (0, 0);
        for (topic, log) in dirty {
            let taken = log.take_waiting();
            records += taken.iter().map(|one| one.acks.len()).sum::<usize>();
            bytes += taken.iter().map(|one| one.chunk.size()).sum::<usize>();
            waiting.push((topic, log, taken));
        }
        let mut acks: Vec<Vec<Ack>> = Vec::new();
        let outcome = match broken {
            Some(why) => {
                acks.extend(waiting.into_iter().flat_map(|(_, _, taken)| taken).map(|one| one.acks));
                Err(why)
            }
            None => write(store, waiting, &mut acks).map_err(|error| {
                let why = error.to_string();
                self.broke(&why);
                why
            }),
        };
        self.free(records, bytes);
        for ack in acks.into_iter().flatten() {
            ack.report(outcome.clone().map_err(|why| DeliveryError { why }));
        }
    }
}

/// Writes everything as one batch and shows it to readers, or nothing of it. `acks` gets who is to be told.
fn write(
    store: &Store,
    waiting: Vec<(Arc<Topic>, Arc<Log>, Vec<Waiting>)>,
    acks: &mut Vec<Vec<Ack>>,
) -> Result<(), StoreError> {
    let mut finished = Vec::with_capacity(waiting.len());
    for (topic, log, taken) in waiting {
        let mut slices = Vec::with_capacity(taken.len());
        for one in taken {
            acks.push(one.acks);
            slices.push(fjall::Slice::from(one.chunk.finish()));
        }
        finished.push((topic, log, slices));
    }
    let mut written = Vec::with_capacity(finished.len());
    {
        let store = store.get()?;
        let mut batch = store.batch();
        for (topic, log, slices) in finished {
            let (_, mut next) = log.bounds();
            let mut chunks = Vec::with_capacity(slices.len());
            for slice in slices {
                let chunk = Chunk::new(next, slice.clone())?;
                store.insert_chunk(&mut batch, log.topic, log.partition, next, slice);
                next = chunk.end();
                chunks.push(chunk);
            }
            written.push((topic, log, chunks));
        }
        OpenStore::apply(batch)?;
    }
    for (topic, log, chunks) in written {
        if !chunks.is_empty() {
            log.publish(chunks);
            topic.ring();
        }
    }
    Ok(())
}

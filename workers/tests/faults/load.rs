//! Clients: an open loop at a rate, whoever answers or not. A client that hears nothing, or is told to try again, sends what is
//! not settled again, with the same ids, to the next collector, until it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::clock;
use crate::delays::Delays;
use crate::expected::Expected;
use crate::script::Script;

/// Requests under way at once; more than that wait their turn, and the loop falls behind its schedule.
const REQUESTS: usize = 1_000;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it waits before it tries again.
const PAUSE: Duration = Duration::from_millis(300);
/// How often a probe is sent.
const PROBES: Duration = Duration::from_millis(250);
/// Users of the last events: enough that every partition has one.
const ENDS: u64 = 64 * 6;

/// Where to send the `n`-th try.
pub(crate) type Collectors = Arc<dyn Fn(u64) -> String + Send + Sync>;

pub(crate) struct Load {
    pub(crate) script: Script,
    pub(crate) expected: Mutex<Expected>,
    pub(crate) delays: Arc<Delays>,
    collectors: Collectors,
    client: reqwest::Client,
    stop: AtomicBool,
    places: Arc<Semaphore>,
    batches: AtomicU64,
    pub(crate) retries: AtomicU64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    items: Vec<ItemAnswer>,
}

#[derive(Deserialize)]
struct ItemAnswer {
    index: usize,
    status: String,
}

/// What became of an item, in the collector's own word.
enum Told {
    Accepted,
    Invalid,
}

impl Load {
    pub(crate) fn new(script: Script, lateness: Duration, collectors: Collectors) -> Arc<Self> {
        Arc::new(Self {
            expected: Mutex::new(Expected::new(i64::try_from(lateness.as_millis()).unwrap())),
            delays: Arc::default(),
            script,
            collectors,
            client: herd_stage::http_client().timeout(PATIENCE).build().unwrap(),
            stop: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(REQUESTS)),
            batches: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        })
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.expected.lock().stored()
    }

    /// Begins; runs until [`Load::finish`].
    pub(crate) fn start(self: &Arc<Self>) {
        let load = Arc::clone(self);
        tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            for batch in 0.. {
                tokio::time::sleep_until(begun + Duration::from_millis(load.script.due_ms(batch))).await;
                let place = Arc::clone(&load.places).acquire_owned().await.unwrap();
                if load.stop.load(Ordering::Relaxed) {
                    return;
                }
                load.batches.store(batch + 1, Ordering::Relaxed);
                let load = Arc::clone(&load);
                tokio::spawn(async move {
                    load.deliver(batch).await;
                    drop(place);
                });
            }
        });
        let load = Arc::clone(self);
        tokio::spawn(async move {
            for probe in 0.. {
                tokio::time::sleep(PROBES).await;
                let place = Arc::clone(&load.places).acquire_owned().await.unwrap();
                if load.stop.load(Ordering::Relaxed) {
                    return;
                }
                let load = Arc::clone(&load);
                tokio::spawn(async move {
                    load.probe(probe).await;
                    drop(place);
                });
            }
        });
    }

    async fn deliver(&self, batch: u64) {
        let mut open = self.script.batch(batch);
        for attempt in 0_u64.. {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
                self.sends_again(&open);
            }
            let raws: Vec<String> = open.iter().map(|n| self.script.raw(*n)).collect();
            let told = self.post(batch + attempt, &raws).await;
            open = self.heard(&open, told);
            if open.is_empty() {
                return;
            }
        }
    }

    fn sends_again(&self, numbers: &[u64]) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        let mut expected = self.expected.lock();
        for n in numbers {
            expected.retried.set(*n);
        }
    }

    /// Writes down what was told; what is not settled.
    fn heard(&self, numbers: &[u64], told: Vec<Option<Told>>) -> Vec<u64> {
        let now = clock::now();
        let mut expected = self.expected.lock();
        let mut left = Vec::new();
        for (n, told) in numbers.iter().zip(told) {
            match told {
                Some(Told::Accepted) => expected.accept(&self.script, *n, now),
                Some(Told::Invalid) => {
                    expected.invalid.set(*n);
                }
                None => left.push(*n),
            }
        }
        left
    }

    async fn probe(&self, probe: u64) {
        let (seed, time) = (self.script.seed, clock::now());
        let raw = format!(
            r#"{{"event_id":"p-{seed}-{probe}","type":"view","user_id":"probe-{probe}","item_id":"probe-{probe}","time":{time}}}"#
        );
        for attempt in 0.. {
            match self.post(probe + attempt, std::slice::from_ref(&raw)).await.pop() {
                Some(Some(Told::Accepted)) => {
                    self.delays.accepted(probe);
                    return self.expected.lock().accept_probe(probe, time, clock::now());
                }
                // A collector whose clock is wrong.
                Some(Some(Told::Invalid)) => return,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// What each item was told; none: nothing that settles it.
    async fn post(&self, attempt: u64, raws: &[String]) -> Vec<Option<Told>> {
        let mut told: Vec<Option<Told>> = raws.iter().map(|_| None).collect();
        let url = (self.collectors)(attempt);
        let request = self.client.post(format!("{url}/track")).header("content-type", "application/json");
        let Ok(answer) = request.body(format!("[{}]", raws.join(","))).send().await else { return told };
        let Ok(body) = answer.bytes().await else { return told };
        let Ok(answer) = serde_json::from_slice::<Answer>(&body) else { return told };
        for item in answer.items {
            told[item.index] = match item.status.as_str() {
                "accepted" => Some(Told::Accepted),
                "invalid" => Some(Told::Invalid),
                _ => None,
            };
        }
        told
    }

    /// Sends everything that was sent so far once more, as fast as it is taken.
    pub(crate) async fn replay(&self) -> u64 {
        let batches = self.batches.load(Ordering::Relaxed);
        for batch in 0..batches {
            let numbers = self.script.batch(batch);
            let raws: Vec<String> = {
                let mut expected = self.expected.lock();
                numbers.iter().for_each(|n| {
                    expected.retried.set(*n);
                });
                // What was never accepted (its client still tries, or a wrong clock refused it) must not be accepted behind that
                // client's back.
                let broken = |n: u64| self.script.event(n).is_none() && expected.invalid.has(n);
                let settled = |n: &&u64| expected.accepted.has(**n) || broken(**n);
                numbers.iter().filter(settled).map(|n| self.script.raw(*n)).collect()
            };
            if !raws.is_empty() {
                self.post(batch, &raws).await;
            }
        }
        batches * self.script.batch_size()
    }

    /// Ends the loop, waits until every client was told, and sends the last events, whose time closes all windows.
    pub(crate) async fn finish(&self, beyond: Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let waited = self.places.acquire_many(u32::try_from(REQUESTS).unwrap());
        let _all = tokio::time::timeout(Duration::from_secs(300), waited)
            .await
            .expect("clients are not told what became of their events")
            .unwrap();
        let (seed, time) = (self.script.seed, clock::now() + i64::try_from(beyond.as_millis()).unwrap());
        let mut open: Vec<String> = (0..ENDS)
            .map(|n| {
                format!(
                    r#"{{"event_id":"end-{seed}-{n}","type":"end","user_id":"end-{n}","item_id":"none","time":{time}}}"#
                )
            })
            .collect();
        for attempt in 0..200 {
            let told = self.post(attempt, &open).await;
            assert!(!told.iter().any(|told| matches!(told, Some(Told::Invalid))), "an end was refused");
            open =
                open.into_iter().zip(told).filter(|(_, told)| told.is_none()).map(|(raw, _)| raw).collect();
            self.expected.lock().ends = (time, ENDS - open.len() as u64);
            if open.is_empty() {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the last events are not accepted");
    }
}

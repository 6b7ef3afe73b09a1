//! Rooms and their subscribers. Sending never blocks: each client has a bounded outbox. If it overflows, the client is marked as too
//! slow and disconnected by its own task, without effect on other clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::ws::Utf8Bytes;
use compact_str::CompactString;
use hashbrown::HashMap;
use herd_spec::plan::Plan;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A room that clients can subscribe to. Metrics are identified by their index in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Room {
    /// Everything.
    All,
    /// Alerts.
    Alerts,
    /// Throughput and lag, every second.
    Stats,
    /// The trending list of a metric, every second.
    Trending(usize),
    /// All windows of a metric.
    Metric(usize),
    /// The windows of one key of a metric.
    Item(usize, CompactString),
}

impl Room {
    /// Parses the name of a room: `all`, `alerts`, `stats`, `trending:METRIC`, `metric:METRIC`, `item:METRIC/KEY`.
    ///
    /// # Errors
    /// Why the name is invalid.
    pub(crate) fn parse(name: &str, plan: &Plan) -> Result<Self, String> {
        let metric = |wanted: &str| {
            plan.metrics.iter().position(|metric| metric.name == wanted).ok_or_else(|| {
                let known: Vec<&str> = plan.metrics.iter().map(|metric| metric.name.as_str()).collect();
                format!("metric `{wanted}` does not exist; metrics of this pipeline: {}", known.join(", "))
            })
        };
        match name.split_once(':') {
            None if name == "all" => Ok(Self::All),
            None if name == "alerts" => Ok(Self::Alerts),
            None if name == "stats" => Ok(Self::Stats),
            Some(("trending", wanted)) => metric(wanted).map(Self::Trending),
            Some(("metric", wanted)) => metric(wanted).map(Self::Metric),
            Some(("item", wanted)) => match wanted.split_once('/') {
                Some((wanted, key)) if !key.is_empty() && key.len() <= MAX_KEY => {
                    Ok(Self::Item(metric(wanted)?, key.into()))
                }
                _ => Err(format!("room `{name}` has no key: write item:METRIC/KEY")),
            },
            _ => Err(format!(
                "room `{name}` does not exist: write all, alerts, stats, trending:METRIC, metric:METRIC or item:METRIC/KEY"
            )),
        }
    }
}

/// Maximum length of a key, in bytes.
pub(crate) const MAX_KEY: usize = 1024;

/// Sender of the queue of a client.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    id: u64,
    frames: mpsc::Sender<Utf8Bytes>,
    waiting: Arc<AtomicUsize>,
    most_bytes: usize,
    overflow: CancellationToken,
}

/// Receiver of the queue of a client, used by its task.
#[derive(Debug)]
pub(crate) struct Inbox {
    frames: mpsc::Receiver<Utf8Bytes>,
    waiting: Arc<AtomicUsize>,
    /// Cancelled when the client is too slow.
    pub(crate) overflow: CancellationToken,
}

impl Outbox {
    /// A queue with these limits. `id` identifies the client.
    #[must_use]
    pub(crate) fn new(id: u64, most_frames: usize, most_bytes: usize) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(most_frames.max(1));
        let waiting = Arc::<AtomicUsize>::default();
        let overflow = CancellationToken::new();
        let outbox = Self {
            id,
            frames: sender,
            waiting: Arc::clone(&waiting),
            most_bytes,
            overflow: overflow.clone(),
        };
        (outbox, Inbox { frames: receiver, waiting, overflow })
    }

    /// Queues a frame, or marks the client as too slow. An empty queue accepts a frame of any size.
    pub(crate) fn send(&self, frame: Utf8Bytes) {
        if self.overflow.is_cancelled() {
            return;
        }
        let size = frame.len();
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed);
        let fits = waiting == 0 || waiting + size <= self.most_bytes;
        if !fits || self.frames.try_send(frame).is_err() {
            self.overflow.cancel();
        }
    }
}

impl Inbox {
    /// The next frame.
    pub(crate) async fn next(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.recv().await?;
        self.waiting.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }

    /// The next frame, if one is queued.
    pub(crate) fn ready(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.try_recv().ok()?;
        self.waiting.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }
}

/// Subscribers of all rooms.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    rooms: HashMap<Room, Members>,
    items: Vec<HashMap<CompactString, Members>>,
}

#[derive(Clone, Debug)]
struct Members {
    name: String,
    outboxes: Vec<Outbox>,
}

impl Hub {
    /// Without subscribers.
    #[must_use]
    pub(crate) fn new(metrics: usize) -> Self {
        Self { rooms: HashMap::new(), items: vec![HashMap::new(); metrics] }
    }

    /// Subscribes a client; `name` is the name of the room in frames. Idempotent.
    pub(crate) fn join(&mut self, room: &Room, name: &str, outbox: &Outbox) {
        let fresh = || Members { name: name.to_owned(), outboxes: Vec::new() };
        let members = match room {
            Room::Item(metric, key) => self.items[*metric].entry(key.clone()).or_insert_with(fresh),
            other => self.rooms.entry(other.clone()).or_insert_with(fresh),
        };
        if members.outboxes.iter().all(|known| known.id != outbox.id) {
            members.outboxes.push(outbox.clone());
        }
    }

    /// Unsubscribes a client.
    pub(crate) fn leave(&mut self, room: &Room, outbox: &Outbox) {
        let left = |members: &mut Members| {
            members.outboxes.retain(|known| known.id != outbox.id);
            members.outboxes.is_empty()
        };
        match room {
            Room::Item(metric, key) => {
                if self.items[*metric].get_mut(key).is_some_and(left) {
                    self.items[*metric].remove(key);
                }
            }
            other => {
                if self.rooms.get_mut(other).is_some_and(left) {
                    self.rooms.remove(other);
                }
            }
        }
    }

    /// Sends to the subscribers of these rooms and of the room of `item`. `data` is built only if there are any.
    pub(crate) fn send(
        &self,
        kind: &str,
        rooms: &[Room],
        item: Option<(usize, &str)>,
        data: impl FnOnce() -> String,
    ) {
        let item = item.and_then(|(metric, key)| self.items.get(metric)?.get(key));
        let mut present = rooms.iter().filter_map(|room| self.rooms.get(room)).chain(item).peekable();
        if present.peek().is_none() {
            return;
        }
        let data = data();
        for members in present {
            let frame = frame(kind, &members.name, &data);
            for outbox in &members.outboxes {
                outbox.send(frame.clone());
            }
        }
    }
}

/// A frame of a room, with `data` as JSON.
#[must_use]
pub(crate) fn frame(kind: &str, room: &str, data: &str) -> Utf8Bytes {
    format!(r#"{{"type":"{kind}","room":{},"data":{data}}}"#, json(room)).into()
}

/// A value as JSON. All served types have string keys and infallible serializers.
#[must_use]
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(inbox: &mut Inbox) -> Vec<String> {
        std::iter::from_fn(|| inbox.ready()).map(|frame| frame.to_string()).collect()
    }

    #[test]
    fn frames_reach_only_subscribers_of_their_room() {
        let mut hub = Hub::new(1);
        let (first, mut first_in) = Outbox::new(1, 10, 1_000);
        let (second, mut second_in) = Outbox::new(2, 10, 1_000);
        hub.join(&Room::Item(0, "a".into()), "item:views/a", &first);
        hub.join(&Room::Item(0, "a".into()), "item:views/a", &first);
        hub.join(&Room::Metric(0), "metric:views", &second);
        hub.send("window", &[Room::All, Room::Metric(0)], Some((0, "a")), || "1".into());
        hub.send("window", &[Room::All, Room::Metric(0)], Some((0, "b")), || "2".into());
        assert_eq!(drain(&mut first_in), [r#"{"type":"window","room":"item:views/a","data":1}"#]);
        assert_eq!(drain(&mut second_in).len(), 2);
        hub.leave(&Room::Item(0, "a".into()), &first);
        hub.leave(&Room::Metric(0), &second);
        hub.send("window", &[Room::Metric(0)], Some((0, "a")), || unreachable!("no subscribers"));
        assert!(drain(&mut first_in).is_empty());
    }

    #[test]
    fn a_full_queue_affects_only_its_client() {
        let mut hub = Hub::new(0);
        let (slow, slow_in) = Outbox::new(1, 2, 1_000);
        let (quick, mut quick_in) = Outbox::new(2, 2, 1_000);
        hub.join(&Room::Stats, "stats", &slow);
        hub.join(&Room::Stats, "stats", &quick);
        for _ in 0..5 {
            hub.send("stats", &[Room::Stats], None, || "{}".into());
            assert_eq!(drain(&mut quick_in).len(), 1);
        }
        assert!(slow_in.overflow.is_cancelled());
        assert!(!quick_in.overflow.is_cancelled());
    }

    #[test]
    fn bytes_are_bounded_except_for_a_single_large_frame() {
        let (outbox, mut inbox) = Outbox::new(1, 100, 10);
        outbox.send("x".repeat(50).into());
        assert_eq!(drain(&mut inbox).len(), 1);
        outbox.send("12345".into());
        outbox.send("12345".into());
        assert!(!inbox.overflow.is_cancelled());
        outbox.send("1".into());
        assert!(inbox.overflow.is_cancelled());
    }
}

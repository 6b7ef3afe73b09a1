//! A topic: its partitions, the groups that read it and the consumers to wake when there is something new.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use herd_spec::units::Partition;
use parking_lot::{Mutex, RwLock};

use super::log::Log;
use crate::group::Group;
use crate::signal::Signal;

/// The deletion of a compacted topic's tombstones waits this long where `delete.retention.ms` says nothing: Kafka's default.
const TOMBSTONES: Duration = Duration::from_secs(24 * 3600);

/// A topic that is open.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) id: u32,
    policy: RwLock<Policy>,
    logs: RwLock<Vec<Arc<Log>>>,
    groups: Mutex<HashMap<String, Arc<Mutex<Group>>>>,
    listeners: Mutex<Vec<Weak<Signal>>>,
}

/// What becomes of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// The last record of a key is kept, the others go.
    pub(super) compact: bool,
    /// Records older than this go.
    pub(super) retention: Option<Duration>,
    /// How long a compacted topic keeps a tombstone.
    pub(super) tombstones: Duration,
}

impl Policy {
    /// From Kafka's names. Kafka's defaults: `delete`, seven days, a day.
    pub(super) fn of(config: &std::collections::BTreeMap<String, String>) -> Self {
        let policy = config.get("cleanup.policy").map_or("delete", String::as_str);
        let has = |what: &str| policy.split(',').any(|part| part.trim() == what);
        let millis = |name: &str| config.get(name).and_then(|text| text.trim().parse::<i64>().ok());
        let span = |name: &str, default: Duration| match millis(name) {
            Some(ms) => u64::try_from(ms).ok().map(Duration::from_millis),
            None => Some(default),
        };
        Self {
            compact: has("compact"),
            retention: span("retention.ms", Duration::from_secs(7 * 24 * 3600)).filter(|_| has("delete")),
            tombstones: span("delete.retention.ms", TOMBSTONES).unwrap_or(TOMBSTONES),
        }
    }
}

impl Topic {
    pub(super) fn new(name: String, id: u32, policy: Policy, logs: Vec<Arc<Log>>) -> Arc<Self> {
        Arc::new(Self {
            name,
            id,
            policy: RwLock::new(policy),
            logs: RwLock::new(logs),
            groups: Mutex::default(),
            listeners: Mutex::default(),
        })
    }

    pub(super) fn policy(&self) -> Policy {
        *self.policy.read()
    }

    pub(super) fn set_policy(&self, policy: Policy) {
        *self.policy.write() = policy;
    }

    pub(super) fn partitions(&self) -> u32 {
        // No topic has more than u32::MAX partitions: their numbers are u32.
        self.logs.read().len() as u32
    }

    pub(super) fn log(&self, partition: Partition) -> Option<Arc<Log>> {
        self.logs.read().get(partition.0 as usize).cloned()
    }

    pub(super) fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().clone()
    }

    /// Adds partitions and tells everybody.
    pub(super) fn grow(&self, more: Vec<Arc<Log>>) {
        self.logs.write().extend(more);
        let partitions = self.partitions();
        for group in self.groups.lock().values() {
            group.lock().grow(partitions);
        }
        self.ring();
    }

    pub(super) fn group(&self, name: &str) -> Arc<Mutex<Group>> {
        Arc::clone(self.groups.lock().entry(name.to_owned()).or_default())
    }

    /// Gives the partitions of silent members to others.
    pub(super) fn expire(&self, now: Instant, patience: Duration) {
        for (name, group) in &*self.groups.lock() {
            if group.lock().expire(now, patience) {
                tracing::warn!(
                    group = name,
                    topic = self.name,
                    "a member was silent for too long and lost its partitions"
                );
            }
        }
    }

    pub(super) fn listen(&self, signal: &Arc<Signal>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(signal));
    }

    /// Wakes all who read this topic.
    pub(super) fn ring(&self) {
        for listener in &*self.listeners.lock() {
            if let Some(signal) = listener.upgrade() {
                signal.ring();
            }
        }
    }
}

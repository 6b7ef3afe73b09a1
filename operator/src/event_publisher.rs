//! Publishes Events. Each note becomes an Event of its own: the recorder of the client library merges Events that differ only in their
//! note, so of `2 → 4` and `4 → 6` it would keep the first.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::desired::MANAGER;
use crate::events::EventAction;
use crate::reason::Reason;

/// For this long the same Event is not published again.
const REPEAT_AFTER: Duration = Duration::from_secs(300);
/// Published Events that are remembered, of all pipelines; the oldest are forgotten first.
const MAX_REMEMBERED: usize = 10_000;

/// Publishes Events, each at most once in five minutes.
pub struct EventPublisher {
    client: Client,
    instance: String,
    published: Mutex<HashMap<(String, String), Instant>>,
}

impl EventPublisher {
    /// A publisher. `instance` is the name of this process.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance, published: Mutex::default() }
    }

    /// Publishes an Event of an object, unless the same was published lately. True: it was written.
    ///
    /// # Errors
    /// If the API server rejects it.
    pub async fn publish(&self, regarding: &ObjectReference, event: &Event) -> Result<bool, kube::Error> {
        let key = (regarding.uid.clone().unwrap_or_default(), deduplication_key(event));
        if !self.is_new(key) {
            return Ok(false);
        }
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), namespace);
        let event = KubeEvent {
            metadata: ObjectMeta {
                generate_name: regarding.name.as_ref().map(|name| format!("{name}-")),
                namespace: Some(namespace.into()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(Timestamp::now())),
            type_: Some(type_name(&event.type_).into()),
            reason: Some(event.reason.clone()),
            action: Some(event.action.clone()),
            note: event.note.clone(),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(format!("herd.dev/{MANAGER}")),
            reporting_instance: Some(self.instance.clone()),
            ..KubeEvent::default()
        };
        api.create(&PostParams::default(), &event).await.map(|_| true)
    }

    fn is_new(&self, key: (String, String)) -> bool {
        let mut published = self.published.lock();
        let now = Instant::now();
        if published.get(&key).is_some_and(|at| now.duration_since(*at) < REPEAT_AFTER) {
            return false;
        }
        if published.len() >= MAX_REMEMBERED {
            published.retain(|_, at| now.duration_since(*at) < REPEAT_AFTER);
        }
        if published.len() >= MAX_REMEMBERED {
            let oldest = published.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                published.remove(&oldest);
            }
        }
        published.insert(key, now);
        true
    }
}

/// Two Events with the same key are the same. Findings of scaling contain numbers that differ each time, so their notes do not count.
fn deduplication_key(event: &Event) -> String {
    let changes = [Reason::ScaledUp, Reason::ScaledDown].iter().any(|reason| reason.name() == event.reason);
    let has_numbers = event.action == EventAction::Scale.name() && !changes;
    let note = event.note.as_deref().filter(|_| !has_numbers).unwrap_or_default();
    format!("{} {note}", event.reason)
}

fn type_name(kind: &EventType) -> &'static str {
    match kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    }
}

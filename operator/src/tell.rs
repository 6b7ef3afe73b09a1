//! Writes Events. Each note is its own line of the story: the client library's recorder merges Events that differ in nothing but
//! their note, and of `2 → 4` and `4 → 6` would show the first alone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as WrittenEvent;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::desired::MANAGER;

/// For this long the same is not said again.
const ONCE: Duration = Duration::from_secs(300);
/// Notes remembered, of all pipelines; when there are more, the oldest are forgotten first.
const REMEMBERED: usize = 10_000;

/// Writes Events, each once in five minutes.
pub struct Teller {
    client: Client,
    instance: String,
    told: Mutex<HashMap<(String, String), Instant>>,
}

impl Teller {
    /// `instance` is what this process is called.
    #[must_use]
    pub fn new(client: Client, instance: String) -> Self {
        Self { client, instance, told: Mutex::default() }
    }

    /// Writes an Event of an object, unless it has said the same a moment ago. True: it was written.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn tell(&self, regarding: &ObjectReference, event: &Event) -> Result<bool, kube::Error> {
        let key = (regarding.uid.clone().unwrap_or_default(), saying(event));
        if !self.is_new(key) {
            return Ok(false);
        }
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let api: Api<WrittenEvent> = Api::namespaced(self.client.clone(), namespace);
        let written = WrittenEvent {
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
            ..WrittenEvent::default()
        };
        api.create(&PostParams::default(), &written).await.map(|_| true)
    }

    fn is_new(&self, key: (String, String)) -> bool {
        let mut told = self.told.lock();
        let now = Instant::now();
        if told.get(&key).is_some_and(|at| now.duration_since(*at) < ONCE) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now.duration_since(*at) < ONCE);
        }
        if told.len() >= REMEMBERED {
            let oldest = told.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                told.remove(&oldest);
            }
        }
        told.insert(key, now);
        true
    }
}

/// What makes an Event the same as one before. What scaling cannot put right comes with numbers that differ each time.
fn saying(event: &Event) -> String {
    let numbers = event.action == "Scale" && !["ScaledUp", "ScaledDown"].contains(&&*event.reason);
    let note = event.note.as_deref().filter(|_| !numbers).unwrap_or_default();
    format!("{} {note}", event.reason)
}

fn type_name(kind: &EventType) -> &'static str {
    match kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    }
}

//! An API server in memory: stores applied objects, and injects faults. It has no schema and no defaults; Deployments are ready as soon as
//! they are applied.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body as Answer;
use axum::http::{Method, Request, Response};
use futures_util::stream;
use herd_operator::context::Context;
use herd_operator::event_publisher::EventPublisher;
use herd_operator::metrics::Metrics;
use herd_operator::scaling::Scaler;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A fault of watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WatchFault {
    /// They end after this duration.
    Dropped(Duration),
    /// They get 410 Gone: their resource version is too old.
    Gone,
}

/// A fault of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It is rejected with this code.
    Rejected { code: u16, retry_after: u32 },
    /// It is not done, and from then on the server does not answer.
    CrashBefore,
    /// It is done, and from then on the server does not answer.
    CrashAfter,
}

#[derive(Default)]
pub(crate) struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Deleted objects with their paths, as of the version of their deletion.
    deleted: Vec<(String, Value)>,
    /// Method and path of each request.
    pub(crate) calls: Vec<String>,
    /// Which write (from 0) fails, and how.
    pub(crate) fault: Option<(usize, Fault)>,
    /// Writes so far, but for Events.
    pub(crate) writes: usize,
    dead: bool,
    /// The delay of every answer.
    pub(crate) delay: Duration,
    pub(crate) watch_fault: Option<WatchFault>,
    /// Counts the changes of the fault: watches that started before one end.
    watch_generation: usize,
}

/// An API server. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Server(pub(crate) Arc<Mutex<State>>);

type Reply = (u16, Value);

impl Server {
    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let query = parts.uri.query().unwrap_or_default().to_owned();
                let delay = server.0.lock().delay;
                tokio::time::sleep(delay).await;
                if query.contains("watch=true") {
                    return Ok(Response::new(server.watch(parts.uri.path(), &query)));
                }
                let (code, reply) = server.answer(&parts.method, parts.uri.path(), &query, body);
                let answer = Response::builder().status(code).header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Answer::from(reply.to_string())).unwrap())
            }
        });
        Client::new(service, "default")
    }

    /// An operator that has just been started.
    pub(crate) fn operator(&self) -> Arc<Context> {
        let (client, image) = (self.client(), "herd/worker:1".to_owned());
        let event_publisher = EventPublisher::new(client.clone(), "test".into());
        Arc::new(Context::new(
            client,
            image,
            Arc::new(Scaler::default()),
            event_publisher,
            Metrics::default(),
        ))
    }

    /// Stores an object.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().store(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(path).cloned()
    }

    /// Injects a fault into all watches, or ends it; running ones end.
    pub(crate) fn watches(&self, fault: Option<WatchFault>) {
        let mut state = self.0.lock();
        state.watch_fault = fault;
        state.watch_generation += 1;
    }

    /// The changes of a collection since the version that the query names, as they come.
    fn watch(&self, path: &str, query: &str) -> Answer {
        let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        let from: u64 = from.and_then(|from| from.parse().ok()).unwrap_or(0);
        let (generation, fault) = {
            let mut state = self.0.lock();
            state.calls.push(format!("WATCH {path}"));
            (state.watch_generation, state.watch_fault)
        };
        if fault == Some(WatchFault::Gone) {
            let (_, gone) = status(410, "too old resource version", 0);
            return Answer::from(format!("{}\n", json!({"type": "ERROR", "object": gone})));
        }
        let (server, path, query) = (self.clone(), path.to_owned(), query.to_owned());
        let begun = Instant::now();
        Answer::from_stream(stream::unfold(from, move |from| {
            let (server, path, query) = (server.clone(), path.clone(), query.clone());
            async move {
                loop {
                    let over = matches!(fault, Some(WatchFault::Dropped(after)) if begun.elapsed() > after);
                    if over || server.0.lock().watch_generation != generation {
                        return None;
                    }
                    let (lines, newest) = server.0.lock().changes(&path, &query, from);
                    if !lines.is_empty() {
                        return Some((Ok::<_, Infallible>(lines), newest));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }))
    }

    /// Ends the fault.
    pub(crate) fn recover(&self) {
        let mut state = self.0.lock();
        (state.dead, state.fault) = (false, None);
    }

    /// All objects but Events, without what differs from run to run.
    pub(crate) fn objects(&self) -> BTreeMap<String, Value> {
        let mut objects = self.0.lock().objects.clone();
        objects.retain(|path, _| !path.contains("/events"));
        for object in objects.values_mut() {
            for field in ["resourceVersion", "generation"] {
                object["metadata"].as_object_mut().unwrap().remove(field);
            }
            for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
                condition.as_object_mut().unwrap().remove("lastTransitionTime");
                condition.as_object_mut().unwrap().remove("observedGeneration");
            }
            if let Some(status) = object["status"].as_object_mut() {
                status.remove("observedGeneration");
                status.remove("lastObserved");
            }
        }
        objects
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: Value) -> Reply {
        let mut state = self.0.lock();
        state.calls.push(format!("{method} {path}"));
        if state.dead {
            return status(503, "the connection is gone", 0);
        }
        if method == Method::GET {
            return state.read(path, query);
        }
        if path.contains("/events") {
            return (201, body);
        }
        let number = state.writes;
        state.writes += 1;
        match state.fault {
            Some((at, Fault::Rejected { code, retry_after })) if at == number => {
                return status(code, "rejected by the test", retry_after);
            }
            Some((at, Fault::CrashBefore)) if at == number => {
                state.dead = true;
                return status(503, "the connection is gone", 0);
            }
            _ => {}
        }
        let reply = state.write(method, path, body);
        if matches!(state.fault, Some((at, Fault::CrashAfter)) if at == number) {
            state.dead = true;
            return status(503, "the connection is gone", 0);
        }
        reply
    }
}

impl State {
    fn read(&self, path: &str, query: &str) -> Reply {
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        let items: Vec<Value> = self
            .collection(path, query)
            .map(|object| {
                // Items of a list come without their kind.
                let mut item = object.clone();
                item.as_object_mut().unwrap().retain(|name, _| name != "kind" && name != "apiVersion");
                item
            })
            .collect();
        if is_collection(path) {
            let metadata = json!({"resourceVersion": self.version.to_string()});
            return (200, json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}));
        }
        status(404, "not found", 0)
    }

    fn collection(&self, path: &str, query: &str) -> impl Iterator<Item = &Value> {
        let of_it = self.objects.iter().filter(move |(other, object)| {
            other.rsplit_once('/').is_some_and(|(folder, _)| folder == path) && selected(object, query)
        });
        of_it.map(|(_, object)| object)
    }

    /// Lines of a watch for what is newer than `from`, and the newest version among them.
    fn changes(&self, path: &str, query: &str, from: u64) -> (String, u64) {
        let version = |object: &Value| -> u64 {
            object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
        };
        let within = |other: &str| other.rsplit_once('/').is_some_and(|(folder, _)| folder == path);
        let gone = self.deleted.iter().filter(|(other, object)| within(other) && selected(object, query));
        let gone = gone.map(|(_, object)| ("DELETED", object));
        let there = self.collection(path, query).map(|object| ("MODIFIED", object));
        let newer = there.chain(gone).filter(|(_, object)| version(object) > from);
        newer.fold((String::new(), from), |(lines, newest), (change, object)| {
            let line = json!({"type": change, "object": object});
            (format!("{lines}{line}\n"), newest.max(version(object)))
        })
    }

    fn write(&mut self, method: &Method, path: &str, body: Value) -> Reply {
        let (at, part) = match path.strip_suffix("/status") {
            Some(at) => (at, Some("status")),
            None => (path, None),
        };
        if method == Method::DELETE {
            let Some(mut object) = self.objects.remove(at) else { return status(404, "not found", 0) };
            self.version += 1;
            object["metadata"]["resourceVersion"] = self.version.to_string().into();
            self.deleted.push((at.into(), object.clone()));
            return (200, object);
        }
        let mut object = self.objects.get(at).cloned().unwrap_or_else(|| json!({}));
        match part {
            Some(part) => object[part] = body[part].clone(),
            None => merge(&mut object, &body),
        }
        self.store(at, object);
        (200, self.objects[at].clone())
    }

    fn store(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid of {path}").into();
        }
        if path.contains("/deployments/") {
            let replicas = object["spec"]["replicas"].clone();
            object["status"] =
                json!({"replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas});
        }
        self.objects.insert(path.into(), object);
    }
}

/// `/api/v1/namespaces/NS/KIND` or `/apis/GROUP/VERSION/namespaces/NS/KIND`.
fn is_collection(path: &str) -> bool {
    let rest = path.split_once("/namespaces/").map(|(_, rest)| rest.matches('/').count());
    rest == Some(1)
}

fn selected(object: &Value, query: &str) -> bool {
    let Some(selector) = query.split('&').find_map(|part| part.strip_prefix("labelSelector=")) else {
        return true;
    };
    let selector = selector.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",");
    selector.split(',').all(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        object["metadata"]["labels"][name] == value
    })
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(object.entry(name).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn status(code: u16, message: &str, retry_after: u32) -> Reply {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": if code == 404 { "NotFound" } else { "Test" }, "code": code, "details": {"retryAfterSeconds": retry_after},
    });
    (code, status)
}

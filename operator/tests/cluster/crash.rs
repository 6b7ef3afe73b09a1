//! The operator crashes before and after each write of a first reconcile; the next one applies the same objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as Task, Poll};

use axum::http::{Method, Request, Response};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use herd_spec::pipeline::HerdPipeline;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::client::{Body, ClientBuilder};
use serde_json::{Value, json};
use tower::{BoxError, Service};

use crate::env::{TestEnv, config};
use crate::single_reconcile::{no_pods, objects, operator, reconcile_once};
use crate::topics;

/// Namespaces used concurrently.
const CONCURRENCY: usize = 4;

/// When a process crashes.
#[derive(Clone, Copy, Debug)]
struct Crash {
    /// At which of its writes, from 0.
    at: usize,
    /// Whether that write still reaches the API server.
    after: bool,
}

/// The state of a process.
#[derive(Clone, Default)]
struct Process {
    crash: Option<Crash>,
    writes: Arc<AtomicUsize>,
    crashed: Arc<AtomicBool>,
}

/// The client of a process that will crash.
struct CrashingClient<S> {
    inner: S,
    process: Process,
}

impl<S, B> Service<Request<Body>> for CrashingClient<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, task: &mut Task<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(task).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let process = &self.process;
        let killed = || Err::<Response<B>, BoxError>("killed".into());
        if process.crashed.load(Ordering::SeqCst) {
            return Box::pin(async move { killed() });
        }
        // Events are not part of the result.
        let writes = request.method() != Method::GET && !request.uri().path().contains("/events");
        let number = if writes { process.writes.fetch_add(1, Ordering::SeqCst) } else { usize::MAX };
        let crash = process.crash.filter(|crash| crash.at == number);
        process.crashed.fetch_or(crash.is_some(), Ordering::SeqCst);
        if crash.is_some_and(|crash| !crash.after) {
            return Box::pin(async move { killed() });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            if crash.is_some() { killed() } else { Ok(answer) }
        })
    }
}

async fn client(process: Process) -> Client {
    let layer = tower::layer::layer_fn(|inner| CrashingClient { inner, process: process.clone() });
    ClientBuilder::try_from(config().await).unwrap().with_layer(&layer).build()
}

/// A namespace with a pipeline that no operator has reconciled.
async fn new_pipeline(test: &str) -> TestEnv {
    let env = TestEnv::without_operator(test).await;
    no_pods(&env).await;
    env.secret("store", "url", "postgres://store").await;
    let mut pipeline: Value = topics::shop(&env);
    // The same in every namespace, or plans would differ.
    pipeline["spec"]["kafka"]["topicPrefix"] = "killed".into();
    pipeline["spec"]["kafka"]["deletionPolicy"] = "Delete".into();
    pipeline["spec"]["api"]["ingress"] = json!({"host": "shop.example"});
    env.apply(&pipeline).await.unwrap();
    env
}

async fn end(env: TestEnv) {
    // No operator is left to delete the topics.
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    env.api::<HerdPipeline>().patch("shop", &PatchParams::default(), &none).await.unwrap();
    env.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn next_operator_applies_the_same_objects_after_a_crash_at_any_write() {
    let undisturbed = new_pipeline("killed-never").await;
    let process = Process::default();
    reconcile_once(&undisturbed, &operator(client(process.clone()).await)).await.unwrap();
    let (wanted, writes) = (objects(&undisturbed).await, process.writes.load(Ordering::SeqCst));
    assert!(wanted.len() == 23 && writes > wanted.len(), "{writes} writes: {:?}", wanted.keys());
    let crashes = (0..writes).flat_map(|at| [false, true].map(|after| Crash { at, after }));
    stream::iter(crashes)
        .for_each_concurrent(CONCURRENCY, |crash| {
            let wanted = &wanted;
            async move {
                let env = new_pipeline(&format!("killed-{}-{}", crash.at, crash.after)).await;
                let process = Process { crash: Some(crash), ..Process::default() };
                let crashed = reconcile_once(&env, &operator(client(process.clone()).await)).await;
                assert!(crashed.is_err() && process.crashed.load(Ordering::SeqCst), "{crash:?}");
                let next = operator(env.client.clone());
                reconcile_once(&env, &next).await.unwrap();
                assert_eq!(&objects(&env).await, wanted, "{crash:?}");
                end(env).await;
            }
        })
        .await;
    end(undisturbed).await;
    println!("killed before and after each of {writes} writes");
}

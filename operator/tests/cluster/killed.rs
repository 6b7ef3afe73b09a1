//! The operator is killed before and after each single write of a first reconcile; the next one makes the same objects.

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

use crate::bed::{Bed, config};
use crate::once::{no_pods, objects, once, operator};
use crate::topics;

/// Namespaces worked in at the same time.
const AT_ONCE: usize = 4;

/// When a process dies.
#[derive(Clone, Copy, Debug)]
struct Death {
    /// At which of its writes, from 0.
    at: usize,
    /// Whether that one still reaches the API server.
    after: bool,
}

/// Whether it lives, and what it has written.
#[derive(Clone, Default)]
struct Life {
    death: Option<Death>,
    writes: Arc<AtomicUsize>,
    dead: Arc<AtomicBool>,
}

/// The way to the API server of a process that will be killed.
struct Mortal<S> {
    inner: S,
    life: Life,
}

impl<S, B> Service<Request<Body>> for Mortal<S>
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
        let life = &self.life;
        let killed = || Err::<Response<B>, BoxError>("killed".into());
        if life.dead.load(Ordering::SeqCst) {
            return Box::pin(async move { killed() });
        }
        // Events decide nothing.
        let writes = request.method() != Method::GET && !request.uri().path().contains("/events");
        let number = if writes { life.writes.fetch_add(1, Ordering::SeqCst) } else { usize::MAX };
        let death = life.death.filter(|death| death.at == number);
        life.dead.fetch_or(death.is_some(), Ordering::SeqCst);
        if death.is_some_and(|death| !death.after) {
            return Box::pin(async move { killed() });
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            if death.is_some() { killed() } else { Ok(answer) }
        })
    }
}

async fn client(life: Life) -> Client {
    let layer = tower::layer::layer_fn(|inner| Mortal { inner, life: life.clone() });
    ClientBuilder::try_from(config().await).unwrap().with_layer(&layer).build()
}

/// A namespace with a pipeline that no operator has seen yet.
async fn asked(test: &str) -> Bed {
    let bed = Bed::bare(test).await;
    no_pods(&bed).await;
    bed.secret("store", "url", "postgres://store").await;
    let mut pipeline: Value = topics::shop(&bed);
    // The same in every namespace, or plans would differ.
    pipeline["spec"]["kafka"]["topicPrefix"] = "killed".into();
    pipeline["spec"]["kafka"]["deletionPolicy"] = "Delete".into();
    pipeline["spec"]["api"]["ingress"] = json!({"host": "shop.example"});
    bed.apply(&pipeline).await.unwrap();
    bed
}

async fn end(bed: Bed) {
    // Nobody is left to take the topics down.
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    bed.api::<HerdPipeline>().patch("shop", &PatchParams::default(), &none).await.unwrap();
    bed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HERD_TEST_KUBECONFIG and HERD_TEST_KAFKA: make test sets them"]
async fn whatever_write_was_the_last_the_next_operator_makes_the_same_objects() {
    let undisturbed = asked("killed-never").await;
    let life = Life::default();
    once(&undisturbed, &operator(client(life.clone()).await)).await.unwrap();
    let (wanted, writes) = (objects(&undisturbed).await, life.writes.load(Ordering::SeqCst));
    assert!(wanted.len() == 23 && writes > wanted.len(), "{writes} writes: {:?}", wanted.keys());
    let deaths = (0..writes).flat_map(|at| [false, true].map(|after| Death { at, after }));
    stream::iter(deaths)
        .for_each_concurrent(AT_ONCE, |death| {
            let wanted = &wanted;
            async move {
                let bed = asked(&format!("killed-{}-{}", death.at, death.after)).await;
                let life = Life { death: Some(death), ..Life::default() };
                let killed = once(&bed, &operator(client(life.clone()).await)).await;
                assert!(killed.is_err() && life.dead.load(Ordering::SeqCst), "{death:?}");
                let next = operator(bed.client.clone());
                once(&bed, &next).await.unwrap();
                assert_eq!(&objects(&bed).await, wanted, "{death:?}");
                end(bed).await;
            }
        })
        .await;
    end(undisturbed).await;
    println!("killed before and after each of {writes} writes");
}

//! The test environment: a namespace, an operator that watches it, and ways to wait.

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use herd_operator::run::{RunError, run};
use herd_operator::settings::{LogFormat, Settings};
use herd_spec::pipeline::{HerdPipeline, StatusCondition};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ObjectMeta;
use kube::runtime::{conditions, wait::await_condition};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Parallel tests keep the controllers of the cluster busy.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The image of pods in these tests. It does not exist: these tests need objects, not running pods.
pub(crate) const IMAGE: &str = "herd.invalid/worker:none";

pub(crate) struct TestEnv {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    operators: Vec<Operator>,
}

pub(crate) struct Operator {
    pub(crate) port: u16,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Operator {
    pub(crate) async fn end(self) -> Result<(), RunError> {
        self.stop.cancel();
        tokio::time::timeout(TIMEOUT, self.task).await.expect("the operator ends in time").expect("no panic")
    }

    /// Ends it as if the process had been killed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The client configuration of the cluster.
pub(crate) async fn config() -> Config {
    herd_operator::tls::install_provider();
    let file = std::env::var("HERD_TEST_KUBECONFIG").expect("HERD_TEST_KUBECONFIG=FILE");
    let config = Kubeconfig::read_from(file).expect("a kubeconfig");
    Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.expect("a configuration")
}

impl TestEnv {
    /// A namespace in a cluster with the CRD, without an operator.
    pub(crate) async fn without_operator(test: &str) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter("herd_operator=info,warn")
            .with_test_writer()
            .try_init();
        let client = Client::try_from(config().await).expect("a client");
        install_crd(&client).await;
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        let namespace = format!("{test}-{stamp}");
        let api: Api<Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        api.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await.unwrap();
        Self { client, namespace, operators: Vec::new() }
    }

    /// The same with an operator.
    pub(crate) async fn new(test: &str) -> Self {
        let mut env = Self::without_operator(test).await;
        let operator = env.operator("one").await;
        env.operators.push(operator);
        env
    }

    pub(crate) async fn operator(&self, identity: &str) -> Operator {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            namespaces: vec![self.namespace.clone()],
            worker_image: IMAGE.into(),
            worker_image_pull_secrets: Vec::new(),
            lease_name: "herd-operator".into(),
            lease_namespace: self.namespace.clone(),
            identity: identity.into(),
            listen: listener.local_addr().unwrap(),
            log: LogFormat::Pretty,
        };
        let (stop, port) = (CancellationToken::new(), settings.listen.port());
        let task = tokio::spawn(run(settings, self.client.clone(), listener, stop.clone()));
        Operator { port, stop, task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.operators[0].port
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a pipeline as a user.
    pub(crate) async fn apply(&self, pipeline: &Value) -> Result<HerdPipeline, kube::Error> {
        let name = pipeline["metadata"]["name"].as_str().unwrap();
        let person = PatchParams::apply("person").force();
        self.api::<HerdPipeline>().patch(name, &person, &Patch::Apply(pipeline)).await
    }

    pub(crate) async fn secret(&self, name: &str, key: &str, value: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: value}});
        // Each key has its own field manager, so that a Secret can have several.
        let person = PatchParams::apply(&format!("person-{key}")).force();
        self.api::<Secret>().patch(name, &person, &Patch::Apply(&secret)).await.unwrap();
    }

    pub(crate) async fn deployment(&self, name: &str) -> Option<Deployment> {
        self.api::<Deployment>().get_opt(name).await.unwrap()
    }

    pub(crate) async fn condition(&self, pipeline: &str, kind: &str) -> Option<StatusCondition> {
        let pipeline = self.api::<HerdPipeline>().get_opt(pipeline).await.unwrap()?;
        pipeline.status?.conditions.into_iter().find(|condition| condition.kind == kind)
    }

    /// Waits for a condition of a pipeline to have this reason.
    pub(crate) async fn await_reason(&self, pipeline: &str, kind: &str, reason: &str) -> StatusCondition {
        until(&format!("{kind} of {pipeline} with reason {reason}"), async || {
            let now = self.condition(pipeline, kind).await;
            match now {
                Some(condition) if condition.reason == reason => Ok(condition),
                other => Err(other),
            }
        })
        .await
    }

    pub(crate) async fn events(&self, reason: &str) -> Vec<String> {
        let all = self.api::<k8s_openapi::api::core::v1::Event>().list(&Default::default()).await.unwrap();
        let found = all.items.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        found.filter_map(|event| event.message).collect()
    }

    /// Ends the operators and removes the namespace.
    pub(crate) async fn end(self) {
        for operator in self.operators {
            operator.end().await.unwrap();
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::background()).await.unwrap();
    }
}

async fn install_crd(client: &Client) {
    let crd = herd_spec::crd::crd();
    let name = crd.metadata.name.clone().unwrap();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
    let established = await_condition(api, &name, conditions::is_crd_established());
    tokio::time::timeout(TIMEOUT, established).await.expect("the CRD is established").unwrap();
}

/// Waits until `probe` returns a value; panics with its last error after the timeout.
pub(crate) async fn until<T, E: Debug>(what: &str, mut probe: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(last) if Instant::now() > deadline => panic!("waited for {what}; last seen: {last:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// An example of the project, changed for Kubernetes: with a Kafka cluster, and PostgreSQL instead of SQLite.
pub(crate) fn example(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let mut pipeline: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let servers = std::env::var("HERD_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:1".into());
    pipeline["spec"]["kafka"] = json!({"bootstrapServers": [servers], "partitions": 2});
    for sink in pipeline["spec"]["sinks"].as_array_mut().into_iter().flatten() {
        let sink = sink.as_object_mut().unwrap();
        if sink.remove("sqlite").is_some() {
            sink.insert("postgres".into(), json!({"url": {"name": "store", "key": "url"}}));
        }
    }
    pipeline
}

//! Stages whose broker or database is not there: they answer, quickly, and say what they are without.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use herd_bus::kafka::KafkaBus;
use herd_spec::health::{HealthReport, Trouble};
use herd_spec::plan::Plan;
use herd_stage::{Secrets, Stage};
use herd_workers::{kafka, ops, store};
use reqwest::{Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

/// A pipeline on a Kafka and in a database; nobody listens at port 1.
fn plan(postgres: Option<&str>, folder: &tempfile::TempDir) -> (Arc<Plan>, Secrets) {
    let url = postgres.unwrap_or("postgres://nobody@127.0.0.1:1/none");
    std::fs::create_dir_all(folder.path().join("store")).unwrap();
    std::fs::write(folder.path().join("store/url"), url).unwrap();
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let yaml = format!(
        "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {{name: outages}}\nspec:\n  \
         kafka: {{bootstrapServers: ['127.0.0.1:1']}}\n  \
         collector: {{limits: {{ackTimeout: 1s}}}}\n  \
         metrics: [{{name: views, window: 10s}}]\n  \
         sinks: [{{name: db, postgres: {{url: {{name: store, key: url}}, schema: outages_{stamp}}}}}]\n"
    );
    let plan = Plan::parse(&herd_spec::document::parse(&yaml).unwrap()).unwrap();
    (Arc::new(plan), Secrets::new(Some(folder.path())))
}

fn bus(plan: &Plan, secrets: &Secrets) -> KafkaBus {
    kafka::connect(plan.kafka.as_ref().unwrap(), secrets, "outages").unwrap()
}

/// A stage that runs, with its operational endpoints.
struct Running {
    http: reqwest::Client,
    url: String,
    ops: String,
    stage: Stage,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    async fn start<F: Future<Output = ()> + Send + 'static>(
        secrets: &Secrets,
        run: impl FnOnce(Stage, TcpListener) -> F,
    ) -> Self {
        let stage = Stage::new(CancellationToken::new(), secrets.clone());
        let (listener, ops) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (url, ops_url) = (address(&listener), address(&ops));
        let end = stage.shutdown.clone();
        let served = ops::serve(stage.clone(), ops, end);
        let tasks = vec![
            tokio::spawn(run(stage.clone(), listener)),
            tokio::spawn(async move { served.await.unwrap() }),
        ];
        Self { http: herd_stage::http_client().build().unwrap(), url, ops: ops_url, stage, tasks }
    }

    async fn report(&self, path: &str) -> (StatusCode, HealthReport) {
        let answer = self.http.get(format!("{}{path}", self.ops)).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Waits until the stage is ready and in this trouble, or in none.
    async fn await_trouble(&self, step: &str, reason: Option<Trouble>) -> HealthReport {
        let begun = Instant::now();
        loop {
            let (status, report) = self.report("/readyz").await;
            let found = report.troubles.iter().find(|complaint| complaint.step == step);
            if status == StatusCode::OK && found.map(|complaint| complaint.reason) == reason {
                return report;
            }
            assert!(begun.elapsed() < PATIENCE, "{step} is not in {reason:?}: {report:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An answer of the api, which must come within a second.
    async fn quick(&self, path: &str) -> Response {
        let begun = Instant::now();
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{path} took {:?}", begun.elapsed());
        answer
    }

    async fn end(self) {
        self.stage.shutdown.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_without_kafka_is_ready_and_answers_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, secrets) = plan(None, &folder);
    let bus = bus(&plan, &secrets);
    let collector = Running::start(&secrets, move |stage, listener| async move {
        herd_collector::run(plan, bus, stage, listener).await.unwrap();
    })
    .await;
    let report = collector.await_trouble("broker", Some(Trouble::KafkaUnreachable)).await;
    assert!(report.ready && report.starting.is_empty(), "{report:?}");
    let sent = collector.http.post(format!("{}/track", collector.url));
    let sent = sent.header("content-type", "application/json").header("origin", "https://shop.example");
    let answer = sent.body(r#"{"type":"view"}"#).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://shop.example");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let report = collector.await_trouble("delivery", Some(Trouble::DeliveryFailing)).await;
    assert_eq!(collector.report("/statusz").await.1.troubles.len(), report.troubles.len());
    collector.end().await;
}

async fn api(plan: Arc<Plan>, secrets: &Secrets, folder: &tempfile::TempDir) -> Running {
    let (bus, store) = (bus(&plan, secrets), store::of_api(&plan, secrets, folder.path()).unwrap());
    Running::start(secrets, move |stage, listener| async move {
        herd_api::run(plan, bus, store, stage, listener, None).await.unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_without_kafka_and_database_serves_what_it_has_and_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, secrets) = plan(None, &folder);
    let api = api(plan, &secrets, &folder).await;
    for (step, reason) in [
        ("bus", Trouble::KafkaUnreachable),
        ("windows", Trouble::KafkaUnreachable),
        ("store", Trouble::DatabaseUnreachable),
    ] {
        api.await_trouble(step, Some(reason)).await;
    }
    for path in ["/api/v1/pipeline", "/api/v1/stats", "/api/v1/trending", "/"] {
        assert_eq!(api.quick(path).await.status(), StatusCode::OK, "{path}");
    }
    let answer = api.quick("/api/v1/stats").await;
    let missing = answer.headers()["herd-missing"].to_str().unwrap();
    assert!(
        missing.contains("store=DatabaseUnreachable") && missing.contains("bus=KafkaUnreachable"),
        "{missing}"
    );
    for path in ["/api/v1/alerts", "/api/v1/metrics/views/windows?key=a"] {
        let answer = api.quick(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert!(body["missing"].as_str().unwrap().contains("the store is unavailable"), "{path}: {body}");
    }
    for path in ["/api/v1/users", "/api/v1/users/ann", "/api/v1/users/ann/events"] {
        let answer = api.quick(path).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.headers()["retry-after"], "2");
    }
    api.end().await;
}

/// A way to the database that can be cut, so that the database itself need not be stopped.
struct Way {
    address: String,
    open: Arc<AtomicBool>,
}

impl Way {
    async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, open) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicBool::new(false)));
        let ours = Arc::clone(&open);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (open, target) = (Arc::clone(&ours), target.clone());
                tokio::spawn(async move {
                    if !open.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let cut = async {
                        while open.load(Ordering::Relaxed) {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Self { address, open }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HERD_TEST_POSTGRES: make test sets it"]
async fn a_database_that_comes_late_and_goes_and_comes_back_is_used_whenever_it_is_there() {
    let real = std::env::var("HERD_TEST_POSTGRES").expect("HERD_TEST_POSTGRES=URL");
    let (scheme, rest) = real.split_once("://").unwrap();
    let (host, database) = rest.split_once('/').unwrap();
    let (user, address) = host.rsplit_once('@').map_or(("", host), |(user, address)| (user, address));
    let way = Way::to(address.to_owned()).await;
    let at = if user.is_empty() { way.address.clone() } else { format!("{user}@{}", way.address) };
    let folder = tempfile::tempdir().unwrap();
    let (plan, secrets) = plan(Some(&format!("{scheme}://{at}/{database}")), &folder);
    let api = api(plan, &secrets, &folder).await;
    for _ in 0..2 {
        api.await_trouble("store", Some(Trouble::DatabaseUnreachable)).await;
        assert_eq!(api.quick("/api/v1/users").await.status(), StatusCode::SERVICE_UNAVAILABLE);
        way.open.store(true, Ordering::Relaxed);
        api.await_trouble("store", None).await;
        assert_eq!(api.quick("/api/v1/users").await.status(), StatusCode::OK);
        way.open.store(false, Ordering::Relaxed);
        // At once, also before anybody has noticed.
        for _ in 0..20 {
            api.quick("/api/v1/users").await;
        }
    }
    api.end().await;
}

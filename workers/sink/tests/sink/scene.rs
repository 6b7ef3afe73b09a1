//! A plan, a running sink, and ways to wait for what it does.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use herd_sink::SinkError;
use herd_spec::plan::{Plan, SinkKind, SinkPlan};
use herd_spec::units::EventTime;
use herd_spec::wire::{Alert, AlertId, AlertState, Explanation, Severity};
use herd_stage::{Secrets, Stage};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::MemoryBus;

pub(crate) const GROUP: &str = "shop.sink.main";
pub(crate) const EVENTS: &str = "shop.events";
pub(crate) const WINDOWS: &str = "shop.windows";
pub(crate) const ALERTS: &str = "shop.alerts";
pub(crate) const DEAD: &str = "shop.dead-letter";

pub(crate) fn memory_bus() -> MemoryBus {
    MemoryBus::with(&[(EVENTS, 2), (WINDOWS, 1), (ALERTS, 1), (DEAD, 1)])
}

/// Its topics are those above.
fn plan() -> Plan {
    let yaml = "apiVersion: herd.dev/v1alpha1\nkind: HerdPipeline\nmetadata: {name: shop}\nspec: {}\n";
    Plan::parse(&herd_spec::document::parse(yaml).unwrap()).unwrap()
}

pub(crate) struct Running {
    pub(crate) stage: Stage,
    task: JoinHandle<Result<(), SinkError>>,
}

/// Starts a sink; secrets are read from `<data>/secrets`.
pub(crate) fn start(kind: SinkKind, bus: &MemoryBus, data: &Path) -> Running {
    let stage = Stage::new(CancellationToken::new(), Secrets::new(Some(&data.join("secrets"))));
    let plan = plan();
    let size = plan.detection.clone();
    let sink = SinkPlan { name: "main".parse().unwrap(), group: GROUP.into(), kind, stage: size };
    let running =
        herd_sink::run(Arc::new(plan), sink, bus.clone(), stage.clone(), data.to_owned(), "m-0".into());
    Running { stage, task: tokio::spawn(running) }
}

pub(crate) fn secret(data: &Path, name: &str, value: &str) -> herd_spec::pipeline::SecretRef {
    std::fs::create_dir_all(data.join("secrets").join(name)).unwrap();
    std::fs::write(data.join("secrets").join(name).join("value"), value).unwrap();
    herd_spec::pipeline::SecretRef { name: name.into(), key: "value".into() }
}

impl Running {
    pub(crate) async fn stop(self) -> Result<(), SinkError> {
        self.stage.shutdown.cancel();
        self.task.await.unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        self.stage
            .register(|registry| prometheus_client::encoding::text::encode(&mut text, registry))
            .unwrap();
        text
    }
}

/// Waits until `holds`, at most 20 seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn alert(key: &str, state: AlertState) -> Alert {
    let start = EventTime(1_700_000_000_000);
    Alert {
        v: 1,
        id: AlertId::of("shop", "rush", key, start),
        pipeline: "shop".parse().unwrap(),
        detector: "rush".into(),
        metric: "views".into(),
        rule: herd_spec::wire::Fingerprint::default(),
        key: key.into(),
        severity: Severity::Warning,
        state,
        start,
        size_ms: 10_000,
        span_ms: 10_000,
        count: 412,
        value: 412.0,
        expected: 35.0,
        spread: 6.0,
        score: 62.83,
        summary: format!("{key}: 412 views in 10 s"),
        resolved: None,
        episode: None,
        explanation: None,
    }
}

pub(crate) fn explained(alert: &Alert, seconds: i64) -> Alert {
    let explanation = Explanation {
        until: EventTime(1_700_000_000_000 + 1000 * seconds),
        events: 412,
        sampled: false,
        users: 380,
        causes: vec![],
        summary: "92 % of the excess from country BR; 380 people".into(),
    };
    Alert { explanation: Some(explanation), ..alert.clone() }
}

/// Puts an alert as one that is sent now.
pub(crate) fn put_alert_now(bus: &MemoryBus, alert: &Alert) {
    let mut bytes = Vec::new();
    alert.write(&mut bytes);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    bus.put(ALERTS, 0, i64::try_from(now.as_millis()).unwrap(), bytes);
}

pub(crate) fn put_alert(bus: &MemoryBus, alert: &Alert) {
    let mut bytes = Vec::new();
    alert.write(&mut bytes);
    bus.put(ALERTS, 0, 1_700_000_011_000, bytes);
}

pub(crate) fn header(kept: &crate::bus::Kept, name: &str) -> String {
    let found = kept.headers.iter().find(|(known, _)| known == name);
    String::from_utf8(found.unwrap_or_else(|| panic!("no header {name}")).1.clone()).unwrap()
}

//! The pods of a stage.

use std::collections::BTreeMap;

use herd_spec::pipeline::{ResourcesSpec, SecretRef};
use herd_spec::quantity;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, HTTPGetAction, KeyToPath, LocalObjectReference, ObjectFieldSelector, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::config_map::PLAN;
use super::{Sized, Surroundings, labels};
use crate::stage::Role;

/// The name of the port at which clients are served, by stages that have any.
pub(super) const HTTP: &str = "http";
const PORT: i32 = 8080;
/// The name of the port of probes and metrics, which every stage has and no Service shows.
pub(super) const OPS: &str = "ops";
/// Its number.
pub const OPS_PORT: u16 = 9090;
const SECRETS: &str = "/etc/herd/secrets";
const DATA: &str = "/var/lib/herd";
/// Nobody's in particular; the image's own user.
const USER: i64 = 65532;
/// How long a leaving pod that serves clients goes on as before: the cluster's proxies, and those at its edge, learn meanwhile that it
/// leaves. In the process rather than as a `preStop` of the container, for the image has no shell.
const DRAIN_SECONDS: i64 = 8;
/// A leaving pod finishes what it has fetched, commits, and goes: sooner than this. A collector takes at most 20 s for requests under
/// way, and 20 s for the broker to acknowledge.
const GRACE_SECONDS: i64 = DRAIN_SECONDS + 52;

/// The Deployment; `plan` stands for the plan that its pods read when they start.
pub(super) fn build(around: &Surroundings, sized: &Sized, plan: &str) -> Deployment {
    let role = &sized.stage.role;
    let selector = || LabelSelector { match_labels: Some(around.selector(role)), ..LabelSelector::default() };
    let annotations = BTreeMap::from([
        ("herd.dev/plan".to_owned(), plan.to_owned()),
        ("herd.dev/secrets".to_owned(), sized.secrets.clone()),
    ]);
    Deployment {
        metadata: around.metadata(role),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(sized.replicas).unwrap_or(i32::MAX)),
            selector: selector(),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".into())),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(300),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels::all(&around.pipeline, role)),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(around, sized, selector())),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod(around: &Surroundings, sized: &Sized, selector: LabelSelector) -> PodSpec {
    let role = &sized.stage.role;
    PodSpec {
        service_account_name: Some(around.name_of(role)),
        image_pull_secrets: (!around.pull_secrets.is_empty()).then(|| pull_secrets(around)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                .map(|key| TopologySpreadConstraint {
                    max_skew: 1,
                    topology_key: key.into(),
                    when_unsatisfiable: "ScheduleAnyway".into(),
                    label_selector: Some(selector.clone()),
                    ..TopologySpreadConstraint::default()
                })
                .into(),
        ),
        containers: vec![container(around, sized)],
        volumes: Some(volumes(around, sized)),
        ..PodSpec::default()
    }
}

fn pull_secrets(around: &Surroundings) -> Vec<LocalObjectReference> {
    around.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
}

fn container(around: &Surroundings, sized: &Sized) -> Container {
    let role = &sized.stage.role;
    let mut args = match role {
        Role::Collector => vec!["collector".into()],
        Role::Detector => vec!["detector".into()],
        Role::Sink(name) => vec!["sink".into(), "--name".into(), name.to_string()],
        Role::Api => vec!["api".into(), "--collector".into(), around.url_of(&Role::Collector)],
    };
    let plan = format!("/etc/herd/{PLAN}");
    let (listen, ops) = (format!("0.0.0.0:{PORT}"), format!("0.0.0.0:{OPS_PORT}"));
    let drain = format!("{DRAIN_SECONDS}s");
    let mut flags =
        vec![("--plan", &*plan), ("--ops-listen", &*ops), ("--secrets", SECRETS), ("--data", DATA)];
    if role.serves() {
        flags.extend([("--listen", &*listen), ("--drain", &*drain)]);
    }
    for (flag, value) in flags {
        args.extend([flag.to_owned(), value.to_owned()]);
    }
    let port = |name: &str, number: i32| ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    };
    let http = role.serves().then(|| port(HTTP, PORT));
    Container {
        name: "worker".into(),
        image: Some(around.image.clone()),
        command: Some(vec!["herd-worker".into()]),
        args: Some(args),
        env: Some(vec![EnvVar {
            name: "HERD_MEMBER".into(),
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    field_path: "metadata.name".into(),
                    api_version: Some("v1".into()),
                }),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        ports: Some(http.into_iter().chain([port(OPS, i32::from(OPS_PORT))]).collect()),
        // Two minutes to start: stores are migrated, baselines read back.
        startup_probe: Some(probe("/healthz", 2, 60)),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        // A pod that drains says that it is not ready, to whoever asks it. Here that counts only after it has drained: until then it
        // serves a Service that has no other pod.
        readiness_probe: Some(probe("/readyz", 5, 3)),
        // What a worker leaves there, or, where it could not, the end of its log.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        resources: Some(resources(&sized.stage.size.resources)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(sized)),
        ..Container::default()
    }
}

fn probe(path: &str, seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(OPS.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(seconds),
        failure_threshold: Some(failures),
        timeout_seconds: Some(3),
        ..Probe::default()
    }
}

/// What a pod is given where nothing is asked for: enough for a small pipeline.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "256Mi")];
/// Memory is bounded, so that a leak ends here and not at the node.
const LIMITS: [(&str, &str); 1] = [("memory", "1Gi")];

/// What was asked for, field by field, and the defaults for the rest. A limit that is written without a request is the request too,
/// as everywhere in Kubernetes. A default never contradicts what is written: a request of more than the default limit raises it.
fn resources(asked: &ResourcesSpec) -> ResourceRequirements {
    let (mut requests, mut limits) = (asked.requests.clone(), asked.limits.clone());
    for (name, usual) in REQUESTS {
        if !limits.contains_key(name) {
            requests.entry(name.into()).or_insert_with(|| usual.into());
        }
    }
    for (name, usual) in LIMITS {
        let raised =
            asked.requests.get(name).filter(|request| quantity::read(request) > quantity::read(usual));
        limits.entry(name.into()).or_insert_with(|| raised.map_or_else(|| usual.into(), Clone::clone));
    }
    let quantities = |map: BTreeMap<String, String>| {
        Some(map.into_iter().map(|(name, value)| (name, Quantity(value))).collect())
    };
    ResourceRequirements { requests: quantities(requests), limits: quantities(limits), claims: None }
}

/// The stage's Secrets with their keys, by name.
fn by_name(secrets: &[SecretRef]) -> BTreeMap<&str, Vec<&str>> {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for secret in secrets {
        by_name.entry(&secret.name).or_default().push(&secret.key);
    }
    by_name
}

fn volumes(around: &Surroundings, sized: &Sized) -> Vec<Volume> {
    let plan = Volume {
        name: "plan".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: around.name_of(&sized.stage.role),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let data =
        Volume { name: "data".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    let secrets = by_name(&sized.stage.secrets);
    let secrets = secrets.into_iter().enumerate().map(|(at, (name, keys))| Volume {
        name: format!("secret-{at}"),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.into()),
            default_mode: Some(0o440),
            items: Some(
                keys.into_iter()
                    .map(|key| KeyToPath { key: key.into(), path: key.into(), mode: None })
                    .collect(),
            ),
            optional: None,
        }),
        ..Volume::default()
    });
    [plan, data].into_iter().chain(secrets).collect()
}

fn mounts(sized: &Sized) -> Vec<VolumeMount> {
    let mount = |name: String, path: String, sub_path: Option<&str>, read_only: bool| VolumeMount {
        name,
        mount_path: path,
        sub_path: sub_path.map(str::to_owned),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let secrets = by_name(&sized.stage.secrets);
    let secrets = secrets
        .into_keys()
        .enumerate()
        .map(|(at, name)| mount(format!("secret-{at}"), format!("{SECRETS}/{name}"), None, true));
    let plan = mount("plan".into(), format!("/etc/herd/{PLAN}"), Some(PLAN), true);
    [plan, mount("data".into(), DATA.into(), None, false)].into_iter().chain(secrets).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// `cpu=1,memory=2Gi` as a map.
    fn map(written: &str) -> BTreeMap<String, String> {
        let pairs = written.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn written(of: Option<BTreeMap<String, Quantity>>) -> String {
        let pairs =
            of.unwrap_or_default().into_iter().map(|(name, Quantity(value))| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }

    #[rstest]
    #[case::nothing("", "", "cpu=100m,memory=256Mi", "memory=1Gi")]
    #[case::one_request("cpu=5m", "", "cpu=5m,memory=256Mi", "memory=1Gi")]
    #[case::one_limit("", "cpu=2", "memory=256Mi", "cpu=2,memory=1Gi")]
    #[case::a_limit_is_the_request_too("", "memory=64Mi", "cpu=100m", "memory=64Mi")]
    #[case::more_than_the_default_limit("memory=3Gi", "", "cpu=100m,memory=3Gi", "memory=3Gi")]
    #[case::all_of_it("cpu=1,memory=2Gi", "cpu=2,memory=2Gi", "cpu=1,memory=2Gi", "cpu=2,memory=2Gi")]
    #[case::another_resource(
        "example.com/gpu=1",
        "example.com/gpu=1",
        "cpu=100m,example.com/gpu=1,memory=256Mi",
        "example.com/gpu=1,memory=1Gi"
    )]
    fn what_is_not_written_keeps_its_default(
        #[case] requests: &str,
        #[case] limits: &str,
        #[case] expected_requests: &str,
        #[case] expected_limits: &str,
    ) {
        let merged = resources(&ResourcesSpec { requests: map(requests), limits: map(limits) });
        assert_eq!(written(merged.requests.clone()), expected_requests);
        assert_eq!(written(merged.limits.clone()), expected_limits);
        // The API server refuses a pod whose request is more than its limit.
        let limits = merged.limits.unwrap();
        for (name, Quantity(request)) in merged.requests.unwrap() {
            if let Some(Quantity(limit)) = limits.get(&name) {
                assert!(quantity::read(&request) <= quantity::read(limit), "{name}: {request} > {limit}");
            }
        }
    }
}

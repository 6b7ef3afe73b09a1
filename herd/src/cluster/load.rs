//! `herd load`: runs `herd generate` as a Job in the cluster, against the collectors of a pipeline.

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{ClusterArgs, ClusterError};
use crate::output::{self, CommandResult};
use crate::shoppers::ProfileKind;
use herd_spec::pipeline::{SecretRef, Span};

/// Runs the load generator as a Job in the cluster, against the collectors of a pipeline
#[derive(Args, Debug)]
pub struct Load {
    /// Name of the pipeline
    pipeline: String,
    /// Mean rate in events per second
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Duration
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    lasts: Span,
    /// Shape of the load over time
    #[arg(long, value_enum, default_value_t)]
    profile: ProfileKind,
    #[command(flatten)]
    pub(crate) cluster_args: ClusterArgs,
}

impl Load {
    /// Creates the Job and prints how to watch it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> CommandResult {
        let cluster = self.cluster_args.connect().await?;
        let pipeline = cluster.pipeline(&self.pipeline).await?;
        let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let name = format!("{}-collector", self.pipeline);
        let collector = deployments.get(&name).await;
        let collector = collector.map_err(ClusterError::api(format!("reading the Deployment {name}")))?;
        let image = image(&collector).ok_or_else(|| ClusterError::Api {
            doing: format!("reading the Deployment {name}"),
            why: "it has no container image".into(),
        })?;
        let profile = clap::ValueEnum::to_possible_value(&self.profile)
            .map_or_else(|| "steady".to_owned(), |value| value.get_name().to_owned());
        let key = pipeline.spec.collector.auth.as_ref().and_then(|auth| auth.keys.first());
        let key = key.map(|key| &key.secret_ref);
        let job = job(&self.pipeline, &image, key, self.rate, &self.lasts.to_string(), &profile);
        let jobs: Api<Job> = Api::namespaced(cluster.client, &cluster.namespace);
        let job: Job = serde_json::from_value(job).map_err(|error| ClusterError::Api {
            doing: "building the Job".into(),
            why: error.to_string(),
        })?;
        let created = jobs.create(&PostParams::default(), &job).await;
        let created = created.map_err(ClusterError::api("creating the Job"))?.name_any();
        Ok(output::line(&format!(
            "Job {created} sends {} events/s for {} to {}\n\n  herd top {} --namespace {}\n  kubectl --namespace {} logs --follow job/{created}\n  kubectl --namespace {} delete job/{created}",
            self.rate,
            self.lasts,
            self.pipeline,
            self.pipeline,
            cluster.namespace,
            cluster.namespace,
            cluster.namespace
        ))?)
    }
}

/// The image of the collector, which contains the generator.
fn image(collector: &Deployment) -> Option<String> {
    collector.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone()
}

/// `key` is where a write key is, if the collectors ask for one.
fn job(pipeline: &str, image: &str, key: Option<&SecretRef>, rate: u32, lasts: &str, profile: &str) -> Value {
    let key = key.map(|key| {
        let source = json!({"secretKeyRef": {"name": key.name, "key": key.key}});
        json!({"name": "HERD_WRITE_KEY", "valueFrom": source})
    });
    let env: Vec<Value> = key.into_iter().collect();
    let labels = json!({"app.kubernetes.io/name": "herd-load", "app.kubernetes.io/part-of": "herd"});
    let collector = format!("http://{pipeline}-collector");
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": format!("{pipeline}-load-"), "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 3600,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": "generate",
                        "image": image,
                        "command": ["herd", "generate", "--to", collector],
                        "args": ["--rate", rate.to_string(), "--for", lasts, "--profile", profile, "--period", lasts, "--batch", "100"],
                        "env": env,
                        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_has_only_fields_of_the_kubernetes_api() {
        let key = SecretRef { name: "keys".into(), key: "web".into() };
        let job = job("shop", "herd/worker:1", Some(&key), 500, "5m", "steps");
        let typed: Job = serde_json::from_value(job.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap()["spec"], job["spec"]);
        let env = &job["spec"]["template"]["spec"]["containers"][0]["env"][0];
        assert_eq!(env["valueFrom"]["secretKeyRef"], json!({"name": "keys", "key": "web"}));
    }
}

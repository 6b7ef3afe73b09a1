//! Pipelines on Kubernetes, from the kubeconfig: what they do, why they have as many replicas, pause and resume, load. The same
//! binary under the name `kubectl-herd` on PATH makes `kubectl herd status` and so on.
//!
//! `screen` is pure: from a pipeline to what a person reads. The commands read or patch it; the operator does the rest.

mod load;
mod screen;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use herd_spec::pipeline::HerdPipeline;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::output::{self, Outcome};
pub use load::Load;

/// How often `top` looks.
const LOOK: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Which cluster, and where in it.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "On Kubernetes")]
pub struct Place {
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// The kubeconfig's context [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig [default: what KUBECONFIG names, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Flags of the cluster before a command that has nothing to do with it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("`--namespace`, `--context` and `--kubeconfig` have no meaning for `herd {command}`: remove them")]
pub struct NoPlace {
    /// The command.
    command: String,
}

impl Place {
    /// This place, and what it leaves open as `before` says: kubectl's flags may stand before a command or after it, and the later
    /// one counts.
    #[must_use]
    pub fn after(self, before: Self) -> Self {
        Self {
            namespace: self.namespace.or(before.namespace),
            context: self.context.or(before.context),
            kubeconfig: self.kubeconfig.or(before.kubeconfig),
        }
    }

    /// For commands that know no cluster.
    ///
    /// # Errors
    /// [`NoPlace`] if anything is said about one.
    pub fn must_be_open(&self, command: &str) -> Result<(), NoPlace> {
        if *self == Self::default() { Ok(()) } else { Err(NoPlace { command: command.to_owned() }) }
    }
}

/// Shows a pipeline on Kubernetes on one screen; without a name all of the namespace
#[derive(Args, Debug)]
pub struct Status {
    /// The pipeline
    pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Shows the numbers behind the last scaling decisions of a pipeline on Kubernetes
#[derive(Args, Debug)]
pub struct ExplainScaling {
    /// The pipeline
    pipeline: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Stops detectors and sinks of a pipeline on Kubernetes; its collectors keep accepting, nothing is lost
#[derive(Args, Debug)]
pub struct Pause {
    /// The pipeline
    pipeline: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Lets a paused pipeline on Kubernetes go on
#[derive(Args, Debug)]
pub struct Resume {
    /// The pipeline
    pipeline: String,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Shows pipelines on Kubernetes as they run, until Ctrl-C
#[derive(Args, Debug)]
pub struct Top {
    /// The pipeline; left out: all of the namespace
    pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// The cluster does not do what was asked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClusterError {
    /// No way to it.
    #[error("there is no way to a cluster: {0}")]
    #[diagnostic(help("`kubectl config get-contexts` lists what there is; KUBECONFIG says which file"))]
    Config(String),
    /// It refuses, or does not answer.
    #[error("{doing}: {why}")]
    #[diagnostic(help("does `kubectl get herdpipelines` work with the same context and namespace?"))]
    Api {
        /// What was asked.
        doing: String,
        /// What it says.
        why: String,
    },
    /// The CRD is not there.
    #[error("this cluster does not know HerdPipelines")]
    #[diagnostic(help("`helm install herd charts/herd` installs Herd; is it the right context?"))]
    NotInstalled,
    /// There is no such pipeline.
    #[error("there is no pipeline `{name}` in the namespace {namespace}")]
    #[diagnostic(help(
        "`kubectl get herdpipelines --all-namespaces` lists them; `--namespace` says where to look"
    ))]
    Unknown {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
}

impl ClusterError {
    fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        |error| {
            let why = match error {
                kube::Error::Api(status) => status.message.clone(),
                error => error.to_string(),
            };
            Self::Api { doing, why }
        }
    }
}

/// A cluster and a namespace in it.
struct Cluster {
    client: Client,
    namespace: String,
}

impl Place {
    async fn connect(&self) -> Result<Cluster, ClusterError> {
        let problem = |error: &dyn std::fmt::Display| ClusterError::Config(error.to_string());
        let config = if self.context.is_none() && self.kubeconfig.is_none() {
            Config::infer().await.map_err(|error| problem(&error))?
        } else {
            let file = match &self.kubeconfig {
                Some(file) => Kubeconfig::read_from(file).map_err(|error| problem(&error))?,
                None => Kubeconfig::read().map_err(|error| problem(&error))?,
            };
            let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| problem(&error))?
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| problem(&error))?;
        Ok(Cluster { client, namespace })
    }
}

impl Cluster {
    fn pipelines(&self) -> Api<HerdPipeline> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn pipeline(&self, name: &str) -> Result<HerdPipeline, ClusterError> {
        let found = self.pipelines().get_opt(name).await;
        let found = found.map_err(ClusterError::api(format!("reading the pipeline {name}")))?;
        if let Some(pipeline) = found {
            return Ok(pipeline);
        }
        // Not to know pipelines at all looks the same.
        self.list(&ListParams::default().limit(1)).await?;
        Err(ClusterError::Unknown { name: name.into(), namespace: self.namespace.clone() })
    }

    async fn list(&self, wanted: &ListParams) -> Result<Vec<HerdPipeline>, ClusterError> {
        match self.pipelines().list(wanted).await {
            Ok(found) => Ok(found.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(ClusterError::NotInstalled),
            Err(error) => {
                Err(ClusterError::api(format!("listing the pipelines of {}", self.namespace))(error))
            }
        }
    }

    /// One pipeline, or all of the namespace, by name.
    async fn some(&self, name: Option<&str>) -> Result<Vec<HerdPipeline>, ClusterError> {
        if let Some(name) = name {
            return Ok(vec![self.pipeline(name).await?]);
        }
        let mut all = self.list(&ListParams::default()).await?;
        all.sort_by_key(ResourceExt::name_any);
        Ok(all)
    }

    async fn switch(&self, name: &str, paused: bool) -> Result<(), ClusterError> {
        self.pipeline(name).await?;
        let patch = Patch::Merge(json!({"spec": {"paused": paused}}));
        let patched = self.pipelines().patch(name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(ClusterError::api(format!("switching the pipeline {name}")))
    }
}

impl Status {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> Outcome {
        let cluster = self.place.connect().await?;
        let pipelines = cluster.some(self.pipeline.as_deref()).await?;
        if pipelines.is_empty() {
            output::note(&format!("there is no pipeline in the namespace {}", cluster.namespace));
        }
        for pipeline in pipelines {
            output::line(&screen::status(&pipeline))?;
        }
        Ok(())
    }
}

impl ExplainScaling {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> Outcome {
        let cluster = self.place.connect().await?;
        Ok(output::line(&screen::explanation(&cluster.pipeline(&self.pipeline).await?))?)
    }
}

impl Pause {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> Outcome {
        self.place.connect().await?.switch(&self.pipeline, true).await?;
        Ok(output::line(&format!(
            "{} is paused: collectors keep accepting; `herd resume {}` lets it go on",
            self.pipeline, self.pipeline
        ))?)
    }
}

impl Resume {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> Outcome {
        self.place.connect().await?.switch(&self.pipeline, false).await?;
        Ok(output::line(&format!("{} goes on", self.pipeline))?)
    }
}

impl Top {
    /// Runs it until `stop`.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self, stop: CancellationToken) -> Outcome {
        let cluster = self.place.connect().await?;
        let mut pipelines = cluster.some(self.pipeline.as_deref()).await?;
        let mut trouble = String::new();
        loop {
            let screens: Vec<String> = pipelines.iter().map(screen::status).collect();
            output::line(&format!("{CLEAR}{trouble}{}", screens.join("\n")))?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
            // An API server that is away for a moment is no reason to end: what was seen last stays, with a word.
            match cluster.some(self.pipeline.as_deref()).await {
                Ok(seen) => (pipelines, trouble) = (seen, String::new()),
                Err(error) => trouble = format!("as it was seen last, for now: {error}\n\n"),
            }
        }
    }
}

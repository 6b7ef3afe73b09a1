//! Commands for pipelines on Kubernetes: status, explanation of scaling, pause and resume, load. Installed as `kubectl-herd` on
//! PATH, the same binary is a kubectl plugin: `kubectl herd status`.
//!
//! `screen` renders a pipeline as text and is pure. The commands read or patch the pipeline; the operator does the rest.

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

use crate::output::{self, CommandResult};
pub use load::Load;

/// Refresh interval of `top`.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Clears the terminal and moves the cursor to its first line.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Options that select a cluster and a namespace.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "On Kubernetes")]
pub struct ClusterArgs {
    /// Namespace [default: the namespace of the context]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Context of the kubeconfig [default: the current context]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Path of the kubeconfig [default: KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Cluster options before a command that does not use a cluster.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("`herd {command}` does not use a cluster: remove `--namespace`, `--context` and `--kubeconfig`")]
pub struct UnusedClusterArgs {
    /// Name of the command.
    command: String,
}

impl ClusterArgs {
    /// These options, completed by those of `before`: options may be given before or after the command, and the later one wins.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self {
            namespace: self.namespace.or(before.namespace),
            context: self.context.or(before.context),
            kubeconfig: self.kubeconfig.or(before.kubeconfig),
        }
    }

    /// Checks that no option is set, for commands that do not use a cluster.
    ///
    /// # Errors
    /// [`UnusedClusterArgs`] if an option is set.
    pub fn must_be_empty(&self, command: &str) -> Result<(), UnusedClusterArgs> {
        if *self == Self::default() { Ok(()) } else { Err(UnusedClusterArgs { command: command.to_owned() }) }
    }
}

/// Shows the status of one pipeline, or of all pipelines of the namespace
#[derive(Args, Debug)]
pub struct Status {
    /// Name of the pipeline
    pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) cluster_args: ClusterArgs,
}

/// Explains the last scaling decision of each stage of a pipeline
#[derive(Args, Debug)]
pub struct ExplainScaling {
    /// Name of the pipeline
    pipeline: String,
    #[command(flatten)]
    pub(crate) cluster_args: ClusterArgs,
}

/// Pauses a pipeline: stops detectors and sinks; collectors keep accepting events
#[derive(Args, Debug)]
pub struct Pause {
    /// Name of the pipeline
    pipeline: String,
    #[command(flatten)]
    pub(crate) cluster_args: ClusterArgs,
}

/// Resumes a paused pipeline
#[derive(Args, Debug)]
pub struct Resume {
    /// Name of the pipeline
    pipeline: String,
    #[command(flatten)]
    pub(crate) cluster_args: ClusterArgs,
}

/// Shows the status of pipelines, refreshed until Ctrl-C
#[derive(Args, Debug)]
pub struct Top {
    /// Name of the pipeline [default: all pipelines of the namespace]
    pipeline: Option<String>,
    #[command(flatten)]
    pub(crate) cluster_args: ClusterArgs,
}

/// A request to the cluster failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClusterError {
    /// No client configuration.
    #[error("cannot load a Kubernetes client configuration: {0}")]
    #[diagnostic(help("`kubectl config get-contexts` lists the contexts; KUBECONFIG selects the file"))]
    Config(String),
    /// The API server refused the request or did not respond.
    #[error("{doing}: {why}")]
    #[diagnostic(help("check that `kubectl get herdpipelines` works with the same context and namespace"))]
    Api {
        /// The request.
        doing: String,
        /// The cause.
        why: String,
    },
    /// The CRD is not installed.
    #[error("the custom resource HerdPipeline is not installed in this cluster")]
    #[diagnostic(help("check the context; `helm install herd charts/herd` installs Herd"))]
    NotInstalled,
    /// The pipeline does not exist.
    #[error("pipeline `{name}` does not exist in namespace {namespace}")]
    #[diagnostic(help(
        "`kubectl get herdpipelines --all-namespaces` lists all pipelines; `--namespace` selects a namespace"
    ))]
    Unknown {
        /// Name of the pipeline.
        name: String,
        /// The namespace.
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

/// A client and the selected namespace.
struct Cluster {
    client: Client,
    namespace: String,
}

impl ClusterArgs {
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
        let found = found.map_err(ClusterError::api(format!("reading pipeline {name}")))?;
        if let Some(pipeline) = found {
            return Ok(pipeline);
        }
        // A missing CRD gives 404 as well; the list distinguishes the two.
        self.list(&ListParams::default().limit(1)).await?;
        Err(ClusterError::Unknown { name: name.into(), namespace: self.namespace.clone() })
    }

    async fn list(&self, wanted: &ListParams) -> Result<Vec<HerdPipeline>, ClusterError> {
        match self.pipelines().list(wanted).await {
            Ok(found) => Ok(found.items),
            Err(kube::Error::Api(status)) if status.code == 404 => Err(ClusterError::NotInstalled),
            Err(error) => Err(ClusterError::api(format!(
                "listing the pipelines of namespace {}",
                self.namespace
            ))(error)),
        }
    }

    /// One pipeline, or all pipelines of the namespace, sorted by name.
    async fn select(&self, name: Option<&str>) -> Result<Vec<HerdPipeline>, ClusterError> {
        if let Some(name) = name {
            return Ok(vec![self.pipeline(name).await?]);
        }
        let mut all = self.list(&ListParams::default()).await?;
        all.sort_by_key(ResourceExt::name_any);
        Ok(all)
    }

    async fn set_paused(&self, name: &str, paused: bool) -> Result<(), ClusterError> {
        self.pipeline(name).await?;
        let patch = Patch::Merge(json!({"spec": {"paused": paused}}));
        let patched = self.pipelines().patch(name, &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(ClusterError::api(format!("patching pipeline {name}")))
    }
}

impl Status {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> CommandResult {
        let cluster = self.cluster_args.connect().await?;
        let pipelines = cluster.select(self.pipeline.as_deref()).await?;
        if pipelines.is_empty() {
            output::note(&format!("there are no pipelines in namespace {}", cluster.namespace));
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
    pub async fn run(self) -> CommandResult {
        let cluster = self.cluster_args.connect().await?;
        Ok(output::line(&screen::explanation(&cluster.pipeline(&self.pipeline).await?))?)
    }
}

impl Pause {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> CommandResult {
        self.cluster_args.connect().await?.set_paused(&self.pipeline, true).await?;
        Ok(output::line(&format!(
            "{} is paused: collectors keep accepting events; `herd resume {}` resumes it",
            self.pipeline, self.pipeline
        ))?)
    }
}

impl Resume {
    /// Runs it.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self) -> CommandResult {
        self.cluster_args.connect().await?.set_paused(&self.pipeline, false).await?;
        Ok(output::line(&format!("{} is resumed", self.pipeline))?)
    }
}

impl Top {
    /// Runs it until `stop`.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub async fn run(self, stop: CancellationToken) -> CommandResult {
        let cluster = self.cluster_args.connect().await?;
        let mut pipelines = cluster.select(self.pipeline.as_deref()).await?;
        let mut warning = String::new();
        loop {
            let screens: Vec<String> = pipelines.iter().map(screen::status).collect();
            output::line(&format!("{CLEAR}{warning}{}", screens.join("\n")))?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(REFRESH_INTERVAL) => {}
            }
            // If the API server is briefly unavailable, the last known state stays on the screen, with the error.
            match cluster.select(self.pipeline.as_deref()).await {
                Ok(seen) => (pipelines, warning) = (seen, String::new()),
                Err(error) => warning = format!("last known state: {error}\n\n"),
            }
        }
    }
}

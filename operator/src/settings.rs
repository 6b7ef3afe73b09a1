//! Command line and environment of the operator.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// Settings of `herd-operator run`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespaces to watch, separated by commas. Empty: all namespaces
    #[arg(long, env = "HERD_NAMESPACES", value_delimiter = ',', value_name = "NAMES")]
    pub namespaces: Vec<String>,
    /// Image of the worker pods
    #[arg(long, env = "HERD_WORKER_IMAGE", value_name = "IMAGE")]
    pub worker_image: String,
    /// Image pull Secrets of the worker pods, separated by commas. They must exist in the namespace of each pipeline
    #[arg(long, env = "HERD_WORKER_IMAGE_PULL_SECRETS", value_delimiter = ',', value_name = "NAMES")]
    pub worker_image_pull_secrets: Vec<String>,
    /// Name of the Lease for leader election
    #[arg(long, default_value = "herd-operator", value_name = "NAME")]
    pub lease_name: String,
    /// Namespace of the Lease
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub lease_namespace: String,
    /// Identity of this operator in the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: String,
    /// Address of the HTTP server for /healthz, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Format of log lines
    #[arg(long, value_enum, env = "HERD_LOG_FORMAT", default_value_t)]
    pub log: LogFormat,
}

impl Settings {
    /// The namespaces to watch without duplicates; none stands for all.
    #[must_use]
    pub fn scopes(&self) -> Vec<Option<String>> {
        let names = names(&self.namespaces);
        if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() }
    }

    /// The image pull Secrets, without duplicates.
    #[must_use]
    pub fn pull_secrets(&self) -> Vec<String> {
        names(&self.worker_image_pull_secrets).into_iter().collect()
    }
}

/// The names of a list, without surrounding spaces and empty items.
fn names(list: &[String]) -> BTreeSet<String> {
    list.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line
    #[default]
    Json,
    /// Readable text
    Pretty,
}

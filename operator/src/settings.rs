//! What the operator is told when it is started.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use clap::{Args, ValueEnum};

/// How to run.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespaces to look after, separated by commas; empty: all
    #[arg(long, env = "HERD_NAMESPACES", value_delimiter = ',', value_name = "NAMES")]
    pub namespaces: Vec<String>,
    /// The image of the workers
    #[arg(long, env = "HERD_WORKER_IMAGE", value_name = "IMAGE")]
    pub worker_image: String,
    /// Secrets for pulling it, separated by commas; they must be in the namespace of each pipeline
    #[arg(long, env = "HERD_WORKER_IMAGE_PULL_SECRETS", value_delimiter = ',', value_name = "NAMES")]
    pub worker_image_pull_secrets: Vec<String>,
    /// The Lease that decides which of several operators acts
    #[arg(long, default_value = "herd-operator", value_name = "NAME")]
    pub lease_name: String,
    /// Where that Lease is
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub lease_namespace: String,
    /// What this operator is called in the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: String,
    /// Where to serve /healthz, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// How logs look
    #[arg(long, value_enum, env = "HERD_LOG_FORMAT", default_value_t)]
    pub log: LogFormat,
}

impl Settings {
    /// The namespaces to look after, none for all: each once.
    #[must_use]
    pub fn scopes(&self) -> Vec<Option<String>> {
        let names = names(&self.namespaces);
        if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() }
    }

    /// The Secrets for pulling the workers' image: each once.
    #[must_use]
    pub fn pull_secrets(&self) -> Vec<String> {
        names(&self.worker_image_pull_secrets).into_iter().collect()
    }
}

/// The names of a list as it was written, with spaces and empty places.
fn names(list: &[String]) -> BTreeSet<String> {
    list.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line
    #[default]
    Json,
    /// For people
    Pretty,
}

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A door from outside the cluster. Only on Kubernetes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressSpec {
    /// The name it is reached by, e.g. `events.shop.example`; `*.shop.example` is any name below.
    pub host: String,
    /// Requests whose path begins with this come here.
    #[serde(default = "default_path")]
    pub path: String,
    /// Which ingress controller. Left out: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// The Secret with the certificate for `host`, in the pipeline's namespace. Left out: no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<String>,
    /// What the ingress controller is told besides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn default_path() -> String {
    "/".to_owned()
}

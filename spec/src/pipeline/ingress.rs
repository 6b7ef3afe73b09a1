use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Exposes a stage through an Ingress. Kubernetes only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressSpec {
    /// Host name, e.g. `events.shop.example`, or a wildcard, e.g. `*.shop.example`.
    pub host: String,
    /// Path prefix of the requests that are routed to the stage.
    #[serde(default = "default_path")]
    pub path: String,
    /// Name of the IngressClass. Omitted: the default class of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
    /// Name of the Secret with the TLS certificate for `host`, in the namespace of the pipeline. Omitted: no TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret: Option<String>,
    /// Annotations of the Ingress, for settings of the ingress controller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn default_path() -> String {
    "/".to_owned()
}

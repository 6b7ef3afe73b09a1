//! Why a reconcile failed, and whether to retry it.

use std::time::Duration;

use herd_spec::problem::Problem;

use crate::reason::Reason;

/// Why a pipeline could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object has no identity, which the API server gives to every object.
    #[error("the HerdPipeline has no metadata.{field}: read the object from the API server")]
    IdentityMissing {
        /// The field.
        field: &'static str,
    },
    /// The spec is invalid.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
    /// A Secret that the spec references does not exist.
    #[error("{0}")]
    Secret(SecretMissing),
    /// An object of this name has another owner.
    #[error("{kind} {name} already exists and {owner}: rename the pipeline, or delete that object")]
    Taken {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Its owner, as a predicate: `belongs to …` or `has no owner`.
        owner: String,
    },
    /// Another pipeline has the same topics.
    #[error(
        "the topics `{prefix}.…` in this Kafka cluster belong to the pipeline {holder}: delete this pipeline and create it with another `topicPrefix`"
    )]
    TopicsTaken {
        /// The prefix of their names.
        prefix: String,
        /// Their owner, `namespace/name`.
        holder: String,
    },
    /// A request to the API server failed.
    #[error("{doing}: {}", answer(source))]
    Api {
        /// The operation and its object.
        doing: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// An object cannot be serialised as JSON.
    #[error("an object cannot be serialised: {0}")]
    Json(#[from] serde_json::Error),
}

/// A Secret, or a key of it, that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMissing {
    /// Name of the Secret.
    pub name: String,
    /// The missing key; none if the whole Secret is missing.
    pub key: Option<String>,
}

impl std::fmt::Display for SecretMissing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => {
                write!(f, "the Secret `{}` has no key `{key}`: add the key, or correct the spec", self.name)
            }
            None => write!(f, "the Secret `{}` does not exist: create it, or correct the spec", self.name),
        }
    }
}

/// Whether to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before the spec, a Secret or the cluster changes.
    Never,
    /// With backoff, after at least this duration (of `Retry-After`).
    After(Duration),
}

impl Error {
    /// A failed request to the API server, with the operation.
    pub fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        |source| Self::Api { doing, source: Box::new(source) }
    }

    /// Its reason, for conditions and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::Invalid,
            Self::Secret(_) => Reason::SecretMissing,
            Self::Taken { .. } => Reason::NameTaken,
            Self::TopicsTaken { .. } => Reason::TopicsTaken,
            Self::Api { source, .. } => match code(source) {
                Some(401 | 403) => Reason::Forbidden,
                Some(409) => Reason::Conflict,
                Some(429) => Reason::Throttled,
                Some(400..=499) => Reason::Refused,
                _ => Reason::ApiServerUnavailable,
            },
            Self::IdentityMissing { .. } | Self::Json(_) => Reason::Defect,
        }
    }

    /// Whether to retry.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::IdentityMissing { .. }
            | Self::Invalid(_)
            | Self::Secret(_)
            | Self::TopicsTaken { .. }
            | Self::Json(_) => Retry::Never,
            Self::Taken { .. } => Retry::After(Duration::ZERO),
            Self::Api { source, .. } => match code(source) {
                // 404: a namespace or kind that is being created or deleted.
                Some(404 | 408 | 409 | 410 | 429) => Retry::After(retry_after(source)),
                Some(400..=499) => Retry::Never,
                _ => Retry::After(retry_after(source)),
            },
        }
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn retry_after(error: &kube::Error) -> Duration {
    let seconds = match error {
        kube::Error::Api(status) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
        _ => 0,
    };
    Duration::from_secs(seconds.into())
}

fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use rstest::rstest;

    fn failed(code: u16) -> Error {
        let mut status = Status::failure("the message", "Reason");
        status.code = code;
        Error::api("applying Service shop-api")(kube::Error::Api(Box::new(status)))
    }

    #[rstest]
    #[case(403, Reason::Forbidden, Retry::Never)]
    #[case(422, Reason::Refused, Retry::Never)]
    #[case(409, Reason::Conflict, Retry::After(Duration::ZERO))]
    #[case(429, Reason::Throttled, Retry::After(Duration::ZERO))]
    #[case(500, Reason::ApiServerUnavailable, Retry::After(Duration::ZERO))]
    fn api_error_has_reason_and_retry_of_its_status_code(
        #[case] code: u16,
        #[case] reason: Reason,
        #[case] retry: Retry,
    ) {
        let error = failed(code);
        assert_eq!((error.reason(), error.retry()), (reason, retry));
        assert_eq!(error.to_string(), "applying Service shop-api: the message");
    }
}

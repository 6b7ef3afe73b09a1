//! Why a reconcile could not end well, and what becomes of it.

use std::time::Duration;

use herd_spec::problem::Problem;

use crate::reason::Reason;

/// Why a pipeline cannot be made as it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec cannot be carried out.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
    /// A Secret that the spec refers to is not there.
    #[error("{0}")]
    Secret(SecretMissing),
    /// An object's name is taken by another owner.
    #[error("{kind} {name} belongs to {owner}: rename the pipeline, or remove that object")]
    Taken {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// Another pipeline has the same topics.
    #[error(
        "the topics `{prefix}.…` in this Kafka are those of the pipeline {holder}: delete this pipeline and create it with another `topicPrefix`"
    )]
    TopicsTaken {
        /// What their names begin with.
        prefix: String,
        /// Whose they are, `namespace/name`.
        holder: String,
    },
    /// The API server did not do what was asked.
    #[error("{doing}: {}", said(source))]
    Api {
        /// What was being done, on what.
        doing: String,
        /// What it answered.
        source: Box<kube::Error>,
    },
    /// An object cannot be written as JSON.
    #[error("an object cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// A Secret or a key that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMissing {
    /// Name of the Secret.
    pub name: String,
    /// The key; none: the whole Secret is missing.
    pub key: Option<String>,
}

impl std::fmt::Display for SecretMissing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => {
                write!(f, "the Secret `{}` has no key `{key}`: add it, or correct the spec", self.name)
            }
            None => write!(f, "there is no Secret `{}`: create it, or correct the spec", self.name),
        }
    }
}

/// What trying again may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// Nothing, before somebody changes something.
    None,
    /// Perhaps it works later; not before this has passed, where the server said so.
    Later(Duration),
}

impl Error {
    /// An answer of the API server, with what was being done.
    pub fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        |source| Self::Api { doing, source: Box::new(source) }
    }

    /// In one word, for conditions and metrics.
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
            Self::Json(_) => Reason::Defect,
        }
    }

    /// What trying again may bring.
    #[must_use]
    pub fn hope(&self) -> Hope {
        match self {
            Self::Invalid(_) | Self::Secret(_) | Self::TopicsTaken { .. } | Self::Json(_) => Hope::None,
            Self::Taken { .. } => Hope::Later(Duration::ZERO),
            Self::Api { source, .. } => match code(source) {
                // Not found: a namespace or kind that is about to be there, or about to go.
                Some(404 | 408 | 409 | 410 | 429) => Hope::Later(retry_after(source)),
                Some(400..=499) => Hope::None,
                _ => Hope::Later(retry_after(source)),
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

fn said(error: &kube::Error) -> String {
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

    fn answer(code: u16) -> Error {
        let mut status = Status::failure("said so", "Reason");
        status.code = code;
        Error::api("applying Service shop-api")(kube::Error::Api(Box::new(status)))
    }

    #[rstest]
    #[case(403, Reason::Forbidden, Hope::None)]
    #[case(422, Reason::Refused, Hope::None)]
    #[case(409, Reason::Conflict, Hope::Later(Duration::ZERO))]
    #[case(429, Reason::Throttled, Hope::Later(Duration::ZERO))]
    #[case(500, Reason::ApiServerUnavailable, Hope::Later(Duration::ZERO))]
    fn answers_are_told_apart(#[case] code: u16, #[case] reason: Reason, #[case] hope: Hope) {
        let error = answer(code);
        assert_eq!((error.reason(), error.hope()), (reason, hope));
        assert_eq!(error.to_string(), "applying Service shop-api: said so");
    }
}

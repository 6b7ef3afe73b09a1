//! Enumerations as the OpenAPI document describes them: the types themselves are `herd_spec`'s, which knows nothing of it.

#![allow(dead_code)] // Only described.

use utoipa::ToSchema;

/// What a metric computes.
#[derive(ToSchema)]
#[schema(as = Function, rename_all = "lowercase")]
pub(crate) enum FunctionName {
    Count,
    Sum,
    Mean,
    Unique,
}

/// Severity of an alert.
#[derive(ToSchema)]
#[schema(as = Severity, rename_all = "lowercase")]
pub(crate) enum SeverityName {
    Info,
    Warning,
    Critical,
}

/// State of an alert. `withdrawn` is sent over WebSocket only: remove the alert from the page.
#[derive(ToSchema)]
#[schema(as = AlertState, rename_all = "lowercase")]
pub(crate) enum AlertStateName {
    Early,
    Firing,
    Resolved,
    Withdrawn,
}

/// How an episode ended: the key is back in its expected range, or where it stayed is the new one.
#[derive(ToSchema)]
#[schema(as = Ending, rename_all = "snake_case")]
pub(crate) enum EndingName {
    Usual,
    NewLevel,
}

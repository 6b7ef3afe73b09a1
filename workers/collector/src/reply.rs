//! Responses to requests with events.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use herd_stage::Problem;
use serde::Serialize;

use crate::intake::Refusal;

/// Result of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum ItemReply {
    /// Acknowledged by the broker.
    Accepted {
        /// Its index in the request.
        index: u32,
        /// Its id, sent or assigned.
        event_id: String,
    },
    /// Invalid, and written to the dead-letter topic.
    Invalid {
        /// Its index in the request.
        index: u32,
        /// Error code.
        code: &'static str,
        /// Error message.
        detail: String,
    },
    /// Not acknowledged by the broker; it should be sent again.
    Failed {
        /// Its index in the request.
        index: u32,
    },
}

#[derive(Serialize)]
struct BatchReply<'a> {
    accepted: usize,
    invalid: usize,
    items: &'a [ItemReply],
}

/// The response to a request: 202 if all items were accepted, 207 if some are invalid, 503 if some were not acknowledged, 400 or
/// 422 if all are invalid.
pub(crate) fn reply(items: Vec<ItemReply>, refusals: &[(u32, Refusal)], broker: Option<&str>) -> Response {
    if let Some(why) = broker {
        let detail = format!("the broker did not acknowledge all events: {why}; send the failed items again");
        return with_items(Problem::busy(detail), &items).into_response();
    }
    let (invalid, all) = (refusals.len(), items.len());
    match refusals {
        [] => batch(StatusCode::ACCEPTED, &items, invalid),
        [(_, only)] if all == 1 => {
            let status = if only.code.is_unreadable() {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            let problem =
                Problem { code: Some(only.code.as_str()), ..Problem::new(status, only.detail.clone()) };
            with_items(problem, &items).into_response()
        }
        _ if invalid == all => {
            let detail = format!("none of the {all} events is valid: see the detail of each item");
            with_items(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail), &items).into_response()
        }
        _ => batch(StatusCode::MULTI_STATUS, &items, invalid),
    }
}

/// Adds the results of the items to a problem.
fn with_items(mut problem: Problem, items: &[ItemReply]) -> Problem {
    if !items.is_empty() {
        let items = serde_json::to_value(items).unwrap_or_default();
        problem.extensions.push(("items", items));
    }
    problem
}

fn batch(status: StatusCode, items: &[ItemReply], invalid: usize) -> Response {
    let body = serde_json::to_vec(&BatchReply { accepted: items.len() - invalid, invalid, items })
        .unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

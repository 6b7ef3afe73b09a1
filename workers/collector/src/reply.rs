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
        [(_, only)] if all == 1 && only.code.is_unreadable() => {
            none_accepted(StatusCode::BAD_REQUEST, &items, refusals)
        }
        _ if invalid == all => none_accepted(StatusCode::UNPROCESSABLE_ENTITY, &items, refusals),
        _ => batch(StatusCode::MULTI_STATUS, &items, invalid),
    }
}

/// The problem if all items are invalid.
fn none_accepted(status: StatusCode, items: &[ItemReply], refusals: &[(u32, Refusal)]) -> Response {
    let problem = match refusals {
        [(_, only)] => {
            Problem { code: Some(only.code.as_str()), ..Problem::new(status, only.detail.clone()) }
        }
        _ => {
            let detail =
                format!("none of the {} events is valid: see the detail of each item", refusals.len());
            Problem::new(status, detail)
        }
    };
    with_items(problem, items).into_response()
}

/// The response to a request of Segment's API, whose SDKs send again what is answered with a status of 500 or more, and give up what is
/// answered with 400: 200 if something was accepted or ignored, with the refused items; 400 if all are refused; 503 if some were not
/// acknowledged.
pub(crate) fn reply_segment(
    items: Vec<ItemReply>,
    refusals: &[(u32, Refusal)],
    ignored: usize,
    broker: Option<&str>,
) -> Response {
    let (invalid, all) = (refusals.len(), items.len());
    if broker.is_some() {
        return reply(items, refusals, broker);
    }
    if invalid == all && invalid > 0 && ignored == 0 {
        return none_accepted(StatusCode::BAD_REQUEST, &items, refusals);
    }
    let mut body = serde_json::json!({ "success": true });
    if invalid > 0 {
        let refused: Vec<_> = items.iter().filter(|item| matches!(item, ItemReply::Invalid { .. })).collect();
        body["accepted"] = (all - invalid).into();
        body["invalid"] = invalid.into();
        body["items"] = serde_json::to_value(refused).unwrap_or_default();
    }
    axum::Json(body).into_response()
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

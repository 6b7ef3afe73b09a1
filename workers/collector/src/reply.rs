//! What clients get for events.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::intake::Refusal;
use crate::problem::Problem;

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum ItemReply {
    /// The broker has it.
    Accepted {
        /// Its place in the request, from 0.
        index: u32,
        /// Its id, given to it or its own.
        event_id: String,
    },
    /// It is in the dead-letter topic.
    Invalid {
        /// Its place in the request, from 0.
        index: u32,
        /// The kind of error.
        code: &'static str,
        /// The error in words.
        detail: String,
    },
    /// The broker has not acknowledged it: send it again.
    Failed {
        /// Its place in the request, from 0.
        index: u32,
    },
}

#[derive(Serialize)]
struct Taken<'a> {
    accepted: usize,
    invalid: usize,
    items: &'a [ItemReply],
}

/// The answer to a request whose items were all dealt with: 202, 207 where some are invalid, or a problem: 503 where one
/// was not acknowledged, 400 or 422 where nothing was of any use.
pub(crate) fn reply(items: Vec<ItemReply>, refusals: &[(u32, Refusal)], broker: Option<&str>) -> Response {
    if let Some(why) = broker {
        let detail =
            format!("the broker did not acknowledge everything: {why}; send the items again that failed");
        return Problem { items, ..Problem::busy(detail) }.into_response();
    }
    let (invalid, all) = (refusals.len(), items.len());
    match refusals {
        [] => taken(StatusCode::ACCEPTED, &items, invalid),
        [(_, only)] if all == 1 => {
            let status = if only.code.is_unreadable() {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::UNPROCESSABLE_ENTITY
            };
            Problem { code: Some(only.code.as_str()), items, ..Problem::new(status, only.detail.clone()) }
                .into_response()
        }
        _ if invalid == all => {
            let detail = format!("none of the {all} events is valid; each item says why");
            Problem { items, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }.into_response()
        }
        _ => taken(StatusCode::MULTI_STATUS, &items, invalid),
    }
}

fn taken(status: StatusCode, items: &[ItemReply], invalid: usize) -> Response {
    let body =
        serde_json::to_vec(&Taken { accepted: items.len() - invalid, invalid, items }).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

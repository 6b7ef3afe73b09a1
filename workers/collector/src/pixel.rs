//! `GET /track.gif`: an event in the parameters of an image's URL, for pages and mails without scripts.

use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// A transparent image of one pixel.
const IMAGE: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00\x21\xf9\x04\x01\x00\x00\x00\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

/// Whether pages that are isolated from other origins may load a resource.
pub(crate) const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Deepest object that a name makes; dots beyond belong to the last name. A URL has room for more than a stack has.
const DEPTH: usize = 16;

/// The event in the query of a URL, as the JSON that `POST /track` takes: each parameter is a text field; a dot in its name puts it
/// into an object, e.g. `plan.name=pro`. `key` is the write key, and no field.
pub(crate) fn event(uri: &Uri) -> Vec<u8> {
    let mut event = Map::new();
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name == "key" {
            continue;
        }
        let path: Vec<&str> = name.splitn(DEPTH, '.').collect();
        put(&mut event, &path, &value);
    }
    Value::Object(event).to_string().into_bytes()
}

/// Puts a field where it belongs; the first of two in the same place stays.
fn put(object: &mut Map<String, Value>, path: &[&str], value: &str) {
    match path {
        [] => {}
        [name] => {
            object.entry(*name).or_insert_with(|| value.into());
        }
        [parent, rest @ ..] => {
            let parent = object.entry(*parent).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(object) = parent {
                put(object, rest, value);
            }
        }
    }
}

/// The image in place of the response to the same event in `POST /track`, if that was accepted.
pub(crate) fn respond(response: Response) -> Response {
    if response.status() != StatusCode::ACCEPTED {
        return response;
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/gif")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CORP, HeaderValue::from_static("cross-origin")),
    ];
    (StatusCode::OK, headers, IMAGE).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/track.gif?type=view&item_id=p-1", r#"{"type":"view","item_id":"p-1"}"#)]
    #[case("/track.gif?key=secret&type=a%20b+c", r#"{"type":"a b c"}"#)]
    #[case("/track.gif?properties.a.b=1&properties.a.c=2", r#"{"properties":{"a":{"b":"1","c":"2"}}}"#)]
    #[case("/track.gif?a=1&a=2&a.b=3", r#"{"a":"1"}"#)]
    #[case("/track.gif", "{}")]
    fn parameters_are_fields(#[case] uri: &str, #[case] expected: &str) {
        assert_eq!(String::from_utf8(event(&uri.parse().unwrap())).unwrap(), expected);
    }

    #[test]
    fn a_name_of_many_dots_makes_no_deeper_object_than_allowed() {
        let uri = format!("/track.gif?{}=1", "a.".repeat(30_000));
        let event = String::from_utf8(event(&uri.parse().unwrap())).unwrap();
        assert_eq!(event.matches('{').count(), DEPTH);
    }
}

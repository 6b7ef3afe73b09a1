//! The tracker for browsers, `web/tracker`, embedded in the binary: `/herd.js`, which is revalidated, and `/herd-HASH.js`, which never
//! changes, so that pages can name it with a hash (Subresource Integrity) and caches can keep it.

use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use herd_stage::{Embedded, Problem};
use rust_embed::RustEmbed;

use crate::pixel::CORP;

#[derive(RustEmbed)]
#[folder = "../../web/tracker/dist"]
#[include = "herd.js"]
#[allow_missing = true]
struct Files;

/// Serves the tracker under its two names.
pub(crate) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let Some(file) = Files::get("herd.js") else {
        let detail =
            "this binary was compiled without the tracker: build it with `make web`, then compile again";
        return Problem::missing(detail).into_response();
    };
    let mut script = Embedded {
        content_type: "text/javascript; charset=utf-8".into(),
        sha256: file.metadata.sha256_hash(),
        bytes: file.data,
        is_immutable: false,
    };
    let immutable = format!("/herd-{}.js", script.hash());
    if uri.path() != "/herd.js" {
        if uri.path() != immutable {
            let detail = format!("this is not the current tracker: it is {immutable}, and /herd.js");
            return Problem::missing(detail).into_response();
        }
        script.is_immutable = true;
    }
    let mut response = script.respond(&headers);
    let headers = response.headers_mut();
    if let Ok(immutable) = HeaderValue::from_str(&immutable) {
        headers.insert(header::CONTENT_LOCATION, immutable);
    }
    // A public script, for pages of any origin, also for those that name its hash or are isolated from other origins.
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CORP, HeaderValue::from_static("cross-origin"));
    response
}

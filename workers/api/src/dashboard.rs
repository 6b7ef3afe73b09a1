//! The dashboard: the files of `web/dist`, embedded in the binary. Paths without a file serve the page, which routes them.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use herd_stage::{Embedded, Problem};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Files;

/// Content security policy: only resources of this server; inline styles are allowed because charts use them.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
                      connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>\
    <title>Herd</title><body style='font:16px/1.5 system-ui;margin:3rem auto;max-width:34rem;padding:0 1rem'>\
    <h1>The dashboard is not built</h1><p>This binary was compiled without it. Build it with <code>make web</code>, then \
    compile again.</p><p>The API is there: <a href=/api/v1/openapi.json>/api/v1/openapi.json</a></p>";

/// Serves all requests that match no other route.
pub(crate) async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") || path == "ws" {
        return Problem::missing(format!(
            "unknown endpoint {method} {}: see /api/v1/openapi.json",
            uri.path()
        ))
        .into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is allowed under /api/v1 only"),
        )
        .into_response();
    }
    let mut response = page(path, &headers);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn page(path: &str, headers: &HeaderMap) -> Response {
    if let Some(file) = Files::get(path).filter(|_| !path.is_empty()) {
        return file_response(path, &file, headers);
    }
    // A missing file gives 404: the page in place of a script would hide the error.
    let is_file = path.starts_with("assets/") || (!path.contains('/') && path.contains('.'));
    if is_file {
        return Problem::missing(format!("the file /{path} does not exist")).into_response();
    }
    match Files::get("index.html") {
        Some(index) => file_response("index.html", &index, headers),
        None => ([(header::CACHE_CONTROL, "no-store")], Html(NOT_BUILT)).into_response(),
    }
}

fn file_response(path: &str, file: &rust_embed::EmbeddedFile, headers: &HeaderMap) -> Response {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let content_type = match kind.type_() {
        mime_guess::mime::TEXT => format!("{}; charset=utf-8", kind.essence_str()),
        _ => kind.essence_str().to_owned(),
    };
    let file = Embedded {
        content_type,
        sha256: file.metadata.sha256_hash(),
        bytes: file.data.clone(),
        is_immutable: path.starts_with("assets/"),
    };
    file.respond(headers)
}

//! Files that are embedded in the binary, over HTTP.

use std::borrow::Cow;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Cache-Control of files with a hash in their name, which never change.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// Cache-Control of other files, which are revalidated by ETag.
const REVALIDATE: &str = "no-cache";

/// A file.
#[derive(Clone, Debug)]
pub struct Embedded {
    /// Its content type.
    pub content_type: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// Its content.
    pub bytes: Cow<'static, [u8]>,
    /// Whether the name has the hash in it, so that caches may keep the file for good.
    pub is_immutable: bool,
}

impl Embedded {
    /// The first 24 hexadecimal digits of the SHA-256.
    #[must_use]
    pub fn hash(&self) -> String {
        self.sha256[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The response to a request with these headers: 304 if the client has the file.
    #[must_use]
    pub fn respond(self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", self.hash());
        let cache = if self.is_immutable { FOREVER } else { REVALIDATE };
        // Proxies and compression may weaken an ETag.
        let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
        if known.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag))
        {
            let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, cache.into())];
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            (header::ETAG, tag),
            (header::CACHE_CONTROL, cache.into()),
        ];
        (headers, self.bytes).into_response()
    }
}

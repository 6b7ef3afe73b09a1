//! HTTP clients whose TLS has its cryptography.

use reqwest::ClientBuilder;

/// An HTTP client to configure. reqwest is built without a cryptography of its own, so as not to bring a second one into the
/// program, and panics if none has been chosen for the process: clients are made here (`clippy.toml` forbids the other way).
#[allow(clippy::disallowed_methods)] // This is the place.
pub fn http_client() -> ClientBuilder {
    // An error says that it has been chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

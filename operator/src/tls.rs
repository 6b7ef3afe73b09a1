//! The cryptography of connections.

/// Installs it, once a process and before the first connection: reqwest is built without one of its own, and panics otherwise.
pub fn install_provider() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for plain requests to pods.
#[allow(clippy::disallowed_methods)] // The cryptography is chosen before.
pub(crate) fn http_client() -> reqwest::Client {
    install_provider();
    reqwest::Client::new()
}

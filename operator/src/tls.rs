//! Which cryptography connections use.

/// Chooses it, once a process and before the first connection: reqwest is built without one of its own, and panics otherwise.
pub fn choose() {
    // An error says that it has been chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for plain requests to pods.
#[allow(clippy::disallowed_methods)] // The cryptography is chosen before.
pub(crate) fn http_client() -> reqwest::Client {
    choose();
    reqwest::Client::new()
}

//! Which cryptography connections to the API server use.

/// Chooses it, once a process and before the first connection. The libraries in this program bring two, and rustls refuses to guess.
pub fn choose() {
    // An error says that it has been chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

//! The cryptography of connections to the API server.

/// Installs it, once a process and before the first connection. The dependencies of this program include two providers, and rustls
/// requires a choice.
pub fn install_provider() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

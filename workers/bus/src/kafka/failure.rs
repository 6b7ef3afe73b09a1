//! Why a connection to a broker failed, from librdkafka's log: its error codes do not tell an unknown host from a closed port.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConnectionFailure {
    /// Where to, `host:port`.
    address: String,
    cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// The name has no address.
    UnknownHost,
    /// Nobody listens there.
    Refused,
    /// What the client says.
    Other(String),
}

impl ConnectionFailure {
    /// Reads a line such as `[thrd:a:1/bootstrap]: a:1/bootstrap: Connect to ipv4#10.0.0.1:1 failed: Connection refused (after 0ms
    /// in state CONNECT)`. Counts and times are left out, so that the same failure is told in the same words.
    fn parse(line: &str) -> Option<Self> {
        let line = line.split_once("]: ").map_or(line, |(_, rest)| rest);
        let (broker, words) = line.split_once(": ")?;
        let address = broker.split('/').next().filter(|address| address.contains(':'))?.to_owned();
        let words = words.split(" (after ").next().unwrap_or(words).trim();
        let cause = if words.starts_with("Failed to resolve") {
            Cause::UnknownHost
        } else if words.contains("Connection refused") {
            Cause::Refused
        } else {
            Cause::Other(words.to_owned())
        };
        Some(Self { address, cause })
    }
}

impl fmt::Display for ConnectionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        match &self.cause {
            Cause::UnknownHost => {
                let host = address.rsplit_once(':').map_or(&**address, |(host, _)| host);
                write!(
                    f,
                    "the host name {host} of {address} cannot be resolved: correct `bootstrapServers`, or the DNS"
                )
            }
            Cause::Refused => write!(f, "{address} refuses the connection: no broker listens there"),
            Cause::Other(words) => write!(f, "{address}: {words}"),
        }
    }
}

/// The last failure of a connection. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct LastFailure(Arc<Mutex<Option<ConnectionFailure>>>);

impl LastFailure {
    /// Takes in a line of the log about a connection that failed.
    pub(super) fn observe(&self, line: &str) {
        if let Some(failure) = ConnectionFailure::parse(line) {
            *self.0.lock() = Some(failure);
        }
    }

    /// A broker has answered.
    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// In words, if a connection has failed since a broker answered last.
    pub(super) fn words(&self) -> Option<String> {
        self.0.lock().as_ref().map(ToString::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::closed_port(
        "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT, 3 identical error(s) suppressed)",
        "127.0.0.1:1 refuses the connection: no broker listens there"
    )]
    #[case::unknown_host(
        "[thrd:kafak:9092/bootstrap]: kafak:9092/bootstrap: Failed to resolve 'kafak:9092': Name or service not known (after 12ms in state CONNECT)",
        "the host name kafak of kafak:9092 cannot be resolved: correct `bootstrapServers`, or the DNS"
    )]
    #[case::a_known_broker(
        "[thrd:10.0.0.1:9092/1]: 10.0.0.1:9092/1: Disconnected (after 1234ms in state UP)",
        "10.0.0.1:9092: Disconnected"
    )]
    fn a_failed_connection_names_the_address_and_the_cause(#[case] line: &str, #[case] words: &str) {
        let last = LastFailure::default();
        last.observe(line);
        assert_eq!(last.words().as_deref(), Some(words));
        last.clear();
        assert_eq!(last.words(), None);
    }
}

//! Listening sockets: on the requested address, or else on the default port, or else on a free port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A socket cannot be opened.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ListenError {
    /// The port is in use.
    #[error("{address} is in use by another process")]
    #[diagnostic(help(
        "choose another address with {option} HOST:PORT (port 0: any free port), or omit {option}"
    ))]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The option for the address.
        option: &'static str,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}")]
    #[diagnostic(help("give {option} a local address, e.g. 127.0.0.1:8080 or 0.0.0.0:8080"))]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The option for the address.
        option: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub listener: TcpListener,
    /// Its address.
    pub address: SocketAddr,
    /// The default address, if it was in use.
    pub replaces: Option<SocketAddr>,
}

/// Listens on `requested`, or else on the default port of the loopback interface, or else on a free port.
///
/// # Errors
/// [`ListenError`].
pub fn open(
    requested: Option<SocketAddr>,
    default_port: u16,
    option: &'static str,
) -> Result<Listener, ListenError> {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, default_port));
    let address = requested.unwrap_or(default);
    match bind(address) {
        Ok((listener, address)) => Ok(Listener { listener, address, replaces: None }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && requested.is_none() => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let (listener, address) =
                bind(any).map_err(|source| ListenError::Refused { address: any, option, source })?;
            Ok(Listener { listener, address, replaces: Some(default) })
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::Taken { address, option }),
        Err(source) => Err(ListenError::Refused { address, option, source }),
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requested_address_in_use_is_an_error_and_the_default_one_is_replaced() {
        let first = open(Some("127.0.0.1:0".parse().unwrap()), 0, "--listen").unwrap();
        let again = open(Some(first.address), 0, "--listen").unwrap_err();
        assert!(again.to_string().contains("is in use"), "{again}");
        let other = open(None, first.address.port(), "--listen").unwrap();
        assert_eq!(other.replaces, Some(first.address));
        assert_ne!(other.address, first.address);
    }
}

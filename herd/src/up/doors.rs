//! Addresses to listen on: the one asked for, or, where none was asked for, any that is free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// An address that cannot be had.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DoorError {
    /// Somebody else listens there.
    #[error("{address} is taken: another process listens there")]
    #[diagnostic(help(
        "choose another with {option} HOST:PORT (port 0: any that is free), or leave {option} out"
    ))]
    Taken {
        /// The address.
        address: SocketAddr,
        /// The option that asked for it.
        option: &'static str,
    },
    /// It cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    #[diagnostic(help("give {option} an address of this machine, e.g. 127.0.0.1:8080 or 0.0.0.0:8080"))]
    Refused {
        /// The address.
        address: SocketAddr,
        /// The option that asked for it.
        option: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A socket, and the usual address if that was taken.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub listener: TcpListener,
    /// Where it is.
    pub address: SocketAddr,
    /// The usual address, where it was taken.
    pub instead_of: Option<SocketAddr>,
}

/// Listens on `asked`, or else on the usual port of the loopback, or else on a free one.
///
/// # Errors
/// [`DoorError`].
pub fn open(asked: Option<SocketAddr>, usual_port: u16, option: &'static str) -> Result<Door, DoorError> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, usual_port));
    let address = asked.unwrap_or(usual);
    match bind(address) {
        Ok((listener, address)) => Ok(Door { listener, address, instead_of: None }),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && asked.is_none() => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let (listener, address) =
                bind(any).map_err(|source| DoorError::Refused { address: any, option, source })?;
            Ok(Door { listener, address, instead_of: Some(usual) })
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(DoorError::Taken { address, option }),
        Err(source) => Err(DoorError::Refused { address, option, source }),
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
    fn a_taken_address_that_was_asked_for_is_an_error_and_the_usual_one_is_replaced() {
        let first = open(Some("127.0.0.1:0".parse().unwrap()), 0, "--listen").unwrap();
        let again = open(Some(first.address), 0, "--listen").unwrap_err();
        assert!(again.to_string().contains("is taken"), "{again}");
        let other = open(None, first.address.port(), "--listen").unwrap();
        assert_eq!(other.instead_of, Some(first.address));
        assert_ne!(other.address, first.address);
    }
}

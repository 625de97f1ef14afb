//! TCP ports that the kernel chose and that nobody else is given while we hold them.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

/// A port of 127.0.0.1, held by a socket that is bound but never listens.
///
/// With SO_REUSEADDR on both sides Linux lets a server bind the same port as long as only one of the two listens, while
/// the kernel gives a held port to nobody who asks for *any* port. So it is ours before the server starts, while it
/// runs, and between a kill and a restart.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    /// Takes a free port from the kernel.
    pub fn reserve() -> Port {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a TCP socket can be made");
        held.set_reuse_address(true).expect("SO_REUSEADDR can be set on a new socket");
        held.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("loopback has free ports");
        let bound = held.local_addr().ok().and_then(|a| a.as_socket()).expect("a bound socket has an address");
        Port { number: bound.port(), _held: held }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

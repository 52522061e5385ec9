//! Ports that stay the same over a restart.
//!
//! A server on port 0 gets another port each time it starts, and a client that retries a closed port of the
//! ephemeral range can end up connected to itself. So what is killed and started again under load listens on a
//! reserved port below that range.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

/// Below the ephemeral range of Linux (from 32768) and macOS (from 49152), above what services commonly use.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A loopback TCP port that is this process's own for as long as the value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The claim: whoever reserves a port binds its UDP twin first, so that no two test processes choose the
    /// same one. It vanishes with the process, however that ends.
    _claim: UdpSocket,
}

impl Port {
    /// Reserves a port that nobody listens on.
    ///
    /// # Errors
    /// Where the whole range is taken.
    pub fn reserve() -> Result<Self> {
        let span = RANGE.end - RANGE.start;
        // Any start will do, as long as processes that start together do not all begin at the same port.
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        let first = (nanos ^ std::process::id().wrapping_mul(2_654_435_761)) % u32::from(span);
        for step in 0..span {
            let number = RANGE.start + (u16::try_from(first)? + step) % span;
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _claim: claim });
            }
        }
        bail!("every port of {RANGE:?} on 127.0.0.1 is taken")
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The loopback address with this port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two reservations never name the same port, and the port can be listened on.
    #[test]
    fn a_reserved_port_is_free_and_taken_once() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
        assert!(TcpListener::bind(ports[0].addr()).is_ok());
    }
}

//! The request that everybody gets, and how many of them go out at once.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use super::wire::{Head, Wire};
use crate::names;

/// Connections of one load. Their requests are sent together and their answers awaited together, so that a worker that
/// has been woken finds some work: waking it, on a virtual machine above all, costs more than a request.
pub const CONNECTIONS: usize = 16;

/// What the ids of new sessions begin with; a number of twelve digits follows.
pub const NEW: &str = "bench-new-";

/// The host that everybody is asked for, unless the variant is asked for another.
pub const HOST: &str = "agents.example.com";

/// The same request to everybody: what else stands in it is the variant's.
#[must_use]
pub fn request(session: &str, pin: Option<&str>, more: &str) -> Vec<u8> {
    request_at(HOST, session, pin, more)
}

/// The same, for another host.
#[must_use]
pub fn request_at(host: &str, session: &str, pin: Option<&str>, more: &str) -> Vec<u8> {
    let pin = pin.map(|pin| format!("{}: {pin}\r\n", names::PIN)).unwrap_or_default();
    let session = format!("{}: {session}\r\n", names::SESSION);
    let usual = format!("host: {host}\r\nuser-agent: bench\r\naccept: application/json\r\n");
    format!("GET /turn HTTP/1.1\r\n{usual}{session}{pin}{more}\r\n").into_bytes()
}

/// The request of a new session, whose number [`rename`] changes.
#[must_use]
pub fn new_session() -> Vec<u8> {
    request(&format!("{NEW}{:012}", 0), None, "")
}

/// Writes the number of another session into a request, in place: the load must cost the same for everybody.
///
/// # Errors
/// Where it is no [`new_session`].
pub fn rename(request: &mut [u8], number: u64) -> Result<()> {
    let at = request.windows(NEW.len()).position(|found| found == NEW.as_bytes()).context("a new session")?;
    let digits = request.get_mut(at + NEW.len()..).and_then(|rest| rest.get_mut(..12)).context("its number")?;
    let mut left = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    Ok(())
}

/// The connections of one load.
#[derive(Debug)]
pub struct Volley(Vec<Wire>);

impl Volley {
    /// Opens them.
    ///
    /// # Errors
    /// Where nobody takes a connection.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self((0..CONNECTIONS).map(|_| Wire::open(address)).collect::<Result<_>>()?))
    }

    /// Sends a request over every connection, each as `prepare` leaves it, and shows all answers to `look`.
    ///
    /// # Errors
    /// Where an exchange breaks, or one of both refuses.
    pub fn fire(
        &mut self,
        request: &mut [u8],
        mut prepare: impl FnMut(&mut [u8]) -> Result<()>,
        mut look: impl FnMut(Head, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for wire in &mut self.0 {
            prepare(request)?;
            wire.send(request)?;
        }
        for wire in &mut self.0 {
            let (head, _, body) = wire.receive()?;
            look(head, body)?;
        }
        Ok(())
    }
}

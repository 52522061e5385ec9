//! Failed authentication: how often one peer may fail, and how often the log hears of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// How often failed authentication is told at most.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// How long a peer must rest for one more.
const REST: Duration = Duration::from_secs(3);
/// How many peers are told apart.
const PEERS_MAX: usize = 1_024;

/// Where a request came from, as far as limits go: one address, or one network of IPv6, all of which one host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Peer(IpAddr);

impl Peer {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            address => Self(address),
        }
    }
}

/// What comes of one failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// How many are to be told in the log now.
    pub untold: Option<u64>,
    /// How long the peer must rest, where it failed too often.
    pub rest: Option<Duration>,
}

/// The failures of one API. Who has valid credentials is never asked for this: only failures are.
#[derive(Debug)]
pub struct Failures {
    /// How many failures in a row a peer may have.
    burst: u32,
    /// When each peer will have rested enough for all of its failures.
    rested: BTreeMap<Peer, Instant>,
    untold: u64,
    told: Option<Instant>,
}

impl Failures {
    /// No failures yet; a peer may have `burst` in a row, at least one.
    pub fn new(burst: u32) -> Self {
        Self { burst, rested: BTreeMap::new(), untold: 0, told: None }
    }

    /// One more failure of `address`, now.
    pub fn add(&mut self, address: IpAddr, now: Instant) -> Failed {
        Failed { rest: self.rest(Peer::of(address), now), untold: self.tell(now) }
    }

    fn rest(&mut self, peer: Peer, now: Instant) -> Option<Duration> {
        let rested = self.rested.get(&peer).map_or(now, |rested| (*rested).max(now));
        let allowed = REST * self.burst.saturating_sub(1);
        let excess = rested.duration_since(now).saturating_sub(allowed);
        if !excess.is_zero() {
            return Some(excess);
        }
        self.make_room(peer, now);
        self.rested.insert(peer, rested + REST);
        None
    }

    /// Forgets who has rested; where nobody has, who will have first.
    fn make_room(&mut self, peer: Peer, now: Instant) {
        if self.rested.len() < PEERS_MAX || self.rested.contains_key(&peer) {
            return;
        }
        self.rested.retain(|_, rested| *rested > now);
        if self.rested.len() >= PEERS_MAX
            && let Some(first) = self.rested.iter().min_by_key(|(_, rested)| **rested).map(|(peer, _)| *peer)
        {
            self.rested.remove(&first);
        }
    }

    fn tell(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now < told + TOLD_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: u32 = 20;

    fn peer(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    /// The first failure is told at once, the others together, once a minute: a flood does not fill the log.
    #[test]
    fn failures_are_told_now_and_then() {
        let start = Instant::now();
        let mut failures = Failures::new(BURST);
        let mut told = |at| failures.add(peer(1), at).untold;
        assert_eq!(told(start), Some(1));
        for _ in 0..1_000 {
            assert_eq!(told(start + TOLD_EVERY / 2), None);
        }
        assert_eq!(told(start + TOLD_EVERY), Some(1_001));
        assert_eq!(told(start + TOLD_EVERY), None);
    }

    /// A peer may fail some times in a row, then must rest; others may fail meanwhile, and after a rest it may again.
    #[test]
    fn peers_are_limited_one_by_one() {
        let start = Instant::now();
        let mut failures = Failures::new(BURST);
        for _ in 0..BURST {
            assert_eq!(failures.add(peer(1), start).rest, None);
        }
        for _ in 0..1_000 {
            assert_eq!(failures.add(peer(1), start).rest, Some(REST));
        }
        assert_eq!(failures.add(peer(2), start).rest, None);
        assert_eq!(failures.add(peer(1), start + REST).rest, None);
        assert_eq!(failures.add(peer(1), start + REST).rest, Some(REST));
        for _ in 0..BURST {
            assert_eq!(failures.add(peer(1), start + REST * (BURST + 1)).rest, None);
        }
    }

    /// The table is bounded; whoever has failed most is remembered longest.
    #[test]
    fn the_table_is_bounded() {
        let start = Instant::now();
        let mut failures = Failures::new(BURST);
        for _ in 0..BURST {
            failures.add(peer(0), start);
        }
        for number in 1..10_000 {
            assert_eq!(failures.add(peer(number), start).rest, None);
            assert!(failures.rested.len() <= PEERS_MAX);
        }
        assert_eq!(failures.add(peer(0), start).rest, Some(REST));
        failures.add(peer(1), start + REST * (BURST + 2));
        failures.make_room(Peer::of(peer(77)), start + REST * (BURST + 2));
        assert!(failures.rested.len() <= 2, "who has rested is forgotten");
    }

    /// One host of IPv6 has a whole network to fail from.
    #[test]
    fn networks_of_ipv6_are_one_peer() {
        let peer = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}

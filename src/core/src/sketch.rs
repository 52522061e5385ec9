//! Counting sessions without keeping them: HyperLogLog (Flajolet, Fusy, Gandouet and Meunier, 2007), read by the
//! estimator of Ertl (2017), which needs no correction at any size.
//!
//! Proxies keep a [`Tally`] of what they have told, and tell [`Mark`]s; the sidecar merges marks into a [`Sketch`].
//! The standard error is 0.57 %. A sketch of nothing is empty, exactly.

use base64ct::{Base64UrlUnpadded, Encoding as _};

use crate::ids::Sid;

/// Bits of a sid that choose its register.
const INDEX_BITS: u32 = 15;
/// Registers of a sketch, one byte each.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a sid that are left to be ranked.
const RANKED_BITS: u32 = 64 - INDEX_BITS;
/// The highest rank.
const RANK_MAX: u8 = RANKED_BITS as u8 + 1;
/// Bytes of a mark.
pub const MARK_BYTES: usize = 3;

/// A window of time is kept in so many parts, of which the oldest falls out whole.
pub const PARTS: u64 = 8;

/// How long a part is of a window of so many seconds. Proxies tell sessions that go on once in each.
pub fn part_millis(seconds: u32) -> u64 {
    (u64::from(seconds) * 1000 / PARTS).max(1_000)
}

/// What one session leaves in a sketch: the register, and the rank that it reaches there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    register: u16,
    rank: u8,
}

impl Mark {
    /// The mark of a session. Sids are keyed hashes or drawn, so their bits are as good as random.
    pub fn of(Sid(sid): Sid) -> Self {
        let register = (sid >> RANKED_BITS) as u16;
        let rank = ((sid << INDEX_BITS).leading_zeros() as u8).saturating_add(1).min(RANK_MAX);
        Self { register, rank }
    }

    fn write(self, to: &mut Vec<u8>) {
        let number = u32::from(self.register) << 6 | u32::from(self.rank);
        let [_, bytes @ ..] = number.to_be_bytes();
        to.extend_from_slice(&bytes);
    }

    fn read([a, b, c]: [u8; MARK_BYTES]) -> Option<Self> {
        let number = u32::from_be_bytes([0, a, b, c]);
        let mark = Self { register: u16::try_from(number >> 6).ok()?, rank: (number & 63) as u8 };
        (usize::from(mark.register) < REGISTERS && (1..=RANK_MAX).contains(&mark.rank)).then_some(mark)
    }
}

/// Marks as they stand in a report.
pub fn text(marks: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(marks)
}

/// What a proxy has seen, and what of it it has yet to tell. Its size is bounded, however many sessions come.
#[derive(Debug, Default)]
pub struct Tally {
    /// The highest rank of each register, with [`UNTOLD`] where that is news; empty before the first session.
    registers: Vec<u8>,
    untold: Vec<u16>,
}

/// The bit of a register that has not been told.
const UNTOLD: u8 = 0x80;

impl Tally {
    /// Notes a session.
    pub fn note(&mut self, sid: Sid) {
        let Mark { register, rank } = Mark::of(sid);
        if self.registers.is_empty() {
            self.registers.resize(REGISTERS, 0);
        }
        let Some(known) = self.registers.get_mut(usize::from(register)) else { return };
        if rank > *known & !UNTOLD {
            if *known & UNTOLD == 0 {
                self.untold.push(register);
            }
            *known = rank | UNTOLD;
        }
    }

    /// Whether there is something to tell.
    pub fn has_news(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Takes news, at most `most` marks, as bytes.
    pub fn take(&mut self, most: usize) -> Vec<u8> {
        let rest = self.untold.len().saturating_sub(most);
        let mut bytes = Vec::new();
        for register in self.untold.drain(rest..) {
            if let Some(known) = self.registers.get_mut(usize::from(register)) {
                *known &= !UNTOLD;
                Mark { register, rank: *known }.write(&mut bytes);
            }
        }
        bytes
    }

    /// What was told may be lost: all of it is news again.
    pub fn tell_again(&mut self) {
        self.untold.clear();
        for (place, rank) in self.registers.iter_mut().enumerate().filter(|(_, rank)| **rank != 0) {
            *rank |= UNTOLD;
            self.untold.extend(u16::try_from(place));
        }
    }

    /// Forgets what was told, so that sessions that are still there are told anew.
    pub fn begin_anew(&mut self) {
        self.registers.iter_mut().filter(|register| **register & UNTOLD == 0).for_each(|register| *register = 0);
    }
}

/// A set of sessions, as far as it can be counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketch(Vec<u8>);

impl Default for Sketch {
    fn default() -> Self {
        Self(vec![0; REGISTERS])
    }
}

impl Sketch {
    /// Takes in a session.
    pub fn note(&mut self, sid: Sid) {
        let Mark { register, rank } = Mark::of(sid);
        if let Some(known) = self.0.get_mut(usize::from(register)) {
            *known = rank.max(*known);
        }
    }

    /// The sketch of these bytes: marks as [`Tally::take`] gives them. `None` where they are none.
    pub fn of_marks(bytes: &[u8]) -> Option<Self> {
        let mut sketch = Self::default();
        let (marks, rest) = bytes.as_chunks::<MARK_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        for mark in marks {
            let Mark { register, rank } = Mark::read(*mark)?;
            let known = sketch.0.get_mut(usize::from(register))?;
            *known = rank.max(*known);
        }
        Some(sketch)
    }

    /// The sketch of the marks that [`text`] wrote.
    pub fn of_text(marks: &str) -> Option<Self> {
        Self::of_marks(&Base64UrlUnpadded::decode_vec(marks).ok()?)
    }

    /// The shortest form of it that [`Self::read`] reads: marks, or every register.
    pub fn write(&self) -> Vec<u8> {
        let set = || self.0.iter().enumerate().filter(|(_, rank)| **rank > 0);
        if set().count() * MARK_BYTES >= REGISTERS {
            return self.0.clone();
        }
        let mut bytes = Vec::new();
        for (register, rank) in set() {
            Mark { register: u16::try_from(register).unwrap_or(u16::MAX), rank: *rank }.write(&mut bytes);
        }
        bytes
    }

    /// Reads what [`Self::write`] wrote. The marks of a shorter form are never as many bytes as there are registers.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != REGISTERS {
            return Self::of_marks(bytes);
        }
        bytes.iter().all(|rank| *rank <= RANK_MAX).then(|| Self(bytes.to_vec()))
    }

    /// Takes in what is in `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(known, rank)| *known = (*known).max(*rank));
    }

    /// Whether there is no session in it: exact.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|rank| *rank == 0)
    }

    /// How many sessions are in it.
    pub fn count(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut ranks = [0u32; RANK_MAX as usize + 1];
        for rank in &self.0 {
            if let Some(count) = ranks.get_mut(usize::from(*rank)) {
                *count += 1;
            }
        }
        let m = REGISTERS as f64;
        let [none, inner @ .., full] = ranks;
        let above = m * tau(1.0 - f64::from(full) / m);
        let z = inner.iter().rev().fold(above, |z, count| 0.5 * (z + f64::from(*count)));
        let z = z + m * sigma(f64::from(none) / m);
        // At least one, since it is not empty.
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round().max(1.0) as u64
    }
}

/// Ertl's σ: what empty registers add.
fn sigma(x: f64) -> f64 {
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before || !z.is_finite() {
            return z;
        }
    }
}

/// Ertl's τ: what full registers take away.
fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::rendezvous::mix;

    fn sids(seed: u64, number: u64) -> impl Iterator<Item = Sid> {
        (0..number).map(move |n| Sid(mix(mix(seed).wrapping_add(n))))
    }

    fn sketch(sids: impl Iterator<Item = Sid>) -> Sketch {
        let mut tally = Tally::default();
        sids.for_each(|sid| tally.note(sid));
        Sketch::of_marks(&tally.take(usize::MAX)).unwrap()
    }

    /// Accounted: at most 2 % wrong at any size, and exact where there is nothing, or a handful.
    #[test]
    fn counts_are_right() {
        assert_eq!(Sketch::default().count(), 0);
        assert!(Sketch::default().is_empty());
        let mut worst = 0.0_f64;
        for number in [1, 2, 10, 100, 1_000, 5_000, 20_000, 50_000, 100_000, 150_000, 400_000, 1_000_000] {
            for seed in 0..8 {
                let found = sketch(sids(seed * 7919 + number, number)).count();
                let error = (found as f64 - number as f64).abs() / number as f64;
                worst = worst.max(error);
                assert!(error <= 0.02, "{found} of {number}, seed {seed}");
                assert!(number > 10 || found == number, "{found} of {number}");
            }
        }
        println!("worst error {:.2} %", worst * 100.0);
    }

    proptest! {
        /// Whatever is told in whatever pieces, by however many proxies, counts each session once; what is written reads
        /// back.
        #[test]
        fn pieces_make_the_whole(
            parts in proptest::collection::vec((0..300_u64, 0..200_u64, 1..50_usize), 1..6), again in any::<bool>()
        ) {
            let mut merged = Sketch::default();
            let mut all = BTreeSet::new();
            for (first, number, most) in parts {
                let mut tally = Tally::default();
                for sid in sids(0, first + number).skip(usize::try_from(first).unwrap()) {
                    tally.note(sid);
                    tally.note(sid);
                    all.insert(sid.0);
                    if again {
                        tally.begin_anew();
                    }
                }
                while tally.has_news() {
                    let bytes = tally.take(most);
                    prop_assert!(bytes.len() <= most * MARK_BYTES);
                    merged.merge(&Sketch::of_marks(&bytes).unwrap());
                }
                prop_assert!(tally.take(usize::MAX).is_empty());
            }
            prop_assert_eq!(&merged, &sketch(all.iter().map(|sid| Sid(*sid))));
            let mut noted = Sketch::default();
            all.iter().for_each(|sid| noted.note(Sid(*sid)));
            prop_assert_eq!(&merged, &noted);
            prop_assert_eq!(Sketch::read(&merged.write()), Some(merged));
        }

        /// No bytes, from whomever they come, make a sketch that another would not read, or that cannot be counted.
        #[test]
        fn strange_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(sketch) = Sketch::of_marks(&bytes) {
                prop_assert_eq!(sketch.is_empty(), bytes.is_empty());
                prop_assert!(sketch.count() > 0 || bytes.is_empty());
                prop_assert_eq!(Sketch::read(&sketch.write()), Some(sketch));
            }
        }
    }

    /// Accounted: what was told to a sidecar that died is told again, whole, and once.
    #[test]
    fn what_was_told_is_told_again() {
        let mut tally = Tally::default();
        sids(3, 1_000).for_each(|sid| tally.note(sid));
        let told = Sketch::of_marks(&tally.take(usize::MAX)).unwrap();
        sids(4, 10).for_each(|sid| tally.note(sid));
        tally.tell_again();
        let mut again = Sketch::of_marks(&tally.take(usize::MAX)).unwrap();
        assert!(!tally.has_news());
        again.merge(&told);
        assert_eq!(again, sketch(sids(3, 1_000).chain(sids(4, 10))));
        assert_eq!(told, sketch(sids(3, 1_000)));
    }

    /// A full sketch is written register by register, and reads back.
    #[test]
    fn both_forms_read_back() {
        for number in [0, 10, 10_000, 200_000] {
            let sketch = sketch(sids(1, number));
            let bytes = sketch.write();
            assert_eq!(bytes.len() == REGISTERS, number == 200_000, "{number}");
            assert_eq!(Sketch::read(&bytes), Some(sketch));
        }
        assert_eq!(Sketch::read(&[0xff; REGISTERS]), None);
    }

    /// A session that is still there is told again in each window, and one that is gone is not.
    #[test]
    fn windows_begin_anew() {
        let mut tally = Tally::default();
        tally.note(Sid(7 << 50));
        assert_eq!(tally.take(9).len(), MARK_BYTES);
        tally.note(Sid(7 << 50));
        assert!(!tally.has_news());
        tally.begin_anew();
        assert!(!tally.has_news());
        tally.note(Sid(7 << 50));
        assert!(tally.has_news());
        tally.begin_anew();
        assert_eq!(tally.take(9).len(), MARK_BYTES, "what was not told yet is told");
    }
}

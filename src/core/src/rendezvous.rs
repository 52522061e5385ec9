//! Weighted rendezvous hashing: which of several slots a key belongs to.
//!
//! Every slot scores `-weight / ln(u)` with `u` a uniform number in (0, 1) made of the key and the slot; the highest
//! score wins (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005). A slot's score depends
//! on its own weight alone, so raising one weight moves keys only *to* that slot as far as it alone is changed.
//! The logarithm is a pure-Rust one: native code and wasm compute the same bits.

use twox_hash::XxHash3_64;

use crate::ids::{ServiceName, SlotName};
use crate::weight::Weight;

/// A uniformly distributed 64-bit number that stands for what is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub u64);

impl Key {
    /// The key of a session id, the same in every proxy, with or without secrets.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_64::oneshot(bytes))
    }
}

/// A place that keys can go to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    seed: u64,
    weight: f64,
}

impl Place {
    /// The place of `slot` of `service`: services that share slot names place their keys independently.
    pub fn new(service: &ServiceName, slot: &SlotName, weight: Weight) -> Self {
        let seed = XxHash3_64::oneshot(format!("{service}/{slot}").as_bytes());
        Self { seed, weight: f64::from(weight.parts()) }
    }

    /// How strongly this place asks for a key.
    pub(crate) fn score(&self, key: Key) -> f64 {
        // 53 random bits and a half: never 0, never 1, so the logarithm is finite and negative.
        let uniform = ((mix(key.0 ^ self.seed) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -self.weight / libm::log(uniform)
    }
}

/// The index of the place that `key` belongs to; `None` where there is no place. Places of weight 0 never win.
pub fn place(places: &[Place], key: Key) -> Option<usize> {
    match places {
        [] => None,
        [only] => (only.weight > 0.0).then_some(0),
        _ => {
            let mut best = None;
            let mut highest = 0.0;
            for (index, place) in places.iter().enumerate() {
                let score = place.score(key);
                if score > highest {
                    (best, highest) = (Some(index), score);
                }
            }
            best
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that scatters 64 bits.
pub fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(weights: &[u32]) -> Vec<Place> {
        let service = "chat".parse().unwrap();
        let slot = |index| format!("slot-{index}").parse().unwrap();
        let weight = |parts: &u32| Weight::try_from(*parts).unwrap();
        weights.iter().enumerate().map(|(index, parts)| Place::new(&service, &slot(index), weight(parts))).collect()
    }

    fn assign(weights: &[u32]) -> Vec<usize> {
        let places = places(weights);
        (0..100_000).map(|n| place(&places, Key::of(format!("session-{n}").as_bytes())).unwrap()).collect()
    }

    fn share(assigned: &[usize], slot: usize) -> f64 {
        assigned.iter().filter(|s| **s == slot).count() as f64 / assigned.len() as f64
    }

    /// Split: over 100,000 ids a weight of 1,000 gets 10 % ± 0.5 points.
    #[test]
    fn shares_follow_weights() {
        for parts in [100, 1_000, 2_500, 5_000, 9_900] {
            let got = share(&assign(&[10_000 - parts, parts]), 1);
            assert!((got - f64::from(parts) / 10_000.0).abs() < 0.005, "{parts} parts got {got}");
        }
        let three = assign(&[5_000, 3_000, 2_000]);
        for (slot, wanted) in [0.5, 0.3, 0.2].into_iter().enumerate() {
            assert!((share(&three, slot) - wanted).abs() < 0.005);
        }
    }

    /// Split: raising 1,000 to 2,500 moves keys only to the raised slot, where two take new sessions.
    #[test]
    fn raising_moves_only_towards_the_raised_slot() {
        let (before, after) = (assign(&[9_000, 1_000]), assign(&[7_500, 2_500]));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
        assert!(moved.iter().all(|(_, to)| **to == 1));
        let part = moved.len() as f64 / before.len() as f64;
        assert!((part - 0.15).abs() < 0.005, "{part} of the keys moved");
    }

    /// Split: with three slots the neighbours trade a few keys, and none leaves the raised slot.
    #[test]
    fn neighbours_trade_few_keys() {
        // Live gives what the second candidate gains; the first candidate keeps its weight.
        let (before, after) = (assign(&[8_000, 1_000, 1_000]), assign(&[6_500, 1_000, 2_500]));
        let moves = |from: usize, to: usize| {
            before.iter().zip(&after).filter(|(b, a)| **b == from && **a == to).count() as f64 / before.len() as f64
        };
        assert_eq!(moves(2, 0) + moves(2, 1), 0.0);
        let traded = moves(0, 1) + moves(1, 0);
        assert!(traded < 0.03, "neighbours traded {traded}");
        println!("three slots, 10 % raised to 25 %: neighbours traded {:.2} % of all keys", traded * 100.0);
    }

    /// The extremes: nothing to go to, one place, a place of no weight.
    #[test]
    fn degenerate_places() {
        assert_eq!(place(&[], Key(1)), None);
        assert_eq!(place(&places(&[0]), Key(1)), None);
        assert_eq!(place(&places(&[10_000]), Key(1)), Some(0));
        assert!((0..10_000).all(|n| place(&places(&[0, 1]), Key(mix(n))) == Some(1)));
        for key in [0, u64::MAX] {
            assert!(place(&places(&[1, 1]), Key(key)).is_some());
        }
    }
}

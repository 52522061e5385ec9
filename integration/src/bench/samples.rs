//! What was measured, round by round. All of a round is paired: what else the machine did in it fell on everybody.

use std::collections::BTreeMap;

use super::variants::{Build, Leg, Variant};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A variant on a leg, of a build where it is the filter.
    Variant(Leg, Variant, Build),
    /// A host call by its word, so many times.
    Call(&'static str, u32),
}

/// What each subject has cost, in microseconds of CPU a request: in each round, each of the listeners that do the same.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<(Subject, usize), Vec<f64>>);

impl Samples {
    /// Notes what one of the listeners of a subject has cost in the next round.
    pub fn push(&mut self, subject: Subject, instance: usize, cost: f64) {
        self.0.entry((subject, instance)).or_default().push(cost);
    }

    /// What a subject has cost in each round: the mean of its listeners.
    #[must_use]
    pub fn of(&self, subject: Subject) -> Vec<f64> {
        let listeners = self.listeners(subject);
        let rounds = listeners.first().map_or(0, |rounds| rounds.len());
        let mean = |round: usize| {
            let costs = listeners.iter().filter_map(|rounds| rounds.get(round));
            costs.sum::<f64>() / listeners.len() as f64
        };
        (0..rounds).map(mean).collect()
    }

    /// What one subject has cost more than another, in each round.
    #[must_use]
    pub fn beyond(&self, subject: Subject, other: Subject) -> Vec<f64> {
        differences(&self.of(subject), &self.of(other))
    }

    /// What the second of two listeners that do the same has cost more than the first, in each round.
    #[must_use]
    pub fn apart(&self, subject: Subject) -> Vec<f64> {
        match self.listeners(subject).as_slice() {
            [first, second, ..] => differences(second, first),
            _ => Vec::new(),
        }
    }

    /// The least that anything has cost in a round.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.0.values().flatten().copied().fold(f64::INFINITY, f64::min)
    }

    fn listeners(&self, subject: Subject) -> Vec<&[f64]> {
        let all = self.0.range((subject, 0)..=(subject, usize::MAX));
        all.map(|(_, rounds)| rounds.as_slice()).collect()
    }
}

/// What each round has more than the same round of another subject.
#[must_use]
pub fn differences(all: &[f64], base: &[f64]) -> Vec<f64> {
    all.iter().zip(base).map(|(all, base)| all - base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subject costs what its listeners cost in the same round, and no round is held against another.
    #[test]
    fn rounds_are_paired() {
        let of = |variant| Subject::Variant(Leg::Direct, variant, Build::Now);
        let (pin, empty) = (of(Variant::Pin), of(Variant::Empty));
        let mut samples = Samples::default();
        for (round, slow) in [0.0, 100.0, 0.0].into_iter().enumerate() {
            samples.push(pin, 0, 10.0 + slow);
            samples.push(pin, 1, 12.0 + slow);
            samples.push(empty, 0, 5.0 + slow + round as f64);
        }
        assert_eq!(samples.of(pin), [11.0, 111.0, 11.0]);
        assert_eq!(samples.beyond(pin, empty), [6.0, 5.0, 4.0]);
        assert_eq!(samples.apart(pin), [2.0, 2.0, 2.0]);
        assert_eq!((samples.apart(empty), samples.least()), (Vec::new(), 5.0));
    }
}

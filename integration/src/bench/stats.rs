//! Medians and their spread.

use serde::Serialize;

/// What several rounds came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the rounds are below.
    pub median: f64,
    /// A quarter of the rounds are below.
    pub q1: f64,
    /// A quarter of the rounds are above.
    pub q3: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// The standard error of the median, by the quartiles: a few rounds that something else fell on do not sway it.
    pub error: f64,
}

impl Spread {
    /// Of these samples; zeros where there are none.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(samples);
        let at = |part| quantile(&sorted, part);
        let (q1, q3) = (at(0.25), at(0.75));
        let error = MEDIAN_ERROR * (q3 - q1) / (sorted.len().max(1) as f64).sqrt();
        Self { median: at(0.5), q1, q3, min: at(0.0), max: at(1.0), error }
    }
}

/// The standard error of a median of normal samples is 1.253 of their standard deviation, by the root of their number; and
/// 1.349 of that deviation lie between the quartiles.
const MEDIAN_ERROR: f64 = 1.253 / 1.349;

/// Latencies: the nearest ranks, as is customary for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them were not slower.
    pub p50: f64,
    /// 99 % of them were not slower.
    pub p99: f64,
    /// The fastest.
    pub min: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Of these samples; zeros where there are none.
    #[must_use]
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let sorted = sorted(samples);
        let rank = |part: f64| {
            let nth = (part * sorted.len() as f64).ceil().max(1.0) as usize - 1;
            sorted.get(nth).copied().unwrap_or_default()
        };
        Self { p50: rank(0.5), p99: rank(0.99), min: rank(0.0), max: rank(1.0) }
    }
}

/// The slope of a line through points, by least squares.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if run == 0.0 { 0.0 } else { rise / run }
}

/// The root of the mean of squares; zero of nothing.
#[must_use]
pub fn root_mean_square(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0u32), |(sum, count), value| (sum + value * value, count + 1));
    (sum / f64::from(count.max(1))).sqrt()
}

fn sorted(samples: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = samples.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Between the two samples that a part of all lies between, in proportion.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = part * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (sorted.get(at.floor() as usize), sorted.get(at.ceil() as usize));
    match (below, above) {
        (Some(below), Some(above)) => below + (above - below) * at.fract(),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of the report mean what they are called.
    #[test]
    fn figures_mean_what_they_are_called() {
        let spread = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]);
        let error = 2.0 * MEDIAN_ERROR / 5f64.sqrt();
        assert_eq!(spread, Spread { median: 3.0, q1: 2.0, q3: 4.0, min: 1.0, max: 5.0, error });
        assert_eq!(Spread::of([1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of([]), Spread::default());
        let latency = Latency::of((1..=200).map(f64::from));
        assert_eq!(latency, Latency { p50: 100.0, p99: 198.0, min: 1.0, max: 200.0 });
        assert_eq!(slope(&[(1.0, 5.0), (2.0, 7.0), (3.0, 9.0)]), 2.0);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
        assert_eq!((root_mean_square([3.0, -3.0]), root_mean_square([])), (3.0, 0.0));
    }
}

//! The metrics of one proxy process, and the numbers by which a VM speaks of them.

use std::collections::BTreeMap;

use crate::Status;

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    pub(crate) fn of(raw: u32) -> Option<Self> {
        Some(match raw {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Histogram,
            _ => return None,
        })
    }
}

/// Values by kind and name; two VMs that define the same name share the value.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) gauges: BTreeMap<String, u64>,
    pub(crate) histograms: BTreeMap<String, Vec<u64>>,
}

impl Metrics {
    /// Makes the metric known with a value of nothing, unless it is already.
    pub(crate) fn define(&mut self, kind: MetricKind, name: &str) {
        match kind {
            MetricKind::Counter => {
                self.counters.entry(name.to_owned()).or_default();
            }
            MetricKind::Gauge => {
                self.gauges.entry(name.to_owned()).or_default();
            }
            MetricKind::Histogram => {
                self.histograms.entry(name.to_owned()).or_default();
            }
        }
    }

    /// Adds to a counter (upwards only, and never by nothing) or moves a gauge either way.
    pub(crate) fn increment(&mut self, kind: MetricKind, name: &str, offset: i64) -> Result<(), Status> {
        match kind {
            MetricKind::Counter if offset > 0 => {
                *self.counters.entry(name.to_owned()).or_default() += offset.unsigned_abs();
                Ok(())
            }
            MetricKind::Gauge => {
                let gauge = self.gauges.entry(name.to_owned()).or_default();
                *gauge = gauge.wrapping_add_signed(offset);
                Ok(())
            }
            MetricKind::Counter | MetricKind::Histogram => Err(Status::BadArgument),
        }
    }

    /// Adds to a counter, sets a gauge, or takes a histogram's sample.
    pub(crate) fn record(&mut self, kind: MetricKind, name: &str, value: u64) {
        match kind {
            MetricKind::Counter => *self.counters.entry(name.to_owned()).or_default() += value,
            MetricKind::Gauge => {
                self.gauges.insert(name.to_owned(), value);
            }
            MetricKind::Histogram => {
                self.histograms.entry(name.to_owned()).or_default().push(value);
            }
        }
    }

    /// The value of a counter or gauge; a histogram cannot be read back.
    pub(crate) fn get(&self, kind: MetricKind, name: &str) -> Result<u64, Status> {
        let value = match kind {
            MetricKind::Counter => self.counters.get(name),
            MetricKind::Gauge => self.gauges.get(name),
            MetricKind::Histogram => return Err(Status::BadArgument),
        };
        value.copied().ok_or(Status::NotFound)
    }
}

/// The metric numbers of one VM. Each definition gives a new number, even of a name known before.
#[derive(Debug, Default)]
pub(crate) struct MetricIds {
    known: BTreeMap<u32, (MetricKind, String)>,
}

impl MetricIds {
    pub(crate) fn define(&mut self, kind: MetricKind, name: &str) -> u32 {
        // The two lowest bits tell the kind; the rest count up within it.
        let of_kind = self.known.values().filter(|(known, _)| *known == kind).count() as u32;
        let id = (of_kind + 1) << 2 | kind as u32;
        self.known.insert(id, (kind, name.to_owned()));
        id
    }

    pub(crate) fn get(&self, id: u32) -> Option<(MetricKind, String)> {
        self.known.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter goes upwards only; adding nothing to it is an error.
    #[test]
    fn counters_refuse_zero_and_less() {
        let mut metrics = Metrics::default();
        assert_eq!(metrics.increment(MetricKind::Counter, "c", 2), Ok(()));
        assert_eq!(metrics.increment(MetricKind::Counter, "c", 0), Err(Status::BadArgument));
        assert_eq!(metrics.increment(MetricKind::Counter, "c", -1), Err(Status::BadArgument));
        assert_eq!(metrics.get(MetricKind::Counter, "c"), Ok(2));
    }

    /// A gauge moves both ways; a histogram takes samples and is never read by the guest.
    #[test]
    fn gauges_and_histograms() {
        let mut metrics = Metrics::default();
        metrics.record(MetricKind::Gauge, "g", 5);
        metrics.increment(MetricKind::Gauge, "g", -2).unwrap();
        assert_eq!(metrics.get(MetricKind::Gauge, "g"), Ok(3));
        metrics.record(MetricKind::Histogram, "h", 7);
        assert_eq!(metrics.histograms["h"], [7]);
        assert_eq!(metrics.get(MetricKind::Histogram, "h"), Err(Status::BadArgument));
    }

    /// The numbers of one VM never repeat, whatever is defined.
    #[test]
    fn every_definition_gets_its_own_number() {
        let mut ids = MetricIds::default();
        let first = ids.define(MetricKind::Counter, "c");
        let again = ids.define(MetricKind::Counter, "c");
        let gauge = ids.define(MetricKind::Gauge, "c");
        assert!(first != again && again != gauge && first != gauge);
        assert_eq!(ids.get(gauge), Some((MetricKind::Gauge, "c".to_owned())));
    }
}

//! Families of samples: one name, one sentence, one type, and a sample for each set of labels.
//!
//! Names follow Prometheus: `portico_` first, the unit last; counters are given without `_total`, which is added to them.

use crate::requests::{BOUNDS, FINE_BOUNDS, Histogram};
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;

/// Where families are written to.
pub(super) struct Family<'a>(DescriptorEncoder<'a>);

impl<'a> Family<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// What only rises, until the process or what is counted begins anew. No two samples with the same labels.
    pub(super) fn counter<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// How many took how long. No two samples with the same labels.
    pub(super) fn histogram<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        self.durations(name, help, BOUNDS.map(|micros| micros as f64 / 1e6), samples)
    }

    /// As [`Self::histogram`], of what takes microseconds.
    pub(super) fn fine_histogram<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        self.durations(name, help, FINE_BOUNDS.map(|nanos| nanos as f64 / 1e9), samples)
    }

    fn durations<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        bounds: [f64; BOUNDS.len()],
        samples: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in samples {
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(histogram.buckets).collect();
            let count = histogram.buckets.iter().sum();
            let sum = histogram.sum.as_secs_f64();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    /// One figure that only rises.
    pub(super) fn count(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(family)
    }

    /// One figure that rises and falls.
    pub(super) fn figure(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(family)
    }

    /// What rises and falls. No two samples with the same labels.
    pub(super) fn gauge<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

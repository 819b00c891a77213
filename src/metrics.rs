//! What the operator counts, in the Prometheus text format.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The instruments of the operator. Labels are closed sets, never names of objects.
pub struct Metrics {
    /// Bytes of blobs that were uploaded.
    pub bytes: Counter,
    /// Comparisons of a source that ended.
    pub comparisons: Counter,
    /// Tags that registries notified.
    pub hints: Counter,
    /// Copy Jobs that were started.
    pub jobs: Counter,
    /// Statuses that were written.
    pub status_writes: Counter,
    copies: Family<CopyLabels, Counter>,
    registry: Registry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CopyLabels {
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("transship");
        let metrics = (Counter::default(), Counter::default(), Counter::default(), Counter::default());
        let jobs = Counter::default();
        let copies = Family::default();
        registry.register("copied_bytes", "Bytes of blobs that were uploaded", metrics.0.clone());
        registry.register("comparisons", "Comparisons of a source that ended", metrics.1.clone());
        registry.register("hints", "Tags that registries notified", metrics.2.clone());
        registry.register("jobs", "Copy Jobs that were started", jobs.clone());
        registry.register("status_writes", "Statuses that were written", metrics.3.clone());
        registry.register("copies", "Copies of images that ended, by outcome", copies.clone());
        let (bytes, comparisons, hints, status_writes) = metrics;
        Self { bytes, comparisons, hints, jobs, status_writes, copies, registry }
    }
}

impl Metrics {
    /// Counts a copy that ended as `outcome`: `complete` or `failed`.
    pub fn copied(&self, outcome: &'static str) {
        self.copies.get_or_create(&CopyLabels { outcome }).inc();
    }

    /// All instruments as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }
}

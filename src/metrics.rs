//! Counters of the operator in the Prometheus text format.

use std::borrow::Cow;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The instruments of the operator. Labels are closed sets, never names of objects.
pub(crate) struct Metrics {
    /// Bytes of blobs that were uploaded.
    pub bytes: Counter,
    /// Comparisons of a source that ended.
    pub comparisons: Counter,
    /// Events of notifications that could not be decoded.
    pub events_skipped: Counter,
    /// Tags that registries notified.
    pub hints: Counter,
    /// Copy Jobs that were started.
    pub jobs: Counter,
    /// Statuses that were written.
    pub status_writes: Counter,
    copies: Family<CopyLabels, Counter>,
    controller_errors: Family<ControllerLabels, Counter>,
    registry: Registry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CopyLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    kind: Cow<'static, str>,
    cause: ControllerFailure,
}

/// The part of a controller that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ControllerFailure {
    /// The watch of its objects.
    Watch,
    /// The reconcile of one object.
    Reconcile,
    /// The scheduling of reconciles.
    Runner,
}

impl EncodeLabelValue for ControllerFailure {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let word = match self {
            Self::Watch => "watch",
            Self::Reconcile => "reconcile",
            Self::Runner => "runner",
        };
        word.encode(encoder)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            bytes: Counter::default(),
            comparisons: Counter::default(),
            events_skipped: Counter::default(),
            hints: Counter::default(),
            jobs: Counter::default(),
            status_writes: Counter::default(),
            copies: Family::default(),
            controller_errors: Family::default(),
            registry: Registry::with_prefix("transship"),
        };
        let registry = &mut metrics.registry;
        registry.register("copied_bytes", "Bytes of blobs that were uploaded", metrics.bytes.clone());
        registry.register("comparisons", "Comparisons of a source that ended", metrics.comparisons.clone());
        let skipped = "Events of notifications that could not be decoded";
        registry.register("notification_events_skipped", skipped, metrics.events_skipped.clone());
        registry.register("hints", "Tags that registries notified", metrics.hints.clone());
        registry.register("jobs", "Copy Jobs that were started", metrics.jobs.clone());
        registry.register("status_writes", "Statuses that were written", metrics.status_writes.clone());
        registry.register("copies", "Copies of images that ended, by outcome", metrics.copies.clone());
        registry.register(
            "controller_errors",
            "Errors of watches and reconciles, by kind and cause",
            metrics.controller_errors.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts a copy that ended as `outcome`: `complete`, `skipped` or `failed`.
    pub(crate) fn copied(&self, outcome: &'static str) {
        self.copies.get_or_create(&CopyLabels { outcome }).inc();
    }

    /// Counts an error of the watch or the reconcile of a kind.
    pub(crate) fn controller_failed(&self, kind: Cow<'static, str>, cause: ControllerFailure) {
        self.controller_errors.get_or_create(&ControllerLabels { kind, cause }).inc();
    }

    /// Returns all instruments as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_reference() {
        let metrics = Metrics::default();
        metrics.copied("complete");
        metrics.controller_failed("Registry".into(), ControllerFailure::Watch);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
        let pages = std::fs::read_dir(folder).unwrap().map(|page| page.unwrap().path());
        let reference: String = pages.map(|page| std::fs::read_to_string(page).unwrap()).collect();
        let text = metrics.text();
        let names: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(names.len(), 8);
        for name in names {
            assert!(reference.contains(&format!("| `{name}_total")), "docs/reference lacks {name}_total");
        }
    }
}

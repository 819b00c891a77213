//! Metrics of a process in the text format of OpenMetrics.

mod figures;
mod process;
mod queues;
mod reconciles;
mod requests;
mod usage;

use std::borrow::Cow;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub(crate) use self::figures::ConfigurationFigures;
use self::figures::{Figures, ObjectLabels};
use self::process::ProcessFigures;
pub(crate) use self::queues::Queue;
use self::queues::{QueueFigures, QueuedWork};
use self::reconciles::{ReconcileFigures, RunningReconcile};
use self::requests::RequestFigures;
use self::usage::UsageFigures;
pub(crate) use self::usage::{PairFigures, PairLabels};

/// The instruments of a process. Labels are closed sets, or names of configurations and Registries: never of images.
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
    /// 1 in the process that replicates.
    pub leader: Gauge,
    /// Statuses that were written.
    pub status_writes: Counter,
    copies: Family<CopyLabels, Counter>,
    copy_durations: Histogram,
    lags: Family<ObjectLabels, Histogram, fn() -> Histogram>,
    reconciles: ReconcileFigures,
    controller_errors: Family<ControllerLabels, Counter>,
    figures: Figures,
    process: ProcessFigures,
    queues: QueueFigures,
    usage: UsageFigures,
    requests: RequestFigures,
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
            leader: Gauge::default(),
            status_writes: Counter::default(),
            copies: Family::default(),
            copy_durations: long_histogram(),
            lags: Family::new_with_constructor(long_histogram),
            reconciles: ReconcileFigures::default(),
            controller_errors: Family::default(),
            figures: Figures::default(),
            process: ProcessFigures::default(),
            queues: QueueFigures::default(),
            usage: UsageFigures::default(),
            requests: RequestFigures::default(),
            registry: Registry::default(),
        };
        metrics.initialize();
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// Gives every member of a closed set a value: a rate misses the first event of a series that begins with it.
    fn initialize(&self) {
        for outcome in ["complete", "failed", "skipped"] {
            drop(self.copies.get_or_create(&CopyLabels { outcome }));
        }
        for kind in KINDS.map(Cow::Borrowed) {
            for cause in [ControllerFailure::Watch, ControllerFailure::Reconcile, ControllerFailure::Runner] {
                drop(self.controller_errors.get_or_create(&ControllerLabels { kind: kind.clone(), cause }));
            }
        }
    }

    fn register(&mut self) {
        self.process.register(&mut self.registry);
        let registry = self.registry.sub_registry_with_prefix("transship");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the program", build);
        self.figures.register(registry);
        registry.register("comparisons", "Comparisons of a source that ended", self.comparisons.clone());
        registry.register("controller_errors", "Errors of watches and reconciles", self.controller_errors.clone());
        registry.register_with_unit("copied", "Bytes of blobs that were uploaded", Unit::Bytes, self.bytes.clone());
        registry.register("copies", "Copies of images that ended", self.copies.clone());
        let help = "Time from the start of a copy, with its wait for a slot or a Job, to its end";
        registry.register_with_unit("copy_duration", help, Unit::Seconds, self.copy_durations.clone());
        registry.register("hints", "Tags that registries notified", self.hints.clone());
        registry.register("jobs", "Copy Jobs that were started", self.jobs.clone());
        let skipped = "Events of notifications that could not be decoded";
        registry.register("notification_events_skipped", skipped, self.events_skipped.clone());
        registry.register("leader", "1 if this replica leads, 0 if it passes calls on", self.leader.clone());
        self.usage.register(registry);
        self.queues.register(registry);
        self.reconciles.register(registry);
        let lag = "Time from a push to its verification at the destination Registry of the labels";
        registry.register_with_unit("replication_lag", lag, Unit::Seconds, self.lags.clone());
        self.requests.register(registry);
        registry.register("status_writes", "Statuses that were written", self.status_writes.clone());
    }

    /// Counts a copy that ended as `outcome` after `duration`: `complete`, `skipped` or `failed`.
    pub(crate) fn copied(&self, outcome: &'static str, duration: Duration) {
        self.copies.get_or_create(&CopyLabels { outcome }).inc();
        self.copy_durations.observe(duration.as_secs_f64());
    }

    /// Counts the lag of an image that was verified at the destination Registry `namespace`/`name`.
    pub(crate) fn verified(&self, namespace: &str, name: &str, lag: Duration) {
        let labels = ObjectLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        self.lags.get_or_create(&labels).observe(lag.as_secs_f64());
    }

    /// Takes the time that the known tags of a configuration waited to be looked at after a comparison.
    pub(crate) fn swept(&self, namespace: &str, name: &str, duration: Duration) {
        self.figures.take_sweep(namespace, name, duration);
    }

    /// Counts a reconcile of an object of a kind that succeeded.
    pub(crate) fn reconciled(&self, kind: Cow<'static, str>) {
        self.reconciles.end(kind, "success");
    }

    /// Measures a reconcile of an object of a kind until the result is dropped.
    pub(crate) fn reconciling(&self, kind: &'static str) -> RunningReconcile {
        self.reconciles.begin(kind)
    }

    /// Counts an error of the watch or the reconcile of a kind.
    pub(crate) fn controller_failed(&self, kind: Cow<'static, str>, cause: ControllerFailure) {
        if cause == ControllerFailure::Reconcile {
            self.reconciles.end(kind.clone(), "error");
        }
        self.controller_errors.get_or_create(&ControllerLabels { kind, cause }).inc();
    }

    /// Takes the state of a configuration.
    pub(crate) fn configuration(&self, namespace: &str, name: &str, figures: ConfigurationFigures) {
        self.figures.take_configuration(namespace, name, figures);
    }

    /// Forgets a configuration that does not exist any more.
    pub(crate) fn forget_configuration(&self, namespace: &str, name: &str) {
        self.figures.forget_configuration(namespace, name);
    }

    /// Takes the usage of a pair, by the name of its status.
    pub(crate) fn pair(&self, namespace: &str, status: &str, usage: (PairLabels, PairFigures)) {
        self.usage.take(namespace, status, usage);
    }

    /// Forgets a pair that does not exist any more.
    pub(crate) fn forget_pair(&self, namespace: &str, status: &str) {
        self.usage.forget(namespace, status);
    }

    /// Counts an entry of a queue until the result is dropped.
    pub(crate) fn waits(&self, queue: Queue) -> QueuedWork {
        self.queues.enter(queue)
    }

    /// Takes the state of a Registry.
    pub(crate) fn registry(&self, namespace: &str, name: &str, is_ready: bool) {
        self.figures.take_registry(namespace, name, is_ready);
    }

    /// Forgets a Registry that does not exist any more.
    pub(crate) fn forget_registry(&self, namespace: &str, name: &str) {
        self.figures.forget_registry(namespace, name);
        self.lags.remove(&ObjectLabels { namespace: namespace.to_owned(), name: name.to_owned() });
    }

    /// Returns all instruments as text.
    pub(crate) fn text(&self) -> String {
        self.figures.refresh(std::time::SystemTime::now());
        self.process.refresh();
        self.queues.refresh();
        self.usage.refresh();
        self.requests.refresh();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }
}

/// Returns a histogram from 50 ms to 7 hours.
fn long_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 3.0, 13))
}

/// The content type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The kinds that are watched and reconciled, in the order of their names.
const KINDS: [&str; 4] = ["Registry", "RegistryPermissionPolicy", "ReplicationConfiguration", "ReplicationStatus"];

#[cfg(test)]
mod tests;

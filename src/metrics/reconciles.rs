//! Reconciles by kind: how they end, how many run, and how long they take.

use std::borrow::Cow;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The instruments of all reconciles.
#[derive(Debug)]
pub(super) struct ReconcileFigures {
    ended: Family<ResultLabels, Counter>,
    running: Family<KindLabels, Gauge>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
}

/// A reconcile that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RunningReconcile {
    running: Gauge,
    duration: Histogram,
    began: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    kind: Cow<'static, str>,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

impl Default for ReconcileFigures {
    fn default() -> Self {
        let durations =
            Family::new_with_constructor((|| Histogram::new(exponential_buckets(0.001, 4.0, 9))) as fn() -> _);
        let figures = Self { ended: Family::default(), running: Family::default(), durations };
        for kind in RECONCILED {
            for result in ["success", "error"] {
                drop(figures.ended.get_or_create(&ResultLabels { kind: kind.into(), result }));
            }
            drop(figures.running.get_or_create(&KindLabels { kind }));
            drop(figures.durations.get_or_create(&KindLabels { kind }));
        }
        figures
    }
}

impl ReconcileFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("reconciles", "Reconciles of objects that ended", self.ended.clone());
        let help = "Time of a reconcile, with its wait for a turn";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, self.durations.clone());
        let help = "Reconciles that run or wait for their turn";
        registry.register("reconciles_running", help, self.running.clone());
    }

    pub(super) fn begin(&self, kind: &'static str) -> RunningReconcile {
        let labels = KindLabels { kind };
        let running = self.running.get_or_create_owned(&labels);
        running.inc();
        RunningReconcile { running, duration: self.durations.get_or_create_owned(&labels), began: Instant::now() }
    }

    pub(super) fn end(&self, kind: Cow<'static, str>, result: &'static str) {
        self.ended.get_or_create(&ResultLabels { kind, result }).inc();
    }
}

impl Drop for RunningReconcile {
    fn drop(&mut self) {
        self.running.dec();
        self.duration.observe(self.began.elapsed().as_secs_f64());
    }
}

/// The kinds that are reconciled, in the order of their names.
const RECONCILED: [&str; 3] = ["Registry", "RegistryPermissionPolicy", "ReplicationConfiguration"];

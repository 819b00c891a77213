//! Gauges of the state of configurations and Registries, computed when they are asked for.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::locked::Locked;

/// The state of a configuration, as far as gauges show it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ConfigurationFigures {
    /// True if nothing is left to do.
    pub is_ready: bool,
    /// The images, by state.
    pub counts: StateCounts,
    /// The time since which the oldest incomplete image waits.
    pub oldest_pending_since: Option<SystemTime>,
}

/// Numbers of images, in the order of [`STATES`].
type StateCounts = [u64; STATES.len()];

type Names = (String, String);
type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Debug, Default)]
pub(super) struct Figures {
    configurations: Locked<BTreeMap<Names, ConfigurationFigures>>,
    registries: Locked<BTreeMap<Names, bool>>,
    images: Family<StateLabels, Gauge>,
    oldest_pending: FloatGauge,
    configuration_ready: Family<ObjectLabels, Gauge>,
    registry_ready: Family<ObjectLabels, Gauge>,
    sweep_duration: Family<ObjectLabels, FloatGauge>,
}

/// The labels of a configuration or a Registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ObjectLabels {
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

impl Figures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let ready = "1 if the last complete comparison left nothing failed, else 0";
        registry.register("configuration_ready", ready, self.configuration_ready.clone());
        registry.register("images", "Images of all configurations, one for each destination", self.images.clone());
        let oldest = "Time for which the oldest incomplete image has waited, 0 if none waits";
        registry.register_with_unit("oldest_pending", oldest, Unit::Seconds, self.oldest_pending.clone());
        let ready = "1 if the registry answers and takes the credentials, else 0";
        registry.register("registry_ready", ready, self.registry_ready.clone());
        let sweep = "Time that known tags waited to be looked at after a comparison, in the last whole sweep";
        registry.register_with_unit("sweep_duration", sweep, Unit::Seconds, self.sweep_duration.clone());
    }

    pub(super) fn take_configuration(&self, namespace: &str, name: &str, figures: ConfigurationFigures) {
        self.configurations.lock().insert((namespace.to_owned(), name.to_owned()), figures);
    }

    pub(super) fn forget_configuration(&self, namespace: &str, name: &str) {
        self.configurations.lock().remove(&(namespace.to_owned(), name.to_owned()));
        self.sweep_duration.remove(&ObjectLabels { namespace: namespace.to_owned(), name: name.to_owned() });
    }

    pub(super) fn take_sweep(&self, namespace: &str, name: &str, duration: Duration) {
        let labels = ObjectLabels { namespace: namespace.to_owned(), name: name.to_owned() };
        self.sweep_duration.get_or_create(&labels).set(duration.as_secs_f64());
    }

    pub(super) fn take_registry(&self, namespace: &str, name: &str, is_ready: bool) {
        self.registries.lock().insert((namespace.to_owned(), name.to_owned()), is_ready);
    }

    pub(super) fn forget_registry(&self, namespace: &str, name: &str) {
        self.registries.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Sets the gauges to the present state.
    pub(super) fn refresh(&self, now: SystemTime) {
        let configurations = self.configurations.lock().clone();
        for (index, state) in STATES.into_iter().enumerate() {
            let sum: u64 = configurations.values().map(|figures| figures.counts[index]).sum();
            self.images.get_or_create(&StateLabels { state }).set(i64::try_from(sum).unwrap_or(i64::MAX));
        }
        let oldest = configurations.values().filter_map(|figures| figures.oldest_pending_since).min();
        let waited = oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
        self.oldest_pending.set(waited.as_secs_f64());
        let ready = configurations.into_iter().map(|(names, figures)| (names, figures.is_ready));
        set_all(&self.configuration_ready, ready);
        set_all(&self.registry_ready, self.registries.lock().clone());
    }
}

/// Sets a gauge for each object, and removes those of objects that do not exist any more.
fn set_all(family: &Family<ObjectLabels, Gauge>, states: impl IntoIterator<Item = (Names, bool)>) {
    family.clear();
    for ((namespace, name), state) in states {
        family.get_or_create(&ObjectLabels { namespace, name }).set(i64::from(state));
    }
}

/// The states of images.
const STATES: [&str; 5] = ["complete", "failed", "in_progress", "pending", "skipped"];

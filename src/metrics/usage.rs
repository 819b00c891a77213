//! Gauges of the images and bytes of each pair, from which the cost of storage and transfer is read.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::locked::Locked;

/// The gauges of all pairs.
#[derive(Debug, Default)]
pub(super) struct UsageFigures {
    /// By namespace and name of the ReplicationStatus.
    pairs: Locked<BTreeMap<(String, String), (PairLabels, PairFigures)>>,
    images: Family<PairLabels, Gauge>,
    moved: Family<PairLabels, Gauge>,
    stored: Family<PairLabels, Gauge>,
}

/// The labels of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub(crate) struct PairLabels {
    /// The namespace of the configuration.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The repository at the source.
    pub repository: String,
    /// The destination as `registry/repository`.
    pub destination: String,
}

/// The usage of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairFigures {
    /// Its images.
    pub images: u64,
    /// The bytes that were moved for it.
    pub moved: u64,
    /// The bytes that it keeps at the destination.
    pub stored: u64,
}

impl UsageFigures {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Images of a source repository and a destination";
        registry.register("pair_images", help, self.images.clone());
        let help = "Bytes of blobs that were sent to the destination, failed attempts included, as last published";
        registry.register_with_unit("pair_moved", help, Unit::Bytes, self.moved.clone());
        let help = "Bytes that the images occupy at the destination, shared content counted once, as last published";
        registry.register_with_unit("pair_stored", help, Unit::Bytes, self.stored.clone());
    }

    pub(super) fn take(&self, namespace: &str, status: &str, (labels, figures): (PairLabels, PairFigures)) {
        self.pairs.lock().insert((namespace.to_owned(), status.to_owned()), (labels, figures));
    }

    pub(super) fn forget(&self, namespace: &str, status: &str) {
        self.pairs.lock().remove(&(namespace.to_owned(), status.to_owned()));
    }

    /// Sets the gauges to the present state. Pairs beyond the bound are summed up by configuration, without a repository
    /// and a destination.
    pub(super) fn refresh(&self) {
        let mut shown: BTreeMap<PairLabels, PairFigures> = BTreeMap::new();
        for (index, (labels, figures)) in self.pairs.lock().values().enumerate() {
            let mut labels = labels.clone();
            if index >= MAX_PAIRS {
                (labels.repository, labels.destination) = (String::new(), String::new());
            }
            let sum = shown.entry(labels).or_default();
            sum.images += figures.images;
            sum.moved += figures.moved;
            sum.stored += figures.stored;
        }
        for (family, value) in [
            (&self.images, (|figures| figures.images) as fn(&PairFigures) -> u64),
            (&self.moved, |figures| figures.moved),
            (&self.stored, |figures| figures.stored),
        ] {
            family.clear();
            for (labels, figures) in &shown {
                family.get_or_create(labels).set(i64::try_from(value(figures)).unwrap_or(i64::MAX));
            }
        }
    }
}

/// The pairs that have series of their own.
pub(super) const MAX_PAIRS: usize = 2_000;

//! Registries of other owners that consent to nothing: they read alike, whether they exist or not.
//!
//! Knowledge of one from before its owner withdrew consent is kept: its pairs show that they are denied, and go on with
//! what was verified once there is consent again.

use std::sync::Arc;

use super::{Machine, RegistryIdentity, StoredPair};
use crate::plan::{NamespacedName, RepositoryAddress};

impl RegistryIdentity {
    /// Returns the identity of a Registry about which nothing may be known.
    pub(crate) fn hidden(registry: &NamespacedName) -> Self {
        Self { uid: NO_UID.to_owned(), host: format!("{}/{}", registry.namespace, registry.name) }
    }

    fn is_hidden(&self) -> bool {
        self.host.contains('/')
    }
}

impl Machine {
    /// Keeps what was known of Registries that are hidden from now on.
    pub(super) fn remember_registries(&mut self, earlier: impl Fn(&NamespacedName) -> Option<RegistryIdentity>) {
        let hidden = self.orders.registries.iter().filter(|(_, identity)| identity.is_hidden());
        let known = hidden.filter_map(|(reference, _)| Some((reference.clone(), earlier(reference)?)));
        let known: Vec<_> = known.collect();
        if !known.is_empty() {
            Arc::make_mut(&mut self.orders).registries.extend(known);
        }
    }

    /// Keeps the uids of hidden Registries that the pairs of an earlier process name.
    pub(super) fn remember_stored(&mut self) {
        let uid_in = |stored: &StoredPair, reference: &NamespacedName| {
            let registry = &stored.identity.spec.destination.registry_ref;
            let namespace = registry.namespace.as_ref().unwrap_or(&stored.identity.namespace);
            let is_it = *namespace == reference.namespace && registry.name == reference.name;
            is_it.then(|| registry.uid.clone())
        };
        let stored = std::mem::take(&mut self.stored);
        self.remember_registries(|reference| {
            let uid = stored.iter().find_map(|stored| uid_in(stored, reference))?;
            Some(RegistryIdentity { uid, ..RegistryIdentity::hidden(reference) })
        });
        self.stored = stored;
    }

    /// Gives the pairs of Registries that are hidden no more the hosts of these.
    pub(super) fn reveal_hosts(&mut self) {
        for (id, pair) in self.pairs.iter_mut() {
            let Some(known) = self.orders.registries.get(&pair.key.destination) else { continue };
            let was_hidden = pair.place.host == RegistryIdentity::hidden(&pair.key.destination).host;
            if !was_hidden || known.is_hidden() || known.uid != pair.destination_uid {
                continue;
            }
            let place = RepositoryAddress { host: known.host.clone(), ..pair.place.clone() };
            let hidden = std::mem::replace(&mut pair.place, place.clone());
            self.places.pairs.remove(&hidden);
            self.places.pairs.entry(place).or_default().insert(*id);
        }
    }
}

/// The uid of a Registry about which nothing may be known.
const NO_UID: &str = "00000000-0000-0000-0000-000000000000";

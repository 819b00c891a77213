//! The pairs of a configuration by their number, and by their source repository.

use std::collections::{BTreeMap, HashMap};
use std::ops::Index;

use super::ids::PairId;
use super::pair::{Pair, PairKey};
use crate::image::RepositoryName;

/// Pairs, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct PairMap {
    /// Each is boxed: a node of the map has room for eleven of them, and most configurations have one or two.
    pairs: BTreeMap<PairId, Box<Pair>>,
    /// A repository has as many pairs as it has destinations: few.
    by_repository: HashMap<RepositoryName, Vec<PairId>>,
}

impl PairMap {
    pub(super) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(super) fn contains_key(&self, id: &PairId) -> bool {
        self.pairs.contains_key(id)
    }

    pub(super) fn get(&self, id: &PairId) -> Option<&Pair> {
        self.pairs.get(id).map(AsRef::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: &PairId) -> Option<&mut Pair> {
        self.pairs.get_mut(id).map(AsMut::as_mut)
    }

    /// Adds a pair, whose number is higher than that of every earlier one.
    pub(super) fn insert(&mut self, id: PairId, pair: Pair) {
        let ids = self.by_repository.entry(pair.key.repository.clone()).or_default();
        ids.reserve_exact(1);
        ids.push(id);
        self.pairs.insert(id, Box::new(pair));
    }

    pub(super) fn remove(&mut self, id: &PairId) -> Option<Box<Pair>> {
        let pair = self.pairs.remove(id)?;
        if let Some(ids) = self.by_repository.get_mut(&pair.key.repository) {
            ids.retain(|other| other != id);
            if ids.is_empty() {
                self.by_repository.remove(&pair.key.repository);
            }
        }
        Some(pair)
    }

    /// Returns the number of the pair with this key.
    pub(super) fn id_of(&self, key: &PairKey) -> Option<PairId> {
        self.of_repository(&key.repository).iter().copied().find(|id| self[id].key == *key)
    }

    /// Returns the pairs of a source repository, in the order of their numbers.
    pub(super) fn of_repository(&self, repository: &RepositoryName) -> &[PairId] {
        self.by_repository.get(repository).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has_repository(&self, repository: &RepositoryName) -> bool {
        self.by_repository.contains_key(repository)
    }

    /// Returns the source repositories that have pairs, in no order.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.by_repository.keys()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PairId> {
        self.pairs.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.values().map(AsRef::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Pair> {
        self.pairs.values_mut().map(AsMut::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PairId, &Pair)> {
        self.pairs.iter().map(|(id, pair)| (id, pair.as_ref()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PairId, &mut Pair)> {
        self.pairs.iter_mut().map(|(id, pair)| (id, pair.as_mut()))
    }
}

impl Index<&PairId> for PairMap {
    type Output = Pair;

    fn index(&self, id: &PairId) -> &Pair {
        &self.pairs[id]
    }
}

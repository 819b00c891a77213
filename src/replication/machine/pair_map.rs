//! The pairs of a configuration by their number.

use std::collections::BTreeMap;
use std::ops::Index;

use super::ids::PairId;
use super::pair::Pair;

/// Pairs, in the order of their numbers. Each is boxed: a node of the map has room for eleven of them, and most
/// configurations have one or two.
#[derive(Debug, Default)]
pub(super) struct PairMap(BTreeMap<PairId, Box<Pair>>);

impl PairMap {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains_key(&self, id: &PairId) -> bool {
        self.0.contains_key(id)
    }

    pub(super) fn get(&self, id: &PairId) -> Option<&Pair> {
        self.0.get(id).map(AsRef::as_ref)
    }

    pub(super) fn get_mut(&mut self, id: &PairId) -> Option<&mut Pair> {
        self.0.get_mut(id).map(AsMut::as_mut)
    }

    pub(super) fn insert(&mut self, id: PairId, pair: Pair) {
        self.0.insert(id, Box::new(pair));
    }

    pub(super) fn remove(&mut self, id: &PairId) -> Option<Box<Pair>> {
        self.0.remove(id)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PairId> {
        self.0.keys()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Pair> {
        self.0.values().map(AsRef::as_ref)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Pair> {
        self.0.values_mut().map(AsMut::as_mut)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&PairId, &Pair)> {
        self.0.iter().map(|(id, pair)| (id, pair.as_ref()))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&PairId, &mut Pair)> {
        self.0.iter_mut().map(|(id, pair)| (id, pair.as_mut()))
    }
}

impl Index<&PairId> for PairMap {
    type Output = Pair;

    fn index(&self, id: &PairId) -> &Pair {
        &self.0[id]
    }
}

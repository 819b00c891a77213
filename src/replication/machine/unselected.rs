//! Drops what the rules do not take any more.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Machine, Orders, Pair, PairId};
use crate::plan::{Claims, Configuration, Selection};

impl Machine {
    /// Drops the tags that no rule of `orders` takes. These are given next: the caller holds no claims meanwhile, since
    /// many tags and filters take long to compare.
    pub(crate) fn narrow(&mut self, orders: &Orders, now: Timestamp) {
        let Ok(configuration) = &orders.configuration else { return };
        if Some(&configuration.selection) != self.selection() {
            self.drop_untaken(&configuration.selection, now);
            self.places.narrowed = Some(configuration.clone());
        }
    }

    /// Drops the pairs that no rule wants any more, and the tags that no rule takes, but one of the `former` ones took.
    pub(super) fn drop_unselected(&mut self, former: Option<&Configuration>, claims: &mut Claims, now: Timestamp) {
        let (source, configuration) = (self.source(), self.configuration.clone());
        let are_rules_new = former.map(|former| &former.selection) != self.selection();
        let is_of_source = |pair: &Pair| pair.identity.spec.source.registry_ref.name == source.name;
        let is_wanted = |pair: &Pair| is_of_source(pair) && (!are_rules_new || self.is_selected(&pair.key));
        let unwanted = self.pairs.iter().filter(|(_, pair)| !is_wanted(pair));
        let unwanted: Vec<PairId> = unwanted.map(|(id, _)| *id).collect();
        unwanted.into_iter().for_each(|id| self.drop_pair(id, now));
        self.release_claims(claims);
        let Some(configuration) = configuration.filter(|_| are_rules_new) else { return };
        self.forget_choices(now);
        if self.places.narrowed.take().is_none_or(|narrowed| !Arc::ptr_eq(&narrowed, &configuration)) {
            self.drop_untaken(&configuration.selection, now);
        }
    }

    /// Drops the tags that no rule takes, of the pairs that are wanted still.
    fn drop_untaken(&mut self, selection: &Selection, now: Timestamp) {
        let ids: Vec<PairId> = self.pairs.keys().copied().collect();
        for id in ids {
            let key = &self.pairs[&id].key;
            let rules = selection.rules_to(&key.repository, key.to());
            if rules.is_empty() {
                continue;
            }
            let gone = self.touch(id, now, |pair| {
                let gone = pair.ledger.retain_taken(|tag| rules.take(tag));
                if !gone.is_empty() {
                    pair.change(now);
                }
                gone
            });
            self.forget_tags(id, gone.unwrap_or_default());
        }
    }

    /// Returns the rules of the last valid spec.
    pub(super) fn selection(&self) -> Option<&Selection> {
        self.configuration.as_ref().map(|configuration| &configuration.selection)
    }
}

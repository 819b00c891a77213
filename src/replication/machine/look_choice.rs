//! Chooses the observations that a comparison makes of the tags of one repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{KnownLooks, Looks, Machine, PairId, PairKey, ReferrerLooks};
use crate::image::{RepositoryName, Tag};
use crate::plan::REFERRERS_INTERVAL;
use crate::terms::ReferrersMode;

impl Machine {
    pub(super) fn looks_of(
        &mut self,
        repository: &RepositoryName,
        tags: &BTreeSet<Tag>,
        keys: &[PairKey],
        now: Timestamp,
    ) -> Looks {
        let pairs: Vec<PairId> = keys.iter().filter_map(|key| self.pairs.id_of(key)).collect();
        let is_first = pairs.iter().all(|id| self.pairs[id].ledger.rows().all(|(_, row)| !row.was_there));
        let with_referrers = pairs.iter().any(|id| self.pairs[id].options.referrers == ReferrersMode::Replicate);
        let by_sweep = self.asks_by_sweep();
        let source = self.source_repository(repository);
        if is_first && source.asked_at.is_none() {
            (source.asked_at, source.is_first) = (Some(now), true);
        }
        let is_due = source.asked_at.is_none_or(|asked_at| asked_at + REFERRERS_INTERVAL <= now);
        source.is_asked = is_due && !by_sweep;
        let referrers = match (with_referrers, source.is_asked) {
            (false, _) => ReferrerLooks::Nowhere,
            (true, false) => ReferrerLooks::Tags,
            (true, true) => ReferrerLooks::Everywhere,
        };
        let mut looks = Looks {
            repository: repository.clone(),
            settled: BTreeMap::new(),
            new: BTreeSet::new(),
            known: KnownLooks::All,
            referrer_tags: Arc::default(),
            referrers,
            is_first: is_first && self.reads_ahead(),
        };
        let mut due = BTreeSet::new();
        let takers = self.takers(repository);
        for tag in tags {
            if let Some(digest) = takers.settled(tag) {
                looks.settled.insert(tag.clone(), digest);
            } else if self.reads_ahead() && self.is_new(&pairs, tag) {
                looks.new.insert(tag.clone());
            }
            if !self.may_be_swept((repository, tag), &pairs, &takers, now) {
                due.insert(tag.clone());
            }
        }
        self.sweep.retain(repository, tags);
        due.extend(self.sweep.doubted_referrers(repository).cloned());
        looks.known = self.known_looks(repository, due, is_due && with_referrers);
        looks.referrer_tags = self.source_repository(repository).seen.tags();
        looks
    }

    fn is_new(&self, pairs: &[PairId], tag: &Tag) -> bool {
        pairs.iter().any(|id| self.pairs[id].ledger.row(tag).is_none_or(|row| !row.was_there))
    }
}

//! The newest tags of a repository: what lists and pushes make of the choice of each rule.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Effect, Listed, Machine, Observed, Pair, PairId, Record};
use crate::image::{RepositoryName, Tag};
use crate::plan::{ComparedTag, CreationDate, RankedTags, TagFilters};

/// A complete list of tags, as one pair takes it.
pub(super) struct PairList<'a> {
    /// The tags that its rules take, and those of which nothing is known.
    pub(super) tags: Cow<'a, BTreeSet<Tag>>,
    /// The fingerprint of the rules; `None` where all of them take whatever their filters take.
    pub(super) choice: Option<String>,
}

impl<'a> PairList<'a> {
    /// Returns the list for a pair whose rules take whatever their filters take.
    pub(super) fn whole(listed: &'a Listed) -> Self {
        Self { tags: Cow::Borrowed(&listed.tags), choice: None }
    }

    /// Returns true if the source has `tag`, and the rules of the pair take only newer ones.
    pub(super) fn is_outside(&self, listed: &Listed, tag: &Tag) -> bool {
        let is_there = || listed.narrowed.outside.contains(tag) || listed.tags.contains(tag);
        self.choice.is_some() && !self.tags.contains(tag) && is_there()
    }

    /// Forgets the tags of `pair` that are no longer among the newest because its rules were changed since its last
    /// list. Returns them. A tag that newer ones push out is absent from the list instead. An empty list is none.
    pub(super) fn forget_outside(&self, pair: &mut Pair, listed: &Listed) -> Vec<Tag> {
        if listed.is_empty() {
            return Vec::new();
        }
        let earlier = std::mem::replace(&mut pair.choice, self.choice.clone());
        if self.choice.is_none() || earlier == self.choice {
            return Vec::new();
        }
        pair.ledger.forget_outside(|tag| self.is_outside(listed, tag))
    }
}

impl Machine {
    /// Takes the choice of the newest tags of a repository from its list.
    pub(super) fn take_newest(&mut self, listed: &mut Listed) {
        let newest = std::mem::take(&mut listed.narrowed.by_rule);
        if !newest.is_empty() || self.sources.contains_key(&listed.repository) {
            self.source_repository(&listed.repository).newest = newest;
        }
    }

    /// Returns the newest tags of a repository by its last list, for each rule that takes only these.
    pub(super) fn newest_of(&self, repository: &RepositoryName) -> &BTreeMap<String, RankedTags> {
        self.sources.get(repository).map_or(&NOTHING_LISTED, |source| &source.newest)
    }

    /// Records the rules by which the tags of a pair are chosen, if they are others than before.
    pub(super) fn record_choice(&mut self, id: PairId, list: &PairList<'_>, listed: &Listed) {
        if let Some(pair) = self.pairs.get(&id).filter(|pair| pair.choice != list.choice && !listed.is_empty()) {
            self.effects.push(Effect::Record(pair.identity.clone(), Record::Chosen(list.choice.clone())));
        }
    }

    /// Forgets by which rules the last list of a pair was taken, if the spec has others now: what only these put outside
    /// is not leaving any more. A later spec that has the same rules again has not chosen what was pushed in between.
    pub(super) fn forget_choices(&mut self, now: Timestamp) {
        let Some(configuration) = self.configuration.clone() else { return };
        let is_other = |pair: &Pair| {
            let choice = || configuration.selection.rules_to(&pair.key.repository, pair.key.to()).choice_hash();
            pair.choice.is_some() && pair.choice != choice()
        };
        let ids: Vec<PairId> = self.pairs.iter().filter(|(_, pair)| is_other(pair)).map(|(id, _)| *id).collect();
        for id in ids {
            self.effects.push(Effect::Record(self.pairs[&id].identity.clone(), Record::Chosen(None)));
            self.touch(id, now, |pair| {
                pair.choice = None;
                pair.ledger.doubt_outside();
            });
        }
    }

    /// Takes a pushed tag into the choice of the rules of which it is one of the newest now. Where that is unknown, the
    /// source is compared soon.
    pub(super) fn rank_pushed(&mut self, observed: &Observed, now: Timestamp) {
        let Observed { repository, tag, created, .. } = observed;
        let Some(configuration) = self.configuration.clone() else { return };
        let choice = configuration.selection.tags_of(repository);
        if !choice.is_narrowed() {
            return;
        }
        let newest = &mut self.source_repository(repository).newest;
        let mut is_unknown = false;
        let compared = ComparedTag::new(tag);
        let takes =
            |(rule, filters): &&(String, Arc<TagFilters>)| choice.newest.contains_key(rule) && filters.takes(&compared);
        for (rule, _) in choice.rules.iter().filter(takes) {
            match newest.get_mut(rule) {
                Some(ranked) => {
                    ranked.admit(tag, *created);
                    is_unknown |= ranked.is_by_date() && *created == CreationDate::Unknown && !ranked.takes(tag);
                }
                None => is_unknown = true,
            }
        }
        if is_unknown {
            self.compare_soon(now);
        }
    }
}

/// The newest tags of a repository that was not listed yet.
static NOTHING_LISTED: BTreeMap<String, RankedTags> = BTreeMap::new();

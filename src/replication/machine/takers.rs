//! Finds which destinations of a repository take a tag, and the tags that need no look.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::newest::PairList;
use super::{Listed, Machine, PairKey};
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{ComparedTag, Ledger, Promises, RankedTags, Rule, RulesTo};

/// The destinations of one repository, with what is known of its tags there. A question about a tag compares it with each
/// rule once.
pub(super) struct TagTakers<'a> {
    /// The rules that take the repository.
    rules: Vec<&'a Rule>,
    newest: &'a BTreeMap<String, RankedTags>,
    destinations: Vec<TagTaker<'a>>,
    /// The tags that a rule promises never to move.
    promises: Option<Promises<'a>>,
}

struct TagTaker<'a> {
    key: PairKey,
    rules: RulesTo<'a>,
    /// Their places among all rules.
    places: Vec<usize>,
    /// The ledger of its pair, once it has one.
    ledger: Option<&'a Ledger>,
}

impl Machine {
    /// Returns the pairs to which `tag` of a repository goes, whether they exist yet or not.
    pub(super) fn keys(&self, repository: &RepositoryName, tag: Option<&Tag>) -> Vec<PairKey> {
        let takers = self.takers(repository);
        match tag {
            Some(tag) => takers.of(tag).map(|taker| taker.key.clone()).collect(),
            None => takers.into_keys(),
        }
    }

    /// Returns the destinations of a repository.
    pub(super) fn takers(&self, repository: &RepositoryName) -> TagTakers<'_> {
        let selection = self.selection();
        let routes = selection.map(|selection| selection.routes(repository)).unwrap_or_default();
        let mut rules: Vec<&Rule> = Vec::new();
        let mut destinations = Vec::with_capacity(routes.len());
        for route in routes {
            let mut places = Vec::new();
            for rule in route.rules.iter() {
                let known = rules.iter().position(|known| std::ptr::eq(*known, rule));
                places.push(known.unwrap_or(rules.len()));
                if known.is_none() {
                    rules.push(rule);
                }
            }
            let (repository, destination) = (repository.clone(), route.destination.clone());
            let key = PairKey { repository, destination, target: route.target };
            let ledger = self.pairs.id_of(&key).map(|id| &self.pairs[&id].ledger);
            destinations.push(TagTaker { key, rules: route.rules, places, ledger });
        }
        let promises = selection.and_then(|selection| selection.promises(repository));
        TagTakers { rules, newest: self.newest_of(repository), destinations, promises }
    }
}

impl TagTakers<'_> {
    /// Returns the digest of a tag that is promised never to move and is verified at every destination that takes it.
    pub(super) fn settled(&self, tag: &Tag) -> Option<Digest> {
        if !self.promises.as_ref()?.hold_for(tag) {
            return None;
        }
        let mut digest = None;
        for taker in self.of(tag) {
            let ledger = taker.ledger?;
            let is_settled = ledger.is_complete(tag) && ledger.unread(tag).is_none();
            digest = Some(ledger.row(tag).filter(|_| is_settled)?.digest.clone());
        }
        digest
    }

    /// Returns true if each pair that takes a tag has a row of it.
    pub(super) fn know(&self, tag: &Tag) -> bool {
        self.of(tag).filter_map(|taker| taker.ledger).all(|ledger| ledger.row(tag).is_some())
    }

    /// Returns the list as each destination takes it whose rules take the newest tags only.
    pub(super) fn lists<'l>(&self, listed: &'l Listed) -> BTreeMap<PairKey, PairList<'l>> {
        let narrowed = |taker: &&TagTaker<'_>| taker.rules.choice_hash().is_some();
        let mut narrowed: Vec<(&TagTaker<'_>, BTreeSet<Tag>)> =
            self.destinations.iter().filter(narrowed).map(|taker| (taker, listed.narrowed.unknown.clone())).collect();
        if narrowed.is_empty() {
            return BTreeMap::new();
        }
        for tag in &listed.tags {
            let taken = self.taken(tag);
            let takers = narrowed.iter_mut().filter(|(taker, _)| taker.takes(&taken));
            takers.for_each(|(_, tags)| {
                tags.insert(tag.clone());
            });
        }
        let list = |(taker, tags): (&TagTaker<'_>, _)| {
            (taker.key.clone(), PairList { tags: Cow::Owned(tags), choice: taker.rules.choice_hash() })
        };
        narrowed.into_iter().map(list).collect()
    }

    /// Returns the pairs of the destinations, whether they exist yet or not.
    pub(super) fn into_keys(self) -> Vec<PairKey> {
        self.destinations.into_iter().map(|taker| taker.key).collect()
    }

    /// Returns the destinations that take a tag.
    fn of(&self, tag: &Tag) -> impl Iterator<Item = &TagTaker<'_>> {
        let taken = self.taken(tag);
        self.destinations.iter().filter(move |taker| taker.takes(&taken))
    }

    /// Returns for each rule whether it takes a tag.
    fn taken(&self, tag: &Tag) -> Vec<bool> {
        let tag = ComparedTag::new(tag);
        self.rules.iter().map(|rule| rule.takes_now(&tag, self.newest)).collect()
    }
}

impl TagTaker<'_> {
    fn takes(&self, taken: &[bool]) -> bool {
        self.places.iter().any(|place| taken[*place])
    }
}

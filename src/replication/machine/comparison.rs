//! Comparisons of the whole source: when one starts, what its lists prove, and what follows when it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::newest::PairList;
use super::state::{Comparison, SourceRepository};
use super::{ComparisonId, Coverage, Effect, Finding, Listed, Machine, Pair, PairId, Record};
use crate::image::RepositoryName;
use crate::plan::{Claims, NamespacedName, Problem, RepositoryAddress, refuse_names};
use crate::terms::reason;

impl Machine {
    pub(super) fn start_comparison(&mut self, now: Timestamp) {
        if !self.orders.registries.contains_key(&self.source()) {
            // New orders come once the Registry is there.
            self.compare_at = now + MAX_PAUSE;
            return;
        }
        let (id, request) = (self.next_comparison, self.requested.clone());
        let (is_thorough, owed) = (self.begins_thoroughly(), self.sweep.take_doubted_repositories());
        self.next_comparison += 1;
        self.comparison = Some(Comparison {
            id,
            begun: now,
            request,
            problems: Vec::new(),
            is_outdated: false,
            is_doubtful: false,
            is_partial: false,
            is_thorough,
            owed,
            has_names: false,
            listed: BTreeSet::new(),
        });
        self.progressed_at = now;
        self.effects.push(Effect::Compare(id));
    }

    pub(super) fn stop_comparison(&mut self) {
        if let Some(comparison) = self.comparison.take() {
            self.sweep.doubt_repositories(comparison.owed);
            if comparison.is_thorough {
                self.sweep.doubt_all();
            }
            self.pairs.values_mut().for_each(Pair::stop_filling);
            self.effects.push(Effect::StopComparison);
        }
    }

    pub(super) fn take_finding(&mut self, id: ComparisonId, finding: Finding, claims: &mut Claims, now: Timestamp) {
        if self.comparison.as_ref().is_none_or(|comparison| comparison.id != id) {
            return; // A comparison that was stopped says nothing any more.
        }
        match finding {
            Finding::Repositories { names, unmatched, invalid, sent_at } => {
                self.excluded.invalid_repositories = invalid;
                self.excluded.invalid_tags.retain(|repository, _| names.contains(repository));
                if self.orders.is_dry {
                    self.excluded.repositories = unmatched;
                }
                self.take_repositories(names, sent_at, claims, now);
            }
            Finding::Opened(repository) => self.open(&repository, claims, now),
            Finding::Tags(listed) => self.take_tags(id, listed, claims, now),
            Finding::Image(observed) => self.take_image(&observed, false, claims, now),
            Finding::Unread(unread) => self.take_unread(unread, claims, now),
            Finding::ReferrerTags(repository, tags) => self.take_referrer_tags(&repository, tags, now),
            Finding::Referrers { repository, subject, listed } => {
                self.source_repository(&repository).seen.see_listed(&subject, &listed);
            }
            Finding::Closed(repository) => self.close(&repository, now),
            Finding::Problem(problem) => self.note(problem),
            Finding::UnusedFilters(sentences) => self.excluded.unused_filters = sentences,
            Finding::Done(coverage) => self.finish(coverage == Coverage::Whole, now),
        }
    }

    /// Takes a complete list of repositories. Pairs whose repository this list and the one before lack are dropped; a
    /// list that is suddenly empty proves nothing.
    fn take_repositories(
        &mut self,
        names: BTreeSet<RepositoryName>,
        sent_at: Timestamp,
        claims: &mut Claims,
        now: Timestamp,
    ) {
        self.pacing.empty_lists =
            if names.is_empty() && !self.pairs.is_empty() { self.pacing.empty_lists + 1 } else { 0 };
        if self.pacing.empty_lists == 1 {
            self.doubt_comparison();
            return;
        }
        let mut gone: Vec<PairId> = Vec::new();
        for (id, pair) in self.pairs.iter_mut() {
            let is_missed = pair.created_at < sent_at && !names.contains(&pair.key.repository);
            if is_missed && pair.missed {
                gone.push(*id);
            }
            pair.missed = is_missed;
        }
        if !gone.is_empty() {
            gone.into_iter().for_each(|id| self.drop_pair(id, now));
            self.release_claims(claims);
        }
        self.refuse_names(&names);
        self.sources.retain(|repository, _| names.contains(repository) || self.pairs.has_repository(repository));
        self.stored_repositories = 0;
        if let Some(comparison) = &mut self.comparison {
            comparison.has_names = true;
        }
        self.repositories = names;
        self.repositories.extend(self.pairs.repositories().cloned());
        self.sweep.retain_repositories(&self.repositories);
    }

    /// Refuses what cannot go where the rules send it, before anything is copied because of this list.
    fn refuse_names(&mut self, names: &BTreeSet<RepositoryName>) {
        let (source, registries) = (self.source(), &self.orders.registries);
        let (Some(configuration), Some(source)) = (&self.configuration, registries.get(&source)) else { return };
        let host_of = |registry: &NamespacedName| registries.get(registry).map(|identity| identity.host.as_str());
        let held = |place: &RepositoryAddress| self.holder(place);
        self.places.refusals = refuse_names(&configuration.selection, names, &source.host, host_of, held);
    }

    /// Claims the destinations of a repository that is about to be listed; those of which nothing is recorded are
    /// looked at meanwhile. Problems are noted once the repository is known to exist.
    fn open(&mut self, repository: &RepositoryName, claims: &mut Claims, now: Timestamp) {
        let noted = self.comparison.as_ref().map_or(0, |comparison| comparison.problems.len());
        for key in self.keys(repository, None) {
            let Some(id) = self.ensure(&key, claims, now) else { continue };
            self.touch(id, now, Pair::open);
            if self.pairs[&id].ledger.counts().images == 0 && self.reads_ahead() {
                self.effects.push(Effect::LookAhead(Box::new(key.destination), key.target));
            }
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.problems.truncate(noted);
        }
    }

    /// Takes a complete list of tags: says what is to be observed of them, and forgets tags that are gone.
    fn take_tags(&mut self, id: ComparisonId, mut listed: Listed, claims: &mut Claims, now: Timestamp) {
        self.take_newest(&mut listed);
        let takers = self.takers(&listed.repository);
        let (lists, keys) = (takers.lists(&listed), takers.into_keys());
        for key in &keys {
            let Some(pair) = self.ensure(key, claims, now) else { continue };
            self.take_list(pair, lists.get(key), &listed, now);
            if self.pairs.get(&pair).is_some_and(|pair| pair.ledger.doubts_listing()) {
                self.doubt_comparison();
            }
        }
        if self.orders.is_dry && listed.left_out.0 > 0 {
            self.excluded.tags.insert(listed.repository.clone(), listed.left_out);
        }
        if listed.invalid.is_empty() {
            self.excluded.invalid_tags.remove(&listed.repository);
        } else {
            self.excluded.invalid_tags.insert(listed.repository.clone(), listed.invalid);
        }
        let looks = self.looks_of(&listed.repository, &listed.tags, &keys, now);
        if let Some(comparison) = &mut self.comparison {
            comparison.listed.insert(listed.repository);
        }
        self.effects.push(Effect::Observe(id, looks));
    }

    /// Takes a complete list for a pair, `narrowed` if its rules take the newest tags only: forgets tags that are gone, or
    /// has them deleted.
    pub(super) fn take_list(&mut self, id: PairId, narrowed: Option<&PairList<'_>>, listed: &Listed, now: Timestamp) {
        let whole = PairList::whole(listed);
        let (fate, list) = (self.fate_of_absent(id), narrowed.unwrap_or(&whole));
        self.record_choice(id, list, listed);
        let gone = self.touch(id, now, |pair| {
            let before = pair.ledger.counts();
            let mut gone = list.forget_outside(pair, listed);
            gone.extend(pair.ledger.take_listing(&list.tags, fate, listed.sent_at, now));
            pair.ledger.mark_outside(|tag| list.is_outside(listed, tag));
            if !gone.is_empty() || pair.ledger.counts() != before {
                pair.change(now);
            }
            gone
        });
        self.forget_tags(id, gone.unwrap_or_default());
        self.record_missed(id);
        self.note_leaving(id, now);
    }

    /// Records the tags that the last complete list lacked, if they are others than before.
    pub(super) fn record_missed(&mut self, id: PairId) {
        if let Some(pair) = self.pairs.get_mut(&id)
            && let Some(missed) = pair.ledger.take_missed()
        {
            self.effects.push(Effect::Record(pair.identity.clone(), Record::Missed(missed)));
        }
    }

    fn close(&mut self, repository: &RepositoryName, now: Timestamp) {
        let ids: Vec<PairId> = self.pairs.of_repository(repository).to_vec();
        for id in ids {
            self.touch(id, now, |pair| pair.close(now));
        }
        let source = self.source_repository(repository);
        if !(std::mem::take(&mut source.is_asked) | std::mem::take(&mut source.is_first)) {
            return;
        }
        source.asked_at = Some(now);
        let ids = self.pairs.of_repository(repository).iter();
        let asked = ids.map(|id| Effect::Record(self.pairs[id].identity.clone(), Record::ReferrersAsked(now)));
        self.effects.extend(asked);
    }

    fn finish(&mut self, is_read: bool, now: Timestamp) {
        let Some(mut comparison) = self.comparison.take() else { return };
        let is_complete = is_read && !comparison.is_doubtful;
        self.problems = std::mem::take(&mut comparison.problems);
        self.excluded.name_invalid();
        self.decide_again(now);
        let wakes_later = |problem: &Problem| WAKES_LATER.contains(&problem.reason);
        let next = self.next_comparison_at(now);
        let is_whole = is_complete && !comparison.is_partial && self.problems.iter().all(wakes_later);
        self.pacing.incomplete_comparisons =
            if is_whole { 0 } else { self.pacing.incomplete_comparisons.saturating_add(1) };
        self.compare_at = if is_whole { next } else { next.min(now + retry_pause(self.pacing.incomplete_comparisons)) };
        self.settle_comparison(is_whole, comparison.is_partial, now);
        if comparison.is_outdated {
            self.compare_at = self.compare_at.min(now + SOON);
        }
        let ids: Vec<PairId> = self.pairs.keys().copied().collect();
        for id in ids {
            self.touch(id, now, |pair| {
                pair.stop_filling();
                if comparison.listed.contains(&pair.key.repository) {
                    pair.bound_short(now);
                }
                if is_read {
                    // It may have found images before their pair was there, which an older look has shown since; what was
                    // restored was found by none.
                    let is_younger = pair.created_at.max(pair.observe_from) >= comparison.begun;
                    pair.ledger.owe(if is_younger { Timestamp::UNIX_EPOCH } else { comparison.begun });
                }
            });
        }
        if is_complete {
            self.compared = Some(self.orders.generation);
        }
        self.owe_looks(&mut comparison);
        self.begin_sweep(comparison.begun, now);
        // A source that cannot be read whole is compared all the same: the condition says how far that went.
        if !comparison.is_doubtful {
            self.handling = comparison.request.or(self.handling.take());
        }
    }

    /// Has the next comparison look at every tag that this one owed and has not listed.
    fn owe_looks(&mut self, comparison: &mut Comparison) {
        let mut owed = std::mem::take(&mut comparison.owed);
        if comparison.is_thorough && comparison.has_names {
            owed.extend(self.repositories.iter().cloned());
        } else if comparison.is_thorough {
            self.sweep.doubt_all();
        }
        owed.retain(|repository| self.repositories.contains(repository) && !comparison.listed.contains(repository));
        self.sweep.doubt_repositories(owed);
    }

    fn next_comparison_at(&mut self, now: Timestamp) -> Timestamp {
        let begins_together = std::mem::take(&mut self.pacing.begins_together);
        let (uid, configuration) = (&self.orders.holder.uid, self.configuration.as_ref());
        configuration.map_or(now + MAX_PAUSE, |configured| {
            let pace = &configured.pace;
            if begins_together { pace.next_after_start(now, uid) } else { pace.next(now, uid) }
        })
    }

    /// Has the source compared after a pause, where the next comparison is not due earlier. One that is under way may
    /// have passed what this is about: it is followed by another.
    pub(super) fn compare_soon(&mut self, now: Timestamp) {
        self.compare_at = self.compare_at.min(now + SOON);
        if let Some(comparison) = &mut self.comparison {
            comparison.is_outdated = true;
        }
    }

    fn doubt_comparison(&mut self) {
        if let Some(comparison) = &mut self.comparison {
            comparison.is_doubtful = true;
        }
    }

    pub(super) fn source_repository(&mut self, repository: &RepositoryName) -> &mut SourceRepository {
        if !self.sources.contains_key(repository) {
            self.sources.insert(repository.clone(), SourceRepository::default());
        }
        self.sources.get_mut(repository).expect("it was inserted")
    }
}

/// Returns the pause after so many comparisons in a row that were not complete: 15 s twice, then doubling to 10
/// minutes.
fn retry_pause(incomplete: u32) -> Duration {
    RETRY.saturating_mul(1 << incomplete.saturating_sub(2).min(10)).min(MAX_PAUSE)
}

/// Problems of which another comparison knows no more: a claim of another configuration wakes this one when it is free,
/// and its names follow the spec and the lists. Everything else has to be looked at again.
const WAKES_LATER: [&str; 4] = [
    reason::DESTINATION_CONFLICT,
    reason::DESTINATION_NAME_COLLISION,
    reason::DESTINATION_NAME_INVALID,
    reason::SELF_REPLICATION,
];
const SOON: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(15);
const MAX_PAUSE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_stays_unreadable_is_read_less_and_less_often() {
        let pauses = [1, 2, 3, 4, 8, 100].map(|incomplete| retry_pause(incomplete).as_secs());
        assert_eq!(pauses, [15, 15, 30, 60, 600, 600]);
    }
}

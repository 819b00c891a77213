//! Observed tags and referrers: what they change in the ledgers, and which images are copied for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::state::MAX_LOOKS;
use super::{Effect, Hints, Looked, Machine, Observed, PairId, Unread};
use crate::image::{Digest, RepositoryName, Tag, base_of_referrer_tag, fallback_tag, is_referrer_tag};
use crate::plan::{Attempt, Claims, Freshness, Ledger, Problem, RowState, UnreadEntry};
use crate::terms::{ReferrersMode, reason};

impl Machine {
    /// Looks at pushed tags. The digests that notifications state are never trusted.
    pub(super) fn take_hints(&mut self, hints: Hints, now: Timestamp) {
        if hints.overflown {
            self.compare_soon(now);
        }
        if !self.is_active() {
            // It is compared when it goes on.
            hints.tags.into_iter().for_each(|(repository, tag, _)| self.sweep.doubt(repository, tag));
            return;
        }
        for repository in hints.deleted_in {
            self.list_soon(&repository, now);
        }
        for (repository, tag, hinted) in hints.tags {
            if !self.is_settled(&repository, &tag) {
                self.looks += 1;
                self.effects.push(Effect::Look { repository, tag, hinted });
            }
        }
    }

    fn is_settled(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let promises = self.selection().and_then(|selection| selection.promises(repository));
        promises.is_some_and(|promises| promises.hold_for(tag)) && self.takers(repository).settled(tag).is_some()
    }

    /// Looks at once at tags that workers of an earlier process may still copy: they keep what they have read if the
    /// images are handed in again soon, and a comparison may take long.
    pub(super) fn look_again(&mut self, running: BTreeSet<(RepositoryName, Tag)>) {
        let is_active = self.is_active();
        for (repository, tag) in running.into_iter().filter(|_| is_active).take(MAX_LOOKS) {
            if self.pairs.has_repository(&repository) {
                self.looks += 1;
                self.effects.push(Effect::Look { repository, tag, hinted: None });
            }
        }
    }

    pub(super) fn take_looked(&mut self, looked: Looked, claims: &mut Claims, now: Timestamp) {
        self.looks = self.looks.saturating_sub(1);
        if self.ending.is_some() {
            return;
        }
        match looked {
            Looked::Seen(observed) => self.take_pushed(observed, claims, now),
            Looked::SeenOtherwise(observed) => {
                let (repository, tag) = (observed.repository.clone(), observed.tag.clone());
                self.take_pushed(observed, claims, now);
                self.sweep.doubt(repository, tag);
            }
            Looked::Absent(repository, tag) => {
                self.take_absent(&repository, &tag, now);
                self.sweep.doubt(repository, tag);
            }
            Looked::Unreadable(repository, tag) => {
                self.sweep.doubt(repository, tag);
                self.compare_soon(now);
            }
        }
    }

    /// Takes what a look at a pushed tag has shown.
    fn take_pushed(&mut self, observed: Observed, claims: &mut Claims, now: Timestamp) {
        if is_referrer_tag(&observed.tag) {
            return self.take_referrer_tag(observed, true, now);
        }
        self.repositories.insert(observed.repository.clone());
        self.rank_pushed(&observed, now);
        self.take_image(&observed, true, claims, now);
        if !self.problems.is_empty() {
            self.compare_soon(now); // A repository that was missing may be the one that was pushed.
        }
    }

    /// Takes the digest of a tag, unless a newer observation is known, and has the image copied where it is not
    /// verified yet.
    pub(super) fn take_image(&mut self, observed: &Observed, is_urgent: bool, claims: &mut Claims, now: Timestamp) {
        let Observed { repository, tag, digest, sent_at, pushed_at, with_referrers, .. } = observed;
        self.sweep.observed(repository, tag);
        let mut wanted = Vec::new();
        let mut looks_again = false;
        for key in self.keys(repository, Some(tag)) {
            let Some(id) = self.ensure(&key, claims, now) else { continue };
            let source = self.sources.get(repository);
            let tags = source.and_then(|source| source.seen.tags_fingerprint(digest));
            let listed = source.filter(|_| *with_referrers).map(|source| source.seen.listed_fingerprint(digest));
            let earlier = self.verified(id, tag);
            let attempt = self.touch(id, now, |pair| {
                let before = shown(&pair.ledger, tag);
                let observation = pair.ledger.observe(tag, digest, *sent_at, now);
                pushed_at.inspect(|at| pair.ledger.pushed(tag, digest, *at));
                looks_again |= observation == Freshness::Unclear;
                if observation == Freshness::Unclear && !is_urgent {
                    pair.ledger.owe_unclear(tag);
                }
                if observation != Freshness::Newest {
                    return Attempt::Nothing;
                }
                if pair.options.referrers == ReferrersMode::Replicate {
                    pair.ledger.observe_referrers(tag, tags, listed, now);
                }
                if before != shown(&pair.ledger, tag) {
                    pair.change(now);
                }
                pair.ledger.attempt(tag, now)
            });
            if earlier.is_some_and(|earlier| self.verified(id, tag) != Some(earlier)) {
                // Before the tag is written: the record would be believed once the source has that digest again.
                self.withdraw_record(id, tag.clone());
            }
            self.record_missed(id);
            self.deletions_may_go_on(id, now);
            match attempt {
                Some(Attempt::Copy(_)) if self.is_given_up(id, tag) => {}
                Some(Attempt::Copy(_)) if *sent_at < self.pairs[&id].observe_from => looks_again = true,
                Some(Attempt::Copy(_)) => wanted.push(id),
                Some(Attempt::Wait(until)) => self.retries.set_no_later(id, until),
                _ => {}
            }
        }
        self.enqueue(tag, wanted, is_urgent);
        if looks_again && self.is_active() {
            self.looks += 1;
            self.effects.push(Effect::Look { repository: repository.clone(), tag: tag.clone(), hinted: None });
        }
    }

    /// Returns the digest of a tag that was verified at a destination, with that digest or an earlier one.
    fn verified(&self, id: PairId, tag: &Tag) -> Option<Digest> {
        self.pairs[&id].ledger.row(tag).filter(|row| row.was_there).map(|row| row.digest.clone())
    }

    /// Takes the failure to read a listed tag. It is the entry of the tag, unless the digest of the tag is known and the
    /// cause may pass: then it is a problem of the configuration until the next comparison.
    pub(super) fn take_unread(&mut self, unread: Unread, claims: &mut Claims, now: Timestamp) {
        let Unread { repository, tag, failed, sent_at } = unread;
        let mut is_hidden = false;
        for key in self.keys(&repository, Some(&tag)) {
            let Some(id) = self.ensure(&key, claims, now) else { continue };
            let entry = self.touch(id, now, |pair| {
                let entry = pair.ledger.fail_to_read(&tag, failed.clone(), sent_at, now);
                if entry == UnreadEntry::Changed {
                    pair.change(now);
                }
                entry
            });
            is_hidden |= entry == Some(UnreadEntry::Hidden);
        }
        if is_hidden {
            self.sweep.doubt(repository, tag);
            let message = format!("source Registry {}: {}", self.source().name, failed.message);
            self.note(Problem { stalled: false, reason: reason::SOURCE_UNREADABLE, message });
        }
        if let Some(comparison) = self.comparison.as_mut().filter(|_| !failed.is_of_tag) {
            comparison.is_partial = true;
        }
    }

    /// Takes every tag of a repository that stands for referrers; its images come next. A tag that was not read counts
    /// as it was; one that was never read makes the copy of its image say so.
    pub(super) fn take_referrer_tags(
        &mut self,
        repository: &RepositoryName,
        tags: BTreeMap<Tag, Option<Digest>>,
        now: Timestamp,
    ) {
        let ids = self.pairs.of_repository(repository).iter();
        let images: BTreeSet<Digest> = ids.flat_map(|id| self.pairs[id].ledger.digests().cloned()).collect();
        self.sweep.retain_referrers(repository, &tags);
        let seen = &mut self.source_repository(repository).seen;
        let changed = seen.see_tags(tags, now);
        seen.retain(|subject| images.contains(subject));
        // Images that the sweep observes are not observed by this comparison.
        self.take_changed_referrers(repository, &changed, false, now);
    }

    /// Takes a tag that stands for referrers and was observed alone. If it has changed its image is copied again.
    pub(super) fn take_referrer_tag(&mut self, observed: Observed, is_urgent: bool, now: Timestamp) {
        let Observed { repository, tag, digest, .. } = observed;
        let base = base_of_referrer_tag(&tag);
        self.sweep.observed(&repository, &tag);
        if self.source_repository(&repository).seen.see_tag(tag, digest, now) {
            self.take_changed_referrers(&repository, &[base].into(), is_urgent, now);
        }
    }

    /// Takes the list of referrers that a copy of an image saw at the source.
    pub(super) fn take_copied_referrers(&mut self, id: PairId, digest: &Digest, listed: Option<String>) {
        let Some((pair, listed)) = self.pairs.get(&id).zip(listed) else { return };
        if let Some(source) = self.sources.get_mut(&pair.key.repository) {
            source.seen.see_copied(digest, &listed);
        }
    }

    /// Has the images with these fallback tags copied again, as other tags refer to them by now. One that this process
    /// has not observed yet is observed first.
    fn take_changed_referrers(
        &mut self,
        repository: &RepositoryName,
        changed: &BTreeSet<Tag>,
        is_urgent: bool,
        now: Timestamp,
    ) {
        if changed.is_empty() {
            return;
        }
        let ids: Vec<PairId> = self.pairs.of_repository(repository).to_vec();
        let mut wanted: BTreeMap<Tag, Vec<PairId>> = BTreeMap::new();
        for id in ids {
            let Some(source) = self.sources.get(repository) else { continue };
            let pair = &self.pairs[&id];
            if pair.options.referrers == ReferrersMode::Ignore {
                continue;
            }
            let observe_from = self.observe_from.max(pair.observe_from);
            let rows = pair.ledger.rows().filter(|(_, row)| changed.contains(&fallback_tag(&row.digest)));
            let rows = rows.map(|(tag, row)| {
                (tag.clone(), source.seen.tags_fingerprint(&row.digest), row.observed_at >= observe_from)
            });
            let rows: Vec<(Tag, Option<String>, bool)> = rows.collect();
            let mut unobserved = Vec::new();
            self.touch(id, now, |pair| {
                for (tag, fingerprint, is_observed) in rows {
                    let was_known = pair.ledger.is_known(&tag);
                    pair.ledger.observe_referrers(&tag, fingerprint, None, now);
                    let is_due = matches!(pair.ledger.attempt(&tag, now), Attempt::Copy(_));
                    if is_due && is_observed {
                        pair.change(now);
                        wanted.entry(tag).or_default().push(id);
                    } else if is_due && was_known {
                        pair.change(now);
                        unobserved.push(tag);
                    }
                }
            });
            unobserved.into_iter().for_each(|tag| self.sweep.doubt(repository.clone(), tag));
        }
        for (tag, ids) in wanted {
            self.enqueue(&tag, ids, is_urgent);
        }
    }

    /// Returns the tags that a copy need not list itself, where they are few. Of a repository that no comparison has
    /// listed yet, those that were pushed: the comparison finds the others.
    pub(super) fn referrer_tags(&self, repository: &RepositoryName) -> Option<Arc<BTreeSet<Tag>>> {
        let seen = self.sources.get(repository).map(|source| source.seen.all_tags(MAX_TAGS));
        seen.unwrap_or_else(|| Some(BTreeSet::new())).map(Arc::new)
    }
}

/// Returns the part of a tag's entry that a status shows.
fn shown(ledger: &Ledger, tag: &Tag) -> (Option<(Digest, RowState)>, bool) {
    let row = ledger.row(tag).map(|row| (row.digest.clone(), row.state.clone()));
    (row, ledger.unread(tag).is_some())
}

/// More are listed by the copy itself: they would make the message to a worker too large.
const MAX_TAGS: usize = 50;

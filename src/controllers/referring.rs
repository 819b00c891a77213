//! What a replicator makes of what refers to its images: they are copied again when it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::replicator::Replicator;
use crate::api::Referrers;
use crate::image::{Digest, RepositoryName, Tag};
use crate::plan::{Attempt, SeenReferrers};

impl Replicator {
    /// Takes what a referrers API lists for an image; the image itself is told next.
    pub(super) fn take_listed(&mut self, repository: RepositoryName, subject: &Digest, listed: &[Digest]) {
        self.seen_referrers(repository).see_listed(subject, listed);
    }

    /// Takes every tag that stands for referrers.
    pub(super) fn take_referrer_tags(&mut self, repository: RepositoryName, tags: BTreeMap<Tag, Digest>) {
        let pairs = self.pairs.iter().filter(|(key, _)| key.repository == repository);
        let images: BTreeSet<Digest> = pairs.flat_map(|(_, pair)| pair.ledger.digests()).collect();
        let seen = self.seen_referrers(repository);
        seen.see_tags(tags);
        seen.retain(|subject| images.contains(subject));
    }

    /// Every image of the repository was asked; the next time is due an hour after this.
    pub(super) fn take_referrers_asked(&mut self, repository: RepositoryName, now: Timestamp) {
        self.referrers.entry(repository).or_insert_with(|| (SeenReferrers::default(), NEVER)).1 = now;
    }

    /// Takes one such tag that was pushed: its image is copied again.
    pub(super) fn take_referrer_tag(&mut self, repository: RepositoryName, tag: Tag, digest: Digest, now: Timestamp) {
        self.seen_referrers(repository.clone()).see_tag(tag, digest);
        let (seen, _) = &self.referrers[&repository];
        let mut found = Vec::new();
        for (key, pair) in self.pairs.iter_mut().filter(|(key, _)| key.repository == repository) {
            if pair.options.referrers == Referrers::Ignore {
                continue;
            }
            let rows: Vec<(Tag, Digest)> =
                pair.ledger.rows().map(|(tag, row)| (tag.clone(), row.digest.clone())).collect();
            for (tag, digest) in rows {
                if matches!(pair.ledger.observe_referrers(&tag, seen.fingerprint(&digest), now), Attempt::Copy(_)) {
                    pair.change(now);
                    found.push((key.clone(), tag));
                }
            }
        }
        for (key, tag) in found {
            self.enqueue(key, tag, true);
        }
    }

    /// The tags that a copy need not list itself, where they are few. Of a repository that no comparison has listed yet those that
    /// were pushed: the comparison finds the others.
    pub(super) fn referrer_tags(&self, repository: &RepositoryName) -> Option<Arc<BTreeSet<Tag>>> {
        let seen = self.referrers.get(repository).map(|(seen, _)| seen.all_tags(MOST_TAGS));
        seen.unwrap_or_else(|| Some(BTreeSet::new())).map(Arc::new)
    }

    fn seen_referrers(&mut self, repository: RepositoryName) -> &mut SeenReferrers {
        &mut self.referrers.entry(repository).or_insert_with(|| (SeenReferrers::default(), NEVER)).0
    }
}

const NEVER: Timestamp = Timestamp::UNIX_EPOCH;
/// More are listed by whoever copies: they would make the message to a worker too large.
const MOST_TAGS: usize = 50;

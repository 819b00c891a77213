//! Observes the listed tags of one repository: their digests, what refers to them, and those that cannot be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::Shared;
use futures::{FutureExt, StreamExt};
use tokio::sync::OnceCell;

use super::machine::{Finding, KnownLooks, Looks, Observed, ReferrerLooks, Unread};
use super::observer::FindingSender;
use crate::copy::CopyError;
use crate::image::{Digest, Tag};
use crate::locked::Locked;
use crate::plan::{CodedError, CreationDate, FailedRead};
use crate::registry::{Client, ErrorKind, FallbackTag, RegistryError};
use crate::terms::FailureCode;

/// The extent to which a part of a source was read. Of several parts the least counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// A list could not be read.
    Incomplete,
    /// Every tag is listed; some have to be read again.
    Partial,
    /// Everything was read, or is kept back by the source.
    Whole,
}

/// Returns the least extent of all parts.
pub(super) async fn least(parts: impl futures::Stream<Item = Extent>) -> Extent {
    parts.fold(Extent::Whole, |least, part| std::future::ready(least.min(part))).await
}

/// One repository whose tags are observed.
pub(super) struct ObservedRepository<'a> {
    /// The way of its findings.
    pub sender: &'a FindingSender<'a>,
    /// The client of the source.
    pub client: &'a Client,
    /// The observations to make.
    pub looks: Looks,
    /// The digests that came with the list.
    pub digests: BTreeMap<Tag, Digest>,
    /// The time when the list was requested.
    pub listed_at: jiff::Timestamp,
    /// Images whose referrers were asked for: one that has several tags is asked for once.
    pub asked: Locked<HashMap<Digest, Arc<OnceCell<()>>>>,
    /// Listed tags that have no manifest, with the times of the requests.
    pub absent: Locked<BTreeMap<Tag, jiff::Timestamp>>,
}

/// The reading of every tag that stands for referrers, shared by the images, which come after it.
type ReferrerTags<'a> = Shared<futures::future::BoxFuture<'a, Extent>>;

impl ObservedRepository<'_> {
    /// Observes the listed tags of images, and those that stand for referrers.
    pub(super) async fn run(&self, tags: BTreeSet<Tag>, referrers: BTreeSet<Tag>) -> Extent {
        let referrer_tags: ReferrerTags<'_> = self.referrer_tags(referrers).boxed().shared();
        let observed = futures::stream::iter(tags).map(|tag| self.image(tag, referrer_tags.clone()));
        let (images, referrers) = futures::join!(least(observed.buffered(TAGS_AT_ONCE)), referrer_tags.clone());
        images.min(referrers).min(self.confirm_absent().await)
    }

    async fn image(&self, tag: Tag, referrer_tags: ReferrerTags<'_>) -> Extent {
        if !self.is_observed_now(&tag) {
            return Extent::Whole;
        }
        let place = self.sender.places.clone().acquire_owned().await.ok();
        let (digest, _) = futures::join!(self.digest(&tag), referrer_tags);
        let (digest, sent_at) = match digest {
            (Ok(Some(digest)), sent_at) => (digest, sent_at),
            (Ok(None), sent_at) => {
                self.absent.lock().insert(tag, sent_at);
                return Extent::Whole;
            }
            (Err(error), sent_at) => return self.unread(tag, error, sent_at),
        };
        let (extent, with_referrers) = match self.looks.referrers {
            ReferrerLooks::Everywhere => {
                let extent = self.referrers(&digest).await;
                (extent, extent == Extent::Whole)
            }
            ReferrerLooks::Nowhere | ReferrerLooks::Tags => (Extent::Whole, false),
        };
        let (repository, created) = (self.looks.repository.clone(), CreationDate::Unknown);
        let observed = Observed { repository, tag, digest, sent_at, pushed_at: None, created, with_referrers };
        self.sender.send_image(observed, place);
        extent
    }

    /// Returns false if a tag is left to the sweep.
    fn is_observed_now(&self, tag: &Tag) -> bool {
        let is_listed = self.looks.settled.contains_key(tag) || self.digests.contains_key(tag);
        is_listed || self.is_within(tag)
    }

    /// Returns true if a known tag is observed for a reason of its own, or the budget allows it.
    fn is_within(&self, tag: &Tag) -> bool {
        match &self.looks.known {
            KnownLooks::All => true,
            KnownLooks::Only(due) => due.contains(tag),
            KnownLooks::WithinBudget(due) => due.contains(tag) || self.sender.observer.sweep.take(),
        }
    }

    /// Returns false if a tag that stands for referrers is left to the sweep.
    fn is_read_now(&self, tag: &Tag) -> bool {
        let is_known = self.looks.referrer_tags.get(tag).is_some_and(|seen| seen.digest.is_some());
        !is_known || self.is_within(tag)
    }

    /// Returns the digest of a tag, and when it was asked for: as it is promised, as it is listed, or else as the
    /// source says.
    async fn digest(&self, tag: &Tag) -> (Result<Option<Digest>, RegistryError>, jiff::Timestamp) {
        if let Some(digest) = self.looks.settled.get(tag).or_else(|| self.digests.get(tag)) {
            return (Ok(Some(digest.clone())), self.listed_at);
        }
        let sent_at = self.sender.observer.clock.now();
        let is_read = self.looks.new.contains(tag);
        let digest = self.sender.observer.digest(self.client, &self.looks.repository, tag, is_read).await;
        (digest, sent_at)
    }

    /// Sends the failure of one tag, which ends no other.
    fn unread(&self, tag: Tag, error: RegistryError, sent_at: jiff::Timestamp) -> Extent {
        self.sender.observer.suspect(&error);
        let is_of_tag = is_of_tag(error.kind);
        let CodedError { code, message, .. } = CodedError::from(CopyError::Source(error));
        let (repository, failed) = (self.looks.repository.clone(), FailedRead { code, message, is_of_tag });
        self.sender.send(Finding::Unread(Unread { repository, tag, failed, sent_at }));
        if is_of_tag { Extent::Whole } else { Extent::Partial }
    }

    /// Lists the tags once more where some have no manifest: those that were deleted meanwhile are no failures.
    async fn confirm_absent(&self) -> Extent {
        let absent = std::mem::take(&mut *self.absent.lock());
        if absent.is_empty() {
            return Extent::Whole;
        }
        let repository = &self.looks.repository;
        let listed = match self.client.tags_and_digests(repository, &|tag| absent.contains_key(tag)).await {
            Ok(listing) => listing.unwrap_or_default().tags,
            Err(error) => {
                self.sender.report(&error);
                return Extent::Incomplete;
            }
        };
        for (tag, sent_at) in absent.into_iter().filter(|(tag, _)| listed.contains(tag)) {
            let message = format!(
                "{} lists the tag {repository}:{tag} and has no manifest for it (404): push the tag again, or delete it",
                self.client.host()
            );
            let failed = FailedRead { code: FailureCode::ImageNotFound, message, is_of_tag: true };
            let repository = repository.clone();
            self.sender.send(Finding::Unread(Unread { repository, tag, failed, sent_at }));
        }
        Extent::Whole
    }

    /// Reads the tags that stand for referrers. One that cannot be read is named, and ends no other.
    async fn referrer_tags(&self, tags: BTreeSet<Tag>) -> Extent {
        if self.looks.referrers == ReferrerLooks::Nowhere {
            return Extent::Whole;
        }
        let observer = self.sender.observer;
        let (now, left): (BTreeSet<Tag>, BTreeSet<Tag>) = tags.into_iter().partition(|tag| self.is_read_now(tag));
        let digests = futures::stream::iter(now).map(|tag| async move {
            let digest = observer.digest(self.client, &self.looks.repository, &tag, self.looks.is_first).await;
            (tag, digest)
        });
        let mut found: BTreeMap<Tag, Option<Digest>> = left.into_iter().map(|tag| (tag, None)).collect();
        let mut extent = Extent::Whole;
        let mut digests = std::pin::pin!(digests.buffered(TAGS_AT_ONCE));
        while let Some((tag, digest)) = digests.next().await {
            match digest {
                Ok(Some(digest)) => drop(found.insert(tag, Some(digest))),
                // The copy of its image says so, unless the tag was deleted meanwhile.
                Ok(None) => drop(found.insert(tag, None)),
                Err(error) => {
                    self.sender.report(&error);
                    extent = extent.min(if is_of_tag(error.kind) { Extent::Whole } else { Extent::Partial });
                    found.insert(tag, None);
                }
            }
        }
        self.sender.send(Finding::ReferrerTags(self.looks.repository.clone(), found));
        extent
    }

    /// Asks the referrers API about an image, once however many tags it has.
    async fn referrers(&self, subject: &Digest) -> Extent {
        let cell = {
            let mut asked = self.asked.lock();
            asked.entry(subject.clone()).or_default().clone()
        };
        let asked = cell.get_or_try_init(|| async {
            let listed = self.client.referrers(&self.looks.repository, subject, FallbackTag::Absent).await?;
            if listed.by_api {
                let (repository, subject) = (self.looks.repository.clone(), subject.clone());
                self.sender.send(Finding::Referrers { repository, subject, listed: listed.digests });
            }
            Ok::<_, RegistryError>(())
        });
        match asked.await {
            Ok(()) => Extent::Whole,
            Err(error) => {
                self.sender.report(&error);
                Extent::Incomplete
            }
        }
    }
}

/// Returns true if the cause of a failed read is the tag, false if it may be the whole source.
pub(super) fn is_of_tag(kind: ErrorKind) -> bool {
    use ErrorKind::{Configuration, EgressRefused, TlsRefused, Unauthorized};
    !kind.is_transient() && !matches!(kind, Configuration | EgressRefused | TlsRefused | Unauthorized)
}

/// The client of the registry decides how many requests really are under way.
const TAGS_AT_ONCE: usize = 32;

//! Observes one repository of a source: its images as they are found, and what refers to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::left_out::Examples;
use super::planning::{Queue, QueuePlace};
use super::registries::Known;
use super::state::Referred;
use crate::copy::Engine;
use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::plan::{SeenReferrers, TagChoice};
use crate::registry::{Listing, Reference, RegistryError};

/// A repository of a source whose tags were listed.
pub(super) struct Observed<'a> {
    source: &'a Known,
    repository: &'a RepositoryName,
    looks: Looks<'a>,
    tags: BTreeSet<Tag>,
    /// What they point at, as far as the list told it.
    digests: BTreeMap<Tag, Digest>,
    /// Its tags that stand for referrers.
    pub(super) referrer_tags: Arc<BTreeSet<Tag>>,
    /// What the referrers API listed, by subject: images that have several tags are asked for once.
    lists: Mutex<HashMap<Digest, Arc<OnceCell<Option<String>>>>>,
    /// How many of its tags no rule takes, and why.
    pub(super) left_out: (usize, String),
}

/// What is looked at besides the digest of each tag.
pub(super) struct Looks<'a> {
    /// Which tags are.
    pub(super) tags: &'a TagChoice,
    /// Whether referrers matter at all.
    pub(super) referrers: bool,
    /// Whether the referrers API is to be asked.
    pub(super) api: bool,
    /// What tags point at that are promised never to move.
    pub(super) settled: BTreeMap<Tag, Digest>,
    /// Who copies what is new: manifests of tags that `is_new` picks are read at once, and handed over.
    pub(super) engine: Option<&'a Engine>,
    /// Whether nothing is remembered of any tag.
    pub(super) is_first: bool,
    /// Whether nothing is remembered of a tag.
    pub(super) is_new: &'a (dyn Fn(&Tag) -> bool + Sync),
}

/// One image of a source.
pub(super) struct Image {
    pub(super) tag: Tag,
    pub(super) digest: Digest,
    pub(super) referred: Referred,
}

impl<'a> Observed<'a> {
    /// Lists the repository.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn list(
        source: &'a Known,
        repository: &'a RepositoryName,
        looks: Looks<'a>,
    ) -> Result<Self, String> {
        let examples = Examples::of(looks.tags);
        let keep = |tag: &Tag| if is_referrer_tag(tag) { looks.referrers } else { examples.takes(tag) };
        let listing = source.client.tags_and_digests(repository, &keep).await.map_err(|error| error.message)?;
        let missing = || format!("{} has no repository {repository}: push to it, or correct the filter", source.host);
        let Listing { tags, digests, left_out } = listing.ok_or_else(missing)?;
        let (referrers, tags): (BTreeSet<Tag>, BTreeSet<Tag>) = tags.into_iter().partition(is_referrer_tag);
        let (referrer_tags, lists) = (Arc::new(referrers), Mutex::default());
        let left_out = (left_out, examples.for_people());
        Ok(Self { source, repository, looks, tags, digests, referrer_tags, lists, left_out })
    }

    /// Its images in the order of their tags, each as soon as it is known; `None` for a tag that went away since it was listed.
    /// Each comes with a place among those that wait in `places`, where there is such a queue that is not closed: nothing is asked of
    /// the source before there is one.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn images<'b>(
        &'b self,
        places: Option<&'b Queue>,
    ) -> impl Stream<Item = Result<Option<(Image, Option<QueuePlace<'b>>)>, String>> {
        let seen = self.see_tags().map(|seen| seen.map(Arc::new).map_err(|error| error.message)).boxed().shared();
        let images = futures::stream::iter(&self.tags).map(move |tag| {
            let seen = seen.clone();
            async move {
                let place = match places {
                    Some(places) => places.reserve().await.ok(),
                    None => None,
                };
                let (digest, seen) = futures::join!(self.digest(tag), seen);
                let Some(digest) = digest.map_err(|error| error.message)? else { return Ok(None) };
                let listed = self.listed(&digest).await.map_err(|error| error.message)?;
                let referred = Referred { tags: seen?.tags_fingerprint(&digest), listed };
                Ok(Some((Image { tag: tag.clone(), digest, referred }, place)))
            }
        });
        images.buffered(LOOKS_AT_ONCE)
    }

    /// Whether the referrers API is asked for each image.
    pub(super) fn asks(&self) -> bool {
        self.looks.referrers && self.looks.api
    }

    async fn digest(&self, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        if let Some(digest) = self.looks.settled.get(tag).or_else(|| self.digests.get(tag)) {
            return Ok(Some(digest.clone()));
        }
        match self.looks.engine.filter(|_| (self.looks.is_new)(tag)) {
            Some(engine) => engine.observe(&self.source.client, self.repository, tag).await,
            None => self.head(tag).await,
        }
    }

    async fn see_tags(&self) -> Result<SeenReferrers, RegistryError> {
        let mut seen = SeenReferrers::default();
        if self.looks.referrers {
            let tags: Vec<Tag> = self.referrer_tags.iter().cloned().collect();
            let heads = futures::stream::iter(tags).map(|tag| async move {
                // What is new is copied with all that refers to it, and that needs the list.
                let digest = match self.looks.engine.filter(|_| self.looks.is_first) {
                    Some(engine) => engine.observe(&self.source.client, self.repository, &tag).await?,
                    None => self.head(&tag).await?,
                };
                Ok::<_, RegistryError>(digest.map(|digest| (tag, digest)))
            });
            let heads = heads.buffered(LOOKS_AT_ONCE).try_filter_map(async |tag| Ok(tag));
            seen.see_tags(heads.try_collect::<BTreeMap<Tag, Digest>>().await?);
        }
        Ok(seen)
    }

    /// A fingerprint of what the referrers API lists of an image, where it is asked.
    async fn listed(&self, image: &Digest) -> Result<Option<String>, RegistryError> {
        if !self.asks() {
            return Ok(None);
        }
        let cell = {
            let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            lists.entry(image.clone()).or_default().clone()
        };
        let fingerprint = cell.get_or_try_init(|| async {
            let listed = self.source.client.referrers(self.repository, image, Some(false)).await?;
            let mut seen = SeenReferrers::default();
            seen.see_listed(image, &listed.digests);
            Ok(seen.listed_fingerprint(image))
        });
        fingerprint.await.cloned()
    }

    async fn head(&self, tag: &Tag) -> Result<Option<Digest>, RegistryError> {
        let head = self.source.client.head_manifest(self.repository, Reference::Tag(tag)).await?;
        Ok(head.map(|head| head.digest))
    }
}

/// How many requests really are under way is for the client of the registry to decide.
const LOOKS_AT_ONCE: usize = 32;

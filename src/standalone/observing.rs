//! Observes one repository of a source: its images, and what refers to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::registries::Known;
use super::state::Referred;
use crate::copy::Engine;
use crate::image::{Digest, RepositoryName, Tag, is_referrer_tag};
use crate::plan::SeenReferrers;
use crate::registry::{Listing, Reference, RegistryError};

/// What a repository of a source has.
pub(super) struct Observed {
    /// Its images.
    pub(super) images: Vec<(Tag, Digest)>,
    /// Its tags that stand for referrers.
    pub(super) referrer_tags: Arc<BTreeSet<Tag>>,
    seen: SeenReferrers,
    /// Whether its referrers API, if it has one, was asked for each image.
    pub(super) is_asked: bool,
}

/// What is looked at besides the digest of each tag.
pub(super) struct Looks<'a> {
    /// Whether referrers matter at all.
    pub(super) referrers: bool,
    /// Whether the referrers API is to be asked.
    pub(super) api: bool,
    /// What tags point at that are promised never to move.
    pub(super) settled: BTreeMap<Tag, Digest>,
    /// Who copies what is new: manifests of tags that `is_new` picks are read at once, and handed over.
    pub(super) engine: Option<&'a Engine>,
    /// Whether nothing is remembered of a tag.
    pub(super) is_new: &'a (dyn Fn(&Tag) -> bool + Sync),
}

impl Observed {
    /// Reads the repository.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn read(source: &Known, repository: &RepositoryName, looks: &Looks<'_>) -> Result<Self, String> {
        let message = |error: RegistryError| error.message;
        let listing = source.client.tags_and_digests(repository).await.map_err(message)?;
        let missing = || format!("{} has no repository {repository}: push to it, or correct the filter", source.host);
        let Listing { tags, digests } = listing.ok_or_else(missing)?;
        let (referrers, tags): (BTreeSet<Tag>, BTreeSet<Tag>) = tags.into_iter().partition(is_referrer_tag);
        let look = |tag: Tag| async {
            if let Some(digest) = looks.settled.get(&tag).or_else(|| digests.get(&tag)) {
                let digest = digest.clone();
                return Ok(Some((tag, digest)));
            }
            let digest = digest(source, repository, &tag, looks).await?;
            Ok::<_, RegistryError>(digest.map(|digest| (tag, digest)))
        };
        let images = futures::stream::iter(tags).map(look).buffered(LOOKS_AT_ONCE);
        // Tags that went away since they were listed are left out.
        let images: Vec<(Tag, Digest)> =
            images.try_filter_map(async |image| Ok(image)).try_collect().await.map_err(message)?;
        let mut seen = SeenReferrers::default();
        if looks.referrers {
            let heads = futures::stream::iter(referrers.clone()).map(|tag| async {
                let head = source.client.head_manifest(repository, Reference::Tag(&tag)).await?;
                Ok::<_, RegistryError>(head.map(|head| (tag, head.digest)))
            });
            let heads = heads.buffered(LOOKS_AT_ONCE).try_filter_map(async |tag| Ok(tag));
            seen.see_tags(heads.try_collect::<BTreeMap<Tag, Digest>>().await.map_err(message)?);
        }
        let is_asked = looks.referrers && looks.api;
        if is_asked {
            let subjects: BTreeSet<Digest> = images.iter().map(|(_, digest)| digest.clone()).collect();
            let lists = futures::stream::iter(subjects).map(|subject| async {
                let listed = source.client.referrers(repository, &subject, Some(false)).await?;
                Ok::<_, RegistryError>((subject, listed.digests))
            });
            let mut lists = std::pin::pin!(lists.buffered(LOOKS_AT_ONCE));
            while let Some((subject, listed)) = lists.try_next().await.map_err(message)? {
                seen.see_listed(&subject, &listed);
            }
        }
        Ok(Self { images, referrer_tags: Arc::new(referrers), seen, is_asked })
    }

    /// What refers to an image, as it is remembered once the image is verified.
    pub(super) fn referred(&self, image: &Digest) -> Referred {
        let listed = self.is_asked.then(|| self.seen.listed_fingerprint(image)).flatten();
        Referred { tags: self.seen.tags_fingerprint(image), listed }
    }
}

/// The digest of a tag; `None` if it is not there any more.
async fn digest(
    source: &Known,
    repository: &RepositoryName,
    tag: &Tag,
    looks: &Looks<'_>,
) -> Result<Option<Digest>, RegistryError> {
    match looks.engine.filter(|_| (looks.is_new)(tag)) {
        Some(engine) => engine.observe(&source.client, repository, tag).await,
        None => {
            let head = source.client.head_manifest(repository, Reference::Tag(tag)).await?;
            Ok(head.map(|head| head.digest))
        }
    }
}

const LOOKS_AT_ONCE: usize = 8;

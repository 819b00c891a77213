//! The vendor layer: APIs that some registries have besides the distribution API, and known traits of public
//! registries.
//!
//! No layer below names a vendor, except to cite the source of a quirk. Every answer of such an API saves requests of
//! the distribution API; a failure costs no more than those requests.

mod creation;
mod digest_lookup;
pub(crate) mod ecr;
pub(crate) mod google;
mod harbor;
pub(crate) mod profiles;
mod sigv4;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use futures::FutureExt;
use tokio::time::timeout;

use crate::image::{Descriptor, Digest, InvalidNames, RepositoryName, Tag};
use crate::registry::content::manifests::DeletionAnswer;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::lists::page::Keep;
use crate::registry::lists::tags::TagLists;
use crate::registry::session::Session;
use crate::registry::vendors::digest_lookup::DigestLookup;
use crate::registry::vendors::ecr::Ecr;
use crate::registry::vendors::google::PageDigests;
use crate::registry::vendors::harbor::HarborRepository;
use crate::registry::vendors::verdicts::{ApiCall, ApiVerdicts, Verdict};
use crate::terms::RepositoryTemplate;

/// The selected tags of a repository, with their digests as far as the registry lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Every selected tag, also those without a digest.
    pub tags: BTreeSet<Tag>,
    /// The digests that the registry lists, by tag; a tag without one needs a request of its own.
    pub digests: BTreeMap<Tag, Digest>,
    /// The number of image tags that were not selected; one that is listed twice counts twice.
    pub left_out: usize,
    /// Listed names that no tag can have.
    pub invalid: InvalidNames,
}

/// The vendor APIs of one registry.
pub(crate) struct Vendors {
    session: Arc<Session>,
    tags: TagLists,
    /// The API of Amazon ECR, if the registry belongs to one and the credentials are an access key.
    ecr: Option<Arc<Ecr>>,
    verdicts: ApiVerdicts,
    /// The settings of repositories that are created.
    templates: Vec<RepositoryTemplate>,
}

/// An API that lists the digests of tags, and deletes tags.
enum DigestApi<'a> {
    Harbor(HarborRepository<'a>),
    Ecr(&'a Ecr),
}

impl Vendors {
    pub(crate) fn new(
        session: Arc<Session>,
        tags: TagLists,
        ecr: Option<Arc<Ecr>>,
        templates: Vec<RepositoryTemplate>,
    ) -> Self {
        Self { session, tags, ecr, verdicts: ApiVerdicts::default(), templates }
    }

    /// Lists the tags that `keep` selects, with the digests that the registry lists; `None` if the repository does not
    /// exist.
    ///
    /// # Errors
    /// As [`TagLists::select`].
    pub(crate) async fn tags_and_digests(
        &self,
        repository: &RepositoryName,
        keep: Keep<'_, Tag>,
    ) -> Result<Option<Listing>, RegistryError> {
        let mut digests = PageDigests::default();
        let selected = self.tags.select(repository, keep, &mut |manifests| digests.add(manifests, keep)).await?;
        let Some(selected) = selected else { return Ok(None) };
        let mut digests = digests.of(&selected.tags);
        if digests.is_empty() {
            digests = self.digests(repository, &selected.tags).boxed().await;
        }
        Ok(Some(Listing { digests, tags: selected.tags, left_out: selected.left_out, invalid: selected.invalid }))
    }

    /// Returns those of `blobs` that the registry states to have, with the stated sizes. The others need a check of
    /// their own: they may be absent, or the registry has no such API.
    pub(crate) async fn existing_blobs(&self, repository: &RepositoryName, blobs: &[&Descriptor]) -> HashSet<Digest> {
        let mut found = HashSet::new();
        let Some(ecr) = self.ecr.as_ref().filter(|_| blobs.len() >= MIN_BLOBS) else { return found };
        if self.verdicts.get(&ApiCall::EcrLayers) == Verdict::Useless {
            return found;
        }
        let operation = self.session.http().operation("looking for the blobs of", repository);
        let checked = ecr.check_layers(repository, blobs, &mut found, &operation);
        if let Err(error) = self.in_time(&operation, "the answers did not come", checked).await {
            tracing::debug!(error = %error.message, "blobs are asked for one by one");
            self.verdicts.failed(ApiCall::EcrLayers, &error);
        }
        found
    }

    /// Deletes a tag by an API of this registry; `None` if it has none that does.
    ///
    /// # Errors
    /// As [`Client::delete_manifest`](crate::registry::Client::delete_manifest).
    pub(crate) async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<Option<DeletionAnswer>, RegistryError> {
        let operation = self.session.http().operation("deleting a tag of", repository);
        match self.digest_api(repository) {
            Some(DigestApi::Ecr(ecr)) => ecr.delete_tag(repository, tag, &operation).await.map(Some),
            Some(DigestApi::Harbor(harbor)) => harbor.delete_tag(tag, digest, &operation).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns the digests of those of `tags` that an API of this registry lists. Never fails.
    ///
    /// `tags/list` alone decides which tags exist. The API is trusted tag by tag, as a HEAD of the registry would be:
    /// it answers from the same host under the same credentials. A tag that it lists with two digests, or not at all,
    /// needs a HEAD. Content is copied by digest, so that a wrong digest never becomes wrong content.
    async fn digests(&self, repository: &RepositoryName, tags: &BTreeSet<Tag>) -> BTreeMap<Tag, Digest> {
        let mut lookup = DigestLookup::of(tags);
        if lookup.missing() < MIN_TAGS {
            return BTreeMap::new();
        }
        let Some(api) = self.digest_api(repository) else { return BTreeMap::new() };
        let call = match &api {
            DigestApi::Harbor(harbor) => ApiCall::HarborProject(harbor.project().to_owned()),
            DigestApi::Ecr(_) => ApiCall::EcrImages,
        };
        let verdict = self.verdicts.get(&call);
        if verdict == Verdict::Useless {
            return BTreeMap::new();
        }
        let operation = self.session.http().operation("reading what the tags point at", repository);
        let read = async {
            match &api {
                DigestApi::Ecr(ecr) => ecr.list_images(repository, &mut lookup, &operation).await,
                DigestApi::Harbor(harbor) => {
                    if verdict == Verdict::Unknown {
                        harbor.check(&operation).await?;
                        self.verdicts.works(call.clone());
                    }
                    harbor.list_artifacts(&mut lookup, &operation).await
                }
            }
        };
        if let Err(error) = self.in_time(&operation, "the list did not end", read).await {
            tracing::debug!(error = %error.message, "tags are asked for one by one");
            self.verdicts.failed(call, &error);
        }
        lookup.into_digests()
    }

    fn digest_api<'a>(&'a self, repository: &'a RepositoryName) -> Option<DigestApi<'a>> {
        let ecr = self.ecr.as_deref().map(DigestApi::Ecr);
        ecr.or_else(|| HarborRepository::of(&self.session, repository).map(DigestApi::Harbor))
    }

    async fn in_time(
        &self,
        operation: &Operation,
        late: &str,
        called: impl Future<Output = Result<(), RegistryError>>,
    ) -> Result<(), RegistryError> {
        let limit = self.session.http().deadlines().listing;
        match timeout(limit, called).await {
            Ok(result) => result,
            Err(_) => Err(operation.error(ErrorKind::Unavailable, format!("{late} within {limit:?}"))),
        }
    }
}

/// For fewer tags, HEADs cost no more.
const MIN_TAGS: usize = 3;

/// For fewer blobs, HEADs cost no more.
const MIN_BLOBS: usize = 3;

//! Lists the tags of a repository.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use crate::image::{InvalidNames, RepositoryName, Tag, is_referrer_tag};
use crate::registry::auth::scopes::Scopes;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::advice::unexpected;
use crate::registry::http::response::ErrorResponse;
use crate::registry::http::said::web_page;
use crate::registry::lists::link::{NextLink, next_link};
use crate::registry::lists::page::{Keep, NameField, read_page};
use crate::registry::lists::query::{ListQuery, ListResult, MAX_PAGE_BYTES, ManifestObserver, PAGE_SIZE};
use crate::registry::session::{Fetched, RegistryRequest, Session};

/// The tags of a repository that were selected.
pub(crate) struct SelectedTags {
    pub(crate) tags: BTreeSet<Tag>,
    /// The number of image tags that were not selected; one that is listed twice counts twice.
    pub(crate) left_out: usize,
    /// Listed names that no tag can have.
    pub(crate) invalid: InvalidNames,
}

/// The beginning of a list of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstTags {
    /// The tags of the first page.
    pub tags: BTreeSet<Tag>,
    /// True if the repository has no others.
    pub is_all: bool,
}

/// The tag lists of one registry.
#[derive(Clone)]
pub(crate) struct TagLists {
    session: Arc<Session>,
}

impl TagLists {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    /// Lists the tags that `keep` selects; `None` if the repository does not exist. Of the others only the number is
    /// kept, however many there are. `observer` receives the manifests that some registries list besides.
    ///
    /// # Errors
    /// `TooLarge` over 32 MiB of tags that are kept. Anything that keeps the list from being complete is an error. A 404
    /// that does not come from a registry is one too, and no absent repository.
    pub(crate) async fn select(
        &self,
        repository: &RepositoryName,
        keep: Keep<'_, Tag>,
        observer: ManifestObserver<'_>,
    ) -> Result<Option<SelectedTags>, RegistryError> {
        let http = self.session.http();
        let operation = http.operation("listing the tags", repository);
        let query = ListQuery {
            first: http.hosts().of(repository, "tags/list"),
            scopes: Scopes::pull(repository),
            field: NameField::Tags,
            operation: &operation,
            remedy: "narrow tagFilters, or set referrers: Ignore where most of them belong to signatures",
        };
        let left_out = AtomicUsize::new(0);
        let counted = |tag: &Tag| {
            let is_kept = keep(tag);
            left_out.fetch_add(usize::from(!is_kept && !is_referrer_tag(tag)), Ordering::Relaxed);
            is_kept
        };
        match query.read(&self.session, &counted, observer).await? {
            ListResult::Names(tags, invalid) => {
                Ok(Some(SelectedTags { tags, left_out: left_out.into_inner(), invalid }))
            }
            ListResult::Refused(refused) => self.check_absent(&refused, &operation).await.map(|()| None),
        }
    }

    /// Returns the first page of the tags; `None` if the repository does not exist. Takes one request.
    ///
    /// # Errors
    /// As [`TagLists::select`].
    pub(crate) async fn first(&self, repository: &RepositoryName) -> Result<Option<FirstTags>, RegistryError> {
        let http = self.session.http();
        let operation = http.operation("looking for the repository", repository);
        let mut url = http.hosts().of(repository, "tags/list");
        url.set_query(Some(PAGE_SIZE));
        let request = RegistryRequest::new(Method::GET, url, Scopes::pull(repository), &operation);
        match self.session.fetch_small(&request, MAX_PAGE_BYTES).await? {
            Fetched::Document { headers, body, .. } => {
                let page = read_page(&body, NameField::Tags, &|_| true);
                if page.is_none() && web_page(&body).is_some() {
                    return Err(operation.error(ErrorKind::InvalidContent, unexpected(&body, "")));
                }
                let is_all = page.is_some() && next_link(&headers) == NextLink::None;
                Ok(Some(FirstTags { tags: page.into_iter().flat_map(|page| page.kept).collect(), is_all }))
            }
            Fetched::Refused(refused) => self.check_absent(&refused, &operation).await.map(|()| None),
        }
    }

    /// Returns true if the repository, or `tag` in it, is known to be absent: the tags may be listed, and lack it.
    pub(crate) async fn lacks(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let selected = self.select(repository, &|listed| listed == tag, &mut |_| ()).await;
        selected.is_ok_and(|selected| selected.is_none_or(|selected| selected.tags.is_empty()))
    }

    /// Checks that `refused` means that a repository is absent: a 404 with the error document of a registry, or at
    /// least from a host that is a registry. A web page or a refusal of access says nothing about the repository.
    async fn check_absent(&self, refused: &ErrorResponse, operation: &Operation) -> Result<(), RegistryError> {
        let is_refusal = refused.is_web_page() || refused.has_code(&["UNAUTHORIZED", "DENIED", "TOOMANYREQUESTS"]);
        let says_so = (refused.status.as_u16() == 404 && !is_refusal) || refused.has_code(&["NAME_UNKNOWN"]);
        if says_so && (refused.is_of_registry() || self.session.ping().await.is_ok()) {
            return Ok(());
        }
        Err(refused.error(operation))
    }
}

#[cfg(test)]
mod tests;

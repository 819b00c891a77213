//! Lists the tags of a repository and the repositories of a registry, page by page.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use http::Method;
use serde_json::value::RawValue;
use tokio::time::timeout;
use url::Url;

use crate::image::{RepositoryName, Tag, is_referrer_tag};
use crate::registry::auth::token::Scopes;
use crate::registry::client::Client;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::response::ErrorResponse;
use crate::registry::lists::page::{Keep, NamePage, next_link, read_page};
use crate::registry::session::{Fetched, Inner, RegistryRequest};
use crate::registry::vendors::tag_digests::{Listing, PageDigests};

impl Client {
    /// Every repository (`_catalog`, following `Link`), sorted; names that no repository can have are left out.
    ///
    /// # Errors
    /// `Unsupported` when the registry offers no catalog, or not to us; `Unauthorized` when it refuses the credentials as such;
    /// `TooLarge` over 100,000 repositories.
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("listing the repositories", "");
        let (first, scopes) = (inner.site.catalog(), Scopes::catalog());
        let remedy = "name those that are wanted, with filterType: EXACT_MATCH";
        let list = ListQuery { first, scopes, key: "repositories", task: &task, remedy };
        let error = match inner.list(list, &|_| true, &mut |_| ()).await {
            Ok(ListResult::Names(names)) => return Ok(names.into_iter().collect()),
            Ok(ListResult::Refused(refusal)) => refusal.error(&task),
            Err(error) => error,
        };
        match error.kind {
            // Whose credentials are refused everywhere has another trouble than a catalog that is kept from him.
            ErrorKind::Unauthorized if self.ping().await.is_err_and(|ping| ping.kind == error.kind) => Err(error),
            ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unauthorized => {
                Err(RegistryError { kind: ErrorKind::Unsupported, ..error })
            }
            _ => Err(error),
        }
    }

    /// Every tag, sorted; `None` when the repository is not there. Names that no tag can have are left out.
    ///
    /// # Errors
    /// As [`Client::tags_and_digests`].
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, RegistryError> {
        Ok(self.listing(repository, &|_| true).await?.map(|listing| listing.tags.into_iter().collect()))
    }

    /// The tags that `keep` picks, and what they point at where the registry tells that with a list; `None` when the repository is not
    /// there. Of the others nothing is kept but their number, however many there are.
    ///
    /// # Errors
    /// `TooLarge` over 100,000 tags that are kept. Whatever keeps the list from being complete is an error. A 404 that does
    /// not come from a registry is one too, and no absent repository.
    pub async fn tags_and_digests(
        &self,
        repository: &RepositoryName,
        keep: Keep<'_, Tag>,
    ) -> Result<Option<Listing>, RegistryError> {
        let Some(mut listing) = self.listing(repository, keep).await? else { return Ok(None) };
        if listing.digests.is_empty() {
            listing.digests = self.0.told_digests(repository, &listing.tags).boxed().await;
        }
        Ok(Some(listing))
    }

    async fn listing(
        &self,
        repository: &RepositoryName,
        keep: Keep<'_, Tag>,
    ) -> Result<Option<Listing>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("listing the tags", repository);
        let (first, scopes) = (inner.site.of(repository, "tags/list"), Scopes::pull(repository));
        let remedy = "narrow tagFilters, or set referrers: Ignore where most of them belong to signatures";
        let list = ListQuery { first, scopes, key: "tags", task: &task, remedy };
        let (mut digests, left_out) = (PageDigests::default(), AtomicUsize::new(0));
        let counted = |tag: &Tag| {
            let is_kept = keep(tag);
            left_out.fetch_add(usize::from(!is_kept && !is_referrer_tag(tag)), Ordering::Relaxed);
            is_kept
        };
        match inner.list(list, &counted, &mut |manifests| digests.take(manifests, keep)).await? {
            ListResult::Names(tags) => {
                Ok(Some(Listing { digests: digests.of(&tags), tags, left_out: left_out.into_inner() }))
            }
            ListResult::Refused(refusal) => self.absent(&refusal, &task).await.map(|()| None),
        }
    }

    /// The first page of the tags, and whether that is all of them; `None` when the repository is not there. One request: to
    /// be asked where we may push to.
    ///
    /// # Errors
    /// As [`Client::tags`].
    pub async fn first_tags(&self, repository: &RepositoryName) -> Result<Option<FirstTags>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("looking for the repository", repository);
        let mut url = inner.site.of(repository, "tags/list");
        url.set_query(Some(PAGE_SIZE));
        let fetched = {
            let _permit = inner.read_permit().await;
            inner
                .fetch(&RegistryRequest::new(Method::GET, url, Scopes::pull(repository), &task), MAX_PAGE_BYTES)
                .await?
        };
        match fetched {
            Fetched::Good { headers, body, .. } => {
                let page = read_page(&body, "tags", &|_| true);
                let is_all = page.is_some() && next_link(&headers).is_none();
                Ok(Some(FirstTags { tags: page.into_iter().flat_map(|page| page.kept).collect(), is_all }))
            }
            Fetched::Refused(refusal) => self.absent(&refusal, &task).await.map(|()| None),
        }
    }

    /// Makes sure that `refusal` says that a repository is absent: a 404 with the error document of a registry, or
    /// at least from a host where there is a registry.
    async fn absent(&self, refusal: &ErrorResponse, task: &Operation) -> Result<(), RegistryError> {
        let says_so = refusal.status.as_u16() == 404 || refusal.has_code(&["NAME_UNKNOWN"]);
        if says_so && (refusal.is_of_registry || self.ping().await.is_ok()) {
            return Ok(());
        }
        Err(refusal.error(task))
    }
}

/// The beginning of a list of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstTags {
    /// The tags.
    pub tags: BTreeSet<Tag>,
    /// Whether there are no others.
    pub is_all: bool,
}

/// What is listed.
struct ListQuery<'a> {
    first: Url,
    scopes: Scopes,
    /// The field of a page that holds the names.
    key: &'static str,
    task: &'a Operation,
    /// What is to be done where there are too many.
    remedy: &'static str,
}

/// Sees what Google's registries tell of the manifests of a page.
type PageObserver<'a> = &'a mut (dyn FnMut(&RawValue) + Send);

enum ListResult<T> {
    Names(BTreeSet<T>),
    Refused(ErrorResponse),
}

impl Inner {
    /// Everything that is listed and that `keep` picks.
    async fn list<T: FromStr + Ord + Send>(
        &self,
        list: ListQuery<'_>,
        keep: Keep<'_, T>,
        look: PageObserver<'_>,
    ) -> Result<ListResult<T>, RegistryError> {
        let (limit, task) = (self.deadlines.listing, list.task);
        match timeout(limit, self.pages(list, keep, look)).await {
            Ok(result) => result,
            Err(_) => Err(task.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }

    async fn pages<T: FromStr + Ord + Send>(
        &self,
        list: ListQuery<'_>,
        keep: Keep<'_, T>,
        look: PageObserver<'_>,
    ) -> Result<ListResult<T>, RegistryError> {
        let task = list.task;
        let mut url = list.first;
        url.set_query(Some(PAGE_SIZE));
        let (mut names, mut walk, mut invalid) = (BTreeSet::new(), PageWalk::default(), 0_usize);
        walk.enter(&url);
        loop {
            let request = RegistryRequest::new(Method::GET, url, list.scopes.clone(), task);
            let (from, headers, body) = match self.fetch_page(&request).await? {
                Fetched::Good { url, headers, body } => (url, headers, body),
                Fetched::Refused(refusal) if walk.pages.len() == 1 => return Ok(ListResult::Refused(refusal)),
                Fetched::Refused(refusal) => return Err(refusal.error(task)),
            };
            let page = read_page(&body, list.key, keep)
                .ok_or_else(|| task.error(ErrorKind::InvalidContent, format!("the answer has no {:?}", list.key)))?;
            page.manifests.into_iter().for_each(&mut *look);
            let is_nothing_new = walk.is_nothing_new(&page);
            invalid += page.invalid;
            names.extend(page.kept);
            if names.len() > MAX_NAMES {
                let detail = format!("over {MAX_NAMES} {} are wanted: {}", list.key, list.remedy);
                return Err(task.error(ErrorKind::TooLarge, detail));
            }
            let Some(link) = next_link(&headers) else { break };
            url = self.site.next_page(&from, &link).map_err(|trouble| task.failure(trouble).error)?;
            if !walk.enter(&url) {
                if is_nothing_new {
                    break;
                }
                return Err(task.error(ErrorKind::InvalidContent, "the pages of the list go in a circle"));
            }
            if walk.pages.len() > MAX_PAGES {
                return Err(task.error(ErrorKind::TooLarge, format!("the list has over {MAX_PAGES} pages")));
            }
        }
        if invalid > 0 {
            tracing::debug!(invalid, "the list holds names that are not valid");
        }
        Ok(ListResult::Names(names))
    }

    /// One page. A long list does not hold a place among the requests from its first page to its last.
    async fn fetch_page(&self, request: &RegistryRequest<'_>) -> Result<Fetched, RegistryError> {
        let _permit = self.read_permit().await;
        let limit = self.deadlines.page;
        match timeout(limit, self.fetch(request, MAX_PAGE_BYTES)).await {
            Ok(result) => result,
            Err(_) => {
                let detail = format!("a page of the list did not come within {limit:?}");
                Err(request.task.error(ErrorKind::Unavailable, detail))
            }
        }
    }
}

/// Where a list has been: hashes, since a list may have very many pages. Their keys are random, so nobody can make two of them alike.
#[derive(Default)]
struct PageWalk {
    hashes: RandomState,
    /// Of their URLs.
    pages: HashSet<u64>,
    /// Of the names of the last one.
    names: Option<u64>,
}

impl PageWalk {
    /// Goes on to a page; whether it was not there before.
    fn enter(&mut self, url: &Url) -> bool {
        self.pages.insert(self.hashes.hash_one(url.as_str()))
    }

    /// Whether a page has no names, or just those of the one before it: registries that link their last page to itself send such.
    fn is_nothing_new<T>(&mut self, page: &NamePage<'_, T>) -> bool {
        let hash = self.hashes.hash_one(page.text);
        self.names.replace(hash) == Some(hash) || page.is_empty()
    }
}

/// The page size that is asked for: ECR takes no more than 1000 (ggcr#1091).
const PAGE_SIZE: &str = "n=1000";
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Registries may make pages shorter than was asked for: two millions of names in pages of 100 are 20,000.
const MAX_PAGES: usize = 100_000;
/// Names that are kept.
const MAX_NAMES: usize = 100_000;

#[cfg(test)]
mod tests;

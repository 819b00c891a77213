//! Lists the tags of a repository and the repositories of a registry, page by page.

use std::collections::{BTreeSet, HashSet};
use std::str::FromStr;

use futures::FutureExt;
use http::Method;
use http::header::{HeaderMap, LINK};
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::answer::Refusal;
use super::error::Task;
use super::exchange::{Fetched, Inner, Outgoing};
use super::tag_digests::{Listing, TagDigests};
use super::token::Scopes;
use super::{Client, ErrorKind, RegistryError};
use crate::image::{RepositoryName, Tag};

impl Client {
    /// Every repository (`_catalog`, following `Link`), sorted; names that no repository can have are left out.
    ///
    /// # Errors
    /// `Unsupported` when the registry offers no catalog, or not to us; `Unauthorized` when it refuses the credentials as such;
    /// `TooLarge` over 100,000 repositories.
    pub async fn repositories(&self) -> Result<Vec<RepositoryName>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("listing the repositories", "");
        let list = List { first: inner.site.catalog(), scopes: Scopes::catalog(), key: "repositories", task: &task };
        let error = match inner.list(list, &mut |_| ()).await {
            Ok(Listed::Names(names)) => return Ok(names),
            Ok(Listed::Refused(refusal)) => refusal.error(&task),
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
    /// `TooLarge` over 100,000 tags. A 404 that does not come from a registry is an error, not an absent repository.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Option<Vec<Tag>>, RegistryError> {
        Ok(self.listing(repository).await?.map(|listing| listing.tags.into_iter().collect()))
    }

    /// Every tag, and what they point at where the registry tells that with a list; `None` when the repository is not there.
    ///
    /// # Errors
    /// As [`Client::tags`].
    pub async fn tags_and_digests(&self, repository: &RepositoryName) -> Result<Option<Listing>, RegistryError> {
        let Some(mut listing) = self.listing(repository).await? else { return Ok(None) };
        if listing.digests.is_empty() {
            listing.digests = self.0.told_digests(repository, &listing.tags).boxed().await;
        }
        Ok(Some(listing))
    }

    async fn listing(&self, repository: &RepositoryName) -> Result<Option<Listing>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("listing the tags", repository);
        let first = inner.site.of(repository, "tags/list");
        let list = List { first, scopes: Scopes::pull(repository), key: "tags", task: &task };
        let mut digests = TagDigests::default();
        match inner.list(list, &mut |page| digests.take(page)).await? {
            Listed::Names(tags) => {
                let tags = tags.into_iter().collect();
                Ok(Some(Listing { digests: digests.of(&tags), tags }))
            }
            Listed::Refused(refusal) => self.absent(&refusal, &task).await.map(|()| None),
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
            inner.fetch(&Outgoing::new(Method::GET, url, Scopes::pull(repository), &task), MAX_PAGE_BYTES).await?
        };
        match fetched {
            Fetched::Good { headers, body, .. } => {
                let mut tags = BTreeSet::new();
                let is_page = read_page(&body, "tags", &mut tags, &mut |_| {}).is_some();
                Ok(Some(FirstTags { tags, is_all: is_page && next_link(&headers).is_none() }))
            }
            Fetched::Refused(refusal) => self.absent(&refusal, &task).await.map(|()| None),
        }
    }

    /// Makes sure that `refusal` says that a repository is absent: a 404 with the error document of a registry, or
    /// at least from a host where there is a registry.
    async fn absent(&self, refusal: &Refusal, task: &Task) -> Result<(), RegistryError> {
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
struct List<'a> {
    first: Url,
    scopes: Scopes,
    /// The field of a page that holds the names.
    key: &'static str,
    task: &'a Task,
}

type Look<'a> = &'a mut (dyn FnMut(&Map<String, Value>) + Send);

enum Listed<T> {
    Names(Vec<T>),
    Refused(Refusal),
}

impl Inner {
    /// Everything that is listed; `look` sees each page.
    async fn list<T: FromStr + Ord>(&self, list: List<'_>, look: Look<'_>) -> Result<Listed<T>, RegistryError> {
        let _permit = self.read_permit().await;
        let limit = self.deadlines.listing;
        let task = list.task;
        match timeout(limit, self.pages(list, look)).await {
            Ok(result) => result,
            Err(_) => Err(task.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }

    async fn pages<T: FromStr + Ord>(&self, list: List<'_>, look: Look<'_>) -> Result<Listed<T>, RegistryError> {
        let task = list.task;
        let mut url = list.first;
        url.set_query(Some(PAGE_SIZE));
        let mut names = BTreeSet::new();
        let mut skipped = 0_usize;
        let mut seen = HashSet::from([url.clone()]);
        loop {
            let request = Outgoing::new(Method::GET, url, list.scopes.clone(), task);
            let (from, headers, body) = match self.fetch(&request, MAX_PAGE_BYTES).await? {
                Fetched::Good { url, headers, body } => (url, headers, body),
                Fetched::Refused(refusal) if seen.len() == 1 => return Ok(Listed::Refused(refusal)),
                Fetched::Refused(refusal) => return Err(refusal.error(task)),
            };
            let before = names.len();
            skipped += read_page(&body, list.key, &mut names, look)
                .ok_or_else(|| task.error(ErrorKind::InvalidContent, format!("the answer has no {:?}", list.key)))?;
            if names.len() > MAX_NAMES || seen.len() > MAX_PAGES {
                return Err(task.error(ErrorKind::TooLarge, format!("over {MAX_NAMES} names or {MAX_PAGES} pages")));
            }
            let Some(link) = next_link(&headers) else {
                break;
            };
            url = self.site.next_page(&from, &link).map_err(|trouble| task.failure(trouble).error)?;
            if !seen.insert(url.clone()) {
                if names.len() == before {
                    break;
                }
                return Err(task.error(ErrorKind::InvalidContent, "the pages of the list go in a circle"));
            }
        }
        if skipped > 0 {
            tracing::debug!(skipped, "the list holds names that are not valid");
        }
        Ok(Listed::Names(names.into_iter().collect()))
    }
}

/// Adds the names of a page to `names`; how many were not valid, or nothing if it is no page.
pub(super) fn read_page<T: FromStr + Ord>(
    body: &[u8],
    key: &str,
    names: &mut BTreeSet<T>,
    look: Look<'_>,
) -> Option<usize> {
    let mut page: Map<String, Value> = serde_json::from_slice(body).ok()?;
    look(&page);
    let listed = match page.remove(key)? {
        Value::Null => return Some(0),
        Value::Array(listed) => listed,
        _ => return None,
    };
    let mut skipped = 0;
    for name in listed {
        match name.as_str().and_then(|name| name.parse().ok()) {
            Some(name) => drop(names.insert(name)),
            None => skipped += 1,
        }
    }
    Some(skipped)
}

/// The target of the first link with the relation `next` (RFC 8288).
pub(super) fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(next_link_of)
}

pub(super) fn next_link_of(text: &str) -> Option<String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let end = parameters.find('<').unwrap_or(parameters.len());
        let is_next = parameters[..end].split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let relations = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel")
                && relations.split_ascii_whitespace().any(|relation| relation.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.trim().to_owned());
        }
        rest = &parameters[end..];
    }
    None
}

/// The page size that is asked for: ECR takes no more than 1000 (ggcr#1091).
const PAGE_SIZE: &str = "n=1000";
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
const MAX_PAGES: usize = 10_000;
const MAX_NAMES: usize = 100_000;

#[cfg(test)]
mod tests;

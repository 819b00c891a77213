//! Reads a list of names with all its pages.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::str::FromStr;

use http::{HeaderMap, Method};
use serde_json::value::RawValue;
use tokio::time::timeout;
use url::Url;

use crate::image::InvalidNames;
use crate::long_work::long_work_if;
use crate::registry::auth::scopes::Scopes;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::advice::unexpected;
use crate::registry::http::limiter::Load;
use crate::registry::http::response::ErrorResponse;
use crate::registry::lists::link::{next_page, unusable_link, with_link};
use crate::registry::lists::page::{Keep, NameField, NamePage, read_page};
use crate::registry::session::{Fetched, RegistryRequest, Session};

/// A list of names to read.
pub(super) struct ListQuery<'a> {
    /// The URL of the first page, without a query.
    pub(super) first: Url,
    pub(super) scopes: Scopes,
    pub(super) field: NameField,
    pub(super) operation: &'a Operation,
    /// The advice for a list that has too many names.
    pub(super) remedy: &'static str,
}

/// Receives the field `manifest` of each page that has one.
pub(crate) type ManifestObserver<'a> = &'a mut (dyn FnMut(&RawValue) + Send);

/// The names of a list and those that are not valid, or the refusal of its first page.
pub(super) enum ListResult<T> {
    Names(BTreeSet<T>, InvalidNames),
    Refused(ErrorResponse),
}

impl ListQuery<'_> {
    /// Reads all pages, and returns the names that `keep` selects.
    ///
    /// # Errors
    /// `TooLarge` over [`MAX_BYTES`] of names that are kept. Anything that keeps the list from being complete is an
    /// error.
    pub(super) async fn read<T: FromStr + Ord + AsRef<str> + Send>(
        self,
        session: &Session,
        keep: Keep<'_, T>,
        observer: ManifestObserver<'_>,
    ) -> Result<ListResult<T>, RegistryError> {
        let (limit, operation) = (session.http().deadlines().listing, self.operation);
        match timeout(limit, self.read_pages(session, keep, observer)).await {
            Ok(result) => result,
            Err(_) => Err(operation.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }

    async fn read_pages<T: FromStr + Ord + AsRef<str> + Send>(
        self,
        session: &Session,
        keep: Keep<'_, T>,
        observer: ManifestObserver<'_>,
    ) -> Result<ListResult<T>, RegistryError> {
        let Self { first, scopes, field, operation, remedy } = self;
        let mut url = first.clone();
        url.set_query(Some(PAGE_SIZE));
        let (mut names, mut walk, mut invalid) = (KeptNames::default(), PageWalk::default(), InvalidNames::default());
        walk.enter(&url);
        // The headers of the page before.
        let mut linked_by: Option<HeaderMap> = None;
        loop {
            let request = RegistryRequest::new(Method::GET, url, scopes.clone(), operation);
            let (from, headers, body) = match fetch_page(session, &request, operation).await? {
                Fetched::Document { url, headers, body } => (url, headers, body),
                Fetched::Refused(refused) if walk.pages.len() == 1 => return Ok(ListResult::Refused(refused)),
                Fetched::Refused(refused) => return Err(with_link(refused.error(operation), linked_by.as_ref())),
            };
            let read = || {
                let page = read_page(&body, field, keep)?;
                page.manifests.into_iter().for_each(&mut *observer);
                Some(page)
            };
            let page = long_work_if(body.len() > LARGE_PAGE, read).ok_or_else(|| {
                let detail = unexpected(&body, &format!("has no {:?}", field.as_str()));
                operation.error(ErrorKind::InvalidContent, detail)
            })?;
            let is_repeated = walk.is_repeated(&page);
            let is_empty = page.is_empty();
            invalid.extend(page.invalid);
            page.kept.into_iter().for_each(|name| names.keep(name));
            if names.bytes > MAX_BYTES {
                let (kept, mebibytes) = (names.kept.len(), MAX_BYTES >> 20);
                let detail = format!("{kept} {} take over {mebibytes} MiB: {remedy}", field.as_str());
                return Err(operation.error(ErrorKind::TooLarge, detail));
            }
            let next = next_page(session.http().hosts(), &first, &from, &headers);
            let Some(next) = next.map_err(|error| operation.attempt_error(error).error)? else { break };
            url = next;
            if !walk.enter(&url) {
                // Nothing follows an empty page, as registries have it that link every page.
                if is_empty {
                    break;
                }
                let fault = if is_repeated { REPEATED } else { "the pages of the list go in a circle" };
                let detail = format!("{fault}; {}", unusable_link(&headers));
                return Err(operation.error(ErrorKind::InvalidContent, detail));
            }
            linked_by = Some(headers);
            if walk.pages.len() > MAX_PAGES {
                return Err(operation.error(ErrorKind::TooLarge, format!("the list has over {MAX_PAGES} pages")));
            }
        }
        Ok(ListResult::Names(names.kept, invalid))
    }
}

/// The names that are kept so far, and the memory that they take.
struct KeptNames<T> {
    kept: BTreeSet<T>,
    bytes: usize,
}

impl<T> Default for KeptNames<T> {
    fn default() -> Self {
        Self { kept: BTreeSet::new(), bytes: 0 }
    }
}

impl<T: Ord + AsRef<str>> KeptNames<T> {
    fn keep(&mut self, name: T) {
        let bytes = name.as_ref().len() + NAME_BYTES;
        if self.kept.insert(name) {
            self.bytes += bytes;
        }
    }
}

/// Fetches one page. The permit is held for this page only, as a list may be long.
async fn fetch_page(
    session: &Session,
    request: &RegistryRequest<'_>,
    operation: &Operation,
) -> Result<Fetched, RegistryError> {
    let _permit = session.http().read_permit(Load::Small).await;
    let limit = session.http().deadlines().page;
    match timeout(limit, session.fetch(request, MAX_PAGE_BYTES)).await {
        Ok(result) => result,
        Err(_) => {
            let detail = format!("a page of the list did not come within {limit:?}");
            Err(operation.error(ErrorKind::Unavailable, detail))
        }
    }
}

/// The pages that were read: as hashes, since a list may have very many. Their keys are random, so that no registry can
/// produce a collision.
#[derive(Default)]
struct PageWalk {
    hashes: RandomState,
    /// Hashes of the URLs.
    pages: HashSet<u64>,
    /// Hash of the names of the last page.
    names: Option<u64>,
}

impl PageWalk {
    /// Goes on to a page; returns false if it was read before.
    fn enter(&mut self, url: &Url) -> bool {
        self.pages.insert(self.hashes.hash_one(url.as_str()))
    }

    /// Returns true if a page has the names of the page before it.
    fn is_repeated<T>(&mut self, page: &NamePage<'_, T>) -> bool {
        let hash = self.hashes.hash_one(page.text);
        self.names.replace(hash) == Some(hash)
    }
}

/// The bytes of a page from which to compare its names takes long.
const LARGE_PAGE: usize = 16 * 1024;
const REPEATED: &str = "a page repeats the one before it and links to itself";

/// The requested page size: ECR accepts no more than 1000 (ggcr#1091).
pub(super) const PAGE_SIZE: &str = "n=1000";
pub(super) const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Registries may make shorter pages than requested: two million names in pages of 100 are 20,000.
const MAX_PAGES: usize = 100_000;
/// The memory of the names that are kept: half a million of usual length.
pub(super) const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The memory that a name takes beside its text.
const NAME_BYTES: usize = 56;

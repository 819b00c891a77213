//! Lists the referrers of a manifest: by the referrers API, or by its fallback tag if a registry has none.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::header::{ACCEPT, HeaderValue};
use tokio::time::timeout;

use crate::image::{Digest, MAX_MANIFEST_BYTES, Manifest, ManifestKind, RepositoryName, fallback_tag, media_type};
use crate::locked::Locked;
use crate::registry::auth::scopes::Scopes;
use crate::registry::content::manifests::{Manifests, Reference};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::lists::link::{next_page, unusable_link, with_link};
use crate::registry::lists::referrer_page::{Referrer, ReferrerPage, is_filtered, unite};
use crate::registry::session::{Fetched, RegistryRequest, Session};

/// The referrers of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerList {
    /// The manifests that name it as their subject, each once, in the order in which they are listed.
    pub digests: Vec<Digest>,
    /// True if the registry answered by its API; a fallback tag is maintained by the clients that push.
    pub by_api: bool,
}

/// The caller's knowledge of a subject's fallback tag, which saves requests.
#[derive(Clone, Debug)]
pub enum FallbackTag {
    /// It is read if the registry has no referrers API.
    Unknown,
    /// A list of tags lacks it: it is not read.
    Absent,
    /// A list of tags has it: it is read, besides the API.
    Present,
    /// It was read lately: this is its index.
    Read(Manifest),
}

/// The referrer lists of one registry.
pub(crate) struct ReferrerLists {
    session: Arc<Session>,
    manifests: Manifests,
    api: ApiSupport,
}

impl ReferrerLists {
    pub(crate) fn new(session: Arc<Session>, manifests: Manifests) -> Self {
        Self { session, manifests, api: ApiSupport::default() }
    }

    /// Lists the referrers of `subject`. A registry that was found to have no API is not asked for it again for an
    /// hour.
    ///
    /// # Errors
    /// Everything but a clear answer: a failed read never counts as an empty list. `TooLarge` over 1,000 referrers.
    pub(crate) async fn all(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        fallback: FallbackTag,
    ) -> Result<ReferrerList, RegistryError> {
        let (listed, by_api) = self.list(repository, subject, fallback, &[]).await?;
        Ok(ReferrerList { digests: listed.into_iter().map(|referrer| referrer.digest).collect(), by_api })
    }

    /// Like [`ReferrerLists::all`], without those of other artifact types than `types` if the registry or the list
    /// states their type; if neither does, the type is `None`, and only the manifest may state it.
    ///
    /// # Errors
    /// As [`ReferrerLists::all`]; referrers that are left out do not count.
    pub(crate) async fn of_types(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        fallback: FallbackTag,
        types: &[String],
    ) -> Result<Vec<Referrer>, RegistryError> {
        Ok(self.list(repository, subject, fallback, types).await?.0)
    }

    /// Reads the index under the fallback tag of `subject`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Manifests::read`].
    pub(crate) async fn fallback_index(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        match self.manifests.read(repository, Reference::Tag(&fallback_tag(subject))).await {
            // GitLab answers with the subject itself if there is no such tag (oras-go#1396).
            Ok(index) => Ok(Some(index).filter(|index| index.digest != *subject)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the referrers, and whether the API lists them. Referrers that were pushed before a registry had the API
    /// may be under the fallback tag only, so both count if there is such a tag.
    async fn list(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        fallback: FallbackTag,
        types: &[String],
    ) -> Result<(Vec<Referrer>, bool), RegistryError> {
        let by_api = self.by_api_if_any(repository, subject, types).await?;
        let has_api = by_api.is_some();
        let mut listed = by_api.unwrap_or_default();
        let index = match fallback {
            FallbackTag::Unknown if has_api => None,
            FallbackTag::Unknown | FallbackTag::Present => self.fallback_index(repository, subject).await?,
            FallbackTag::Absent => None,
            FallbackTag::Read(index) => Some(index),
        };
        if let Some(index) = index {
            unite(&mut listed, self.listed_in(repository, subject, index, types)?);
        }
        Ok((listed, has_api))
    }

    fn listed_in(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        index: Manifest,
        types: &[String],
    ) -> Result<Vec<Referrer>, RegistryError> {
        if !matches!(index.kind, ManifestKind::Index { .. }) {
            return Ok(Vec::new());
        }
        let page = ReferrerPage::parse(&index.bytes, &self.operation(repository, subject))?;
        let mut seen = HashSet::new();
        Ok(page.wanted(types, false).filter(|referrer| seen.insert(referrer.digest.clone())).collect())
    }

    /// Lists by the API; `None` if the registry has none. While that is unknown, only one probe runs at a time; other
    /// callers wait for its result.
    async fn by_api_if_any(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        types: &[String],
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let arrived = Instant::now();
        let mut probe = match self.api.support() {
            Support::Unknown => Some(self.api.probe.lock().await),
            Support::Present | Support::Absent => None,
        };
        let support = self.api.support();
        // If the probe failed, the callers that waited for it do not wait for one another.
        let has_failed = |probe: &Option<Instant>| probe.is_some_and(|failed_at| failed_at >= arrived);
        if support != Support::Unknown || probe.as_deref().is_some_and(has_failed) {
            probe = None;
        }
        if support == Support::Absent {
            return Ok(None);
        }
        let found = self.by_api(repository, subject, types).await;
        match (&found, &mut probe) {
            (Ok(Some(_)), _) => self.api.learn(Support::Present),
            (Err(_), Some(failed_at)) => **failed_at = Some(Instant::now()),
            _ => {}
        }
        found
    }

    async fn by_api(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        types: &[String],
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let operation = self.operation(repository, subject);
        let limit = self.session.http().deadlines().referrers;
        match timeout(limit, self.read_pages(repository, subject, types, &operation)).await {
            Ok(result) => result,
            Err(_) => Err(operation.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }

    async fn read_pages(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        types: &[String],
        operation: &Operation,
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let hosts = self.session.http().hosts();
        let list = hosts.of(repository, &format!("referrers/{subject}"));
        let mut url = list.clone();
        if let [only] = types {
            url.query_pairs_mut().append_pair("artifactType", only);
        }
        let (mut pages, mut found) = (HashSet::from([url.clone()]), Vec::new());
        let (mut seen, mut linked_by) = (HashSet::new(), None);
        loop {
            let request = RegistryRequest::new(Method::GET, url, Scopes::pull(repository), operation)
                .header(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
            let (from, headers, body) = match self.session.fetch_small(&request, MAX_MANIFEST_BYTES).await? {
                Fetched::Document { url, headers, body } => (url, headers, body),
                Fetched::Refused(refused) if pages.len() == 1 && matches!(refused.status.as_u16(), 404 | 405 | 501) => {
                    // A repository that is absent says nothing about the API.
                    if !refused.has_code(&["NAME_UNKNOWN"]) {
                        self.api.learn(Support::Absent);
                    }
                    return Ok(None);
                }
                Fetched::Refused(refused) => return Err(with_link(refused.error(operation), linked_by.as_ref())),
            };
            let is_filtered = types.len() == 1 && is_filtered(&headers);
            let wanted = ReferrerPage::parse(&body, operation)?.wanted(types, is_filtered);
            found.extend(wanted.filter(|referrer| seen.insert(referrer.digest.clone())));
            if found.len() > MAX_REFERRERS || pages.len() > MAX_PAGES {
                let detail = format!("over {MAX_REFERRERS} referrers or {MAX_PAGES} pages");
                return Err(operation.error(ErrorKind::TooLarge, detail));
            }
            let next = next_page(hosts, &list, &from, &headers);
            let Some(next) = next.map_err(|error| operation.attempt_error(error).error)? else {
                return Ok(Some(found));
            };
            url = next;
            if !pages.insert(url.clone()) {
                let detail = format!("the pages of the list go in a circle; {}", unusable_link(&headers));
                return Err(operation.error(ErrorKind::InvalidContent, detail));
            }
            linked_by = Some(headers);
        }
    }

    fn operation(&self, repository: &RepositoryName, subject: &Digest) -> Operation {
        self.session.http().operation("listing the referrers", format_args!("{repository}@{subject}"))
    }
}

/// The support of one registry for the referrers API.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Support {
    Unknown,
    Absent,
    Present,
}

/// Remembers the support for the referrers API, and lets one probe for it run at a time.
#[derive(Default)]
struct ApiSupport {
    learned: Locked<Option<(Support, Instant)>>,
    /// Held by the probe; the time at which the last one failed.
    probe: tokio::sync::Mutex<Option<Instant>>,
}

impl ApiSupport {
    fn support(&self) -> Support {
        let learned = *self.learned.lock();
        learned.filter(|(_, at)| at.elapsed() < SUPPORT_TTL).map_or(Support::Unknown, |(support, _)| support)
    }

    fn learn(&self, support: Support) {
        *self.learned.lock() = Some((support, Instant::now()));
    }
}

/// Registries gain the API by an upgrade: they are probed again then.
const SUPPORT_TTL: Duration = Duration::from_secs(3600);
const MAX_REFERRERS: usize = 1_000;
const MAX_PAGES: usize = 100;

#[cfg(test)]
mod tests;

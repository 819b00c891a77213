//! Asks what refers to a manifest: by the referrers API, or by its fallback tag where a registry has none.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{ACCEPT, HeaderValue};
use serde::Deserialize;
use tokio::time::timeout;

use super::error::Task;
use super::exchange::{Fetched, Outgoing};
use super::page::next_link;
use super::token::Scopes;
use super::{Client, ErrorKind, Reference, RegistryError};
use crate::image::{Digest, MAX_MANIFEST_BYTES, Manifest, ManifestKind, RepositoryName, fallback_tag, media_type};

/// What refers to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrers {
    /// The manifests that name it as their subject, each once, in the order in which they are listed.
    pub digests: Vec<Digest>,
    /// Whether the registry answered by its API; a fallback tag is kept by those who push.
    pub by_api: bool,
}

impl Client {
    /// What refers to the manifest `subject`. `has_fallback` says whether the repository has the fallback tag of the subject,
    /// where that is known from a listing: then it is not asked for in vain.
    ///
    /// A registry that was found to have no API is not asked for it again for an hour.
    ///
    /// # Errors
    /// Everything but a clear answer: that nothing could be read never counts as nothing. `TooLarge` over 1,000 referrers.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        has_fallback: Option<bool>,
    ) -> Result<Referrers, RegistryError> {
        if let Some(digests) = self.referrers_by_api_if_any(repository, subject).await? {
            return Ok(Referrers { digests, by_api: true });
        }
        let none = Referrers { digests: Vec::new(), by_api: false };
        if has_fallback == Some(false) {
            return Ok(none);
        }
        let Some(index) = self.fallback_index(repository, subject).await? else { return Ok(none) };
        match index.kind {
            ManifestKind::Index { children } => {
                let digests = children.into_iter().map(|child| child.digest).collect();
                Ok(Referrers { digests, by_api: false })
            }
            ManifestKind::Image { .. } => Ok(none),
        }
    }

    /// What is under the fallback tag of `subject`; `None` if nothing is.
    ///
    /// # Errors
    /// As [`Client::manifest`].
    pub async fn fallback_index(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        match self.manifest(repository, Reference::Tag(&fallback_tag(subject))).await {
            // GitLab answers with the subject itself where there is no such tag (oras-go#1396).
            Ok(index) => Ok(Some(index).filter(|index| index.digest != *subject)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As long as nobody knows whether there is an API one asks, and the others wait for what he learns.
    async fn referrers_by_api_if_any(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Vec<Digest>>, RegistryError> {
        let api = &self.0.referrers_api;
        let _first = match api.exists() {
            Some(_) => None,
            None => Some(api.asking.lock().await),
        };
        if api.exists() == Some(false) {
            return Ok(None);
        }
        let found = self.referrers_by_api(repository, subject).await?;
        if found.is_some() {
            api.note(true);
        }
        Ok(found)
    }

    /// `None` where the registry has no such API.
    async fn referrers_by_api(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<Vec<Digest>>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("listing the referrers", format_args!("{repository}@{subject}"));
        let limit = inner.deadlines.referrers;
        match timeout(limit, self.referrer_pages(repository, subject, &task)).await {
            Ok(result) => result,
            Err(_) => Err(task.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }

    async fn referrer_pages(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        task: &Task,
    ) -> Result<Option<Vec<Digest>>, RegistryError> {
        let inner = &self.0;
        let mut url = inner.site.of(repository, &format!("referrers/{subject}"));
        let (mut pages, mut found) = (HashSet::from([url.clone()]), Vec::new());
        let mut seen = HashSet::new();
        loop {
            let mut request = Outgoing::new(Method::GET, url, Scopes::pull(repository), task);
            request.headers.insert(ACCEPT, HeaderValue::from_static(media_type::OCI_INDEX));
            let fetched = {
                let _permit = inner.read_permit().await;
                inner.fetch(&request, MAX_MANIFEST_BYTES).await?
            };
            let (from, headers, body) = match fetched {
                Fetched::Good { url, headers, body } => (url, headers, body),
                Fetched::Refused(refusal) if pages.len() == 1 && matches!(refusal.status.as_u16(), 404 | 405 | 501) => {
                    // A repository that is absent says nothing about the API.
                    if !refusal.has_code(&["NAME_UNKNOWN"]) {
                        inner.referrers_api.note(false);
                    }
                    return Ok(None);
                }
                Fetched::Refused(refusal) => return Err(refusal.error(task)),
            };
            let page: Page = serde_json::from_slice(&body).map_err(|_| {
                task.error(ErrorKind::InvalidContent, "the answer is no image index with the field \"manifests\"")
            })?;
            found.extend(page.manifests.into_iter().map(|d| d.digest).filter(|digest| seen.insert(digest.clone())));
            if found.len() > MAX_REFERRERS || pages.len() > MAX_PAGES {
                let detail = format!("over {MAX_REFERRERS} referrers or {MAX_PAGES} pages");
                return Err(task.error(ErrorKind::TooLarge, detail));
            }
            let Some(link) = next_link(&headers) else { return Ok(Some(found)) };
            url = inner.site.next_page(&from, &link).map_err(|trouble| task.failure(trouble).error)?;
            if !pages.insert(url.clone()) {
                return Err(task.error(ErrorKind::InvalidContent, "the pages of the list go in a circle"));
            }
        }
    }
}

/// Whether a registry has the referrers API, and when that was learned.
#[derive(Default)]
pub(super) struct ReferrersApi {
    known: Mutex<Option<(bool, Instant)>>,
    asking: tokio::sync::Mutex<()>,
}

impl ReferrersApi {
    fn exists(&self) -> Option<bool> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(_, at)| at.elapsed() < KNOWN_FOR).map(|(exists, _)| exists)
    }

    fn note(&self, exists: bool) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((exists, Instant::now()));
    }
}

#[derive(Deserialize)]
struct Page {
    manifests: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    digest: Digest,
}

/// Registries gain the API by an upgrade: it is looked for again then.
const KNOWN_FOR: Duration = Duration::from_secs(3600);
const MAX_REFERRERS: usize = 1_000;
const MAX_PAGES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{Reply, Server};

    fn repository() -> RepositoryName {
        "team/app".parse().unwrap()
    }

    fn index(digests: &[&Digest]) -> String {
        let entries: Vec<_> = digests
            .iter()
            .map(|digest| format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1}}"#, media_type::OCI_MANIFEST))
            .collect();
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, media_type::OCI_INDEX, entries.join(","))
    }

    fn served(document: String) -> Reply {
        Reply::new(200, document).header("Content-Type", media_type::OCI_INDEX)
    }

    #[tokio::test]
    async fn the_api_is_read_page_by_page_and_each_referrer_counts_once() {
        let (subject, a, b) = (Digest::sha256(b"s"), Digest::sha256(b"a"), Digest::sha256(b"b"));
        let (first, second) = (index(&[&a, &a]), index(&[&b, &a]));
        let server = Server::start(move |seen, _| match seen.target.ends_with("page=2") {
            false => served(first.clone()).header("Link", "<?page=2>; rel=\"next\""),
            true => served(second.clone()),
        })
        .await;
        let found = server.client().referrers(&repository(), &subject, None).await.unwrap();
        assert_eq!(found, Referrers { digests: vec![a, b], by_api: true });
        assert_eq!(server.lines()[0], format!("GET /v2/team/app/referrers/{subject}"));
    }

    #[tokio::test]
    async fn without_an_api_the_fallback_tag_is_read_and_the_api_is_not_asked_again() {
        let (subject, a) = (Digest::sha256(b"s"), Digest::sha256(b"a"));
        let (fallback, document) = (fallback_tag(&subject), index(&[&a]));
        let server = Server::start(move |seen, _| match seen.target.ends_with(fallback.as_str()) {
            true => served(document.clone()),
            false => Reply::new(404, "404 page not found"),
        })
        .await;
        let client = server.client();
        for _ in 0..2 {
            let found = client.referrers(&repository(), &subject, None).await.unwrap();
            assert_eq!(found, Referrers { digests: vec![a.clone()], by_api: false });
        }
        let none = client.referrers(&repository(), &a, Some(false)).await.unwrap();
        assert!(none.digests.is_empty(), "a listing knows that there is no fallback tag");
        assert_eq!((server.count("GET /v2/team/app/referrers/"), server.count("GET /v2/team/app/manifests/")), (1, 2));
    }

    #[tokio::test]
    async fn what_is_no_index_of_referrers_under_the_fallback_tag_names_none() {
        let image = r#"{"schemaVersion":2,"config":null,"layers":[]}"#;
        let subject = Digest::sha256(image.as_bytes());
        let server = Server::start(move |seen, _| match seen.target.contains("/manifests/") {
            true => Reply::new(200, image).header("Content-Type", media_type::OCI_MANIFEST),
            false => Reply::new(404, ""),
        })
        .await;
        let found = server.client().referrers(&repository(), &subject, None).await.unwrap();
        assert!(found.digests.is_empty(), "GitLab answers with the subject itself");
    }

    #[tokio::test]
    async fn a_read_that_fails_is_never_taken_for_none() {
        let subject = Digest::sha256(b"s");
        let circle = served(index(&[])).header("Link", format!("</v2/team/app/referrers/{subject}>; rel=next"));
        let table = [
            (Reply::new(403, ""), ErrorKind::Denied),
            (Reply::new(400, ""), ErrorKind::Rejected),
            (Reply::new(503, ""), ErrorKind::Unavailable),
            (Reply::new(200, "<html>").header("Content-Type", "text/html"), ErrorKind::InvalidContent),
            (Reply::new(200, "{}"), ErrorKind::InvalidContent),
            (Reply::new(200, r#"{"manifests":[{"digest":"sha256:../x"}]}"#), ErrorKind::InvalidContent),
            (circle, ErrorKind::InvalidContent),
        ];
        for (reply, expected) in table {
            let shown = format!("{reply:?}");
            let server = Server::start(move |_, _| reply.clone()).await;
            let error = server.client().referrers(&repository(), &subject, None).await.unwrap_err();
            assert_eq!(error.kind, expected, "{shown}");
        }
        let broken_tag = Server::start(|seen, _| match seen.target.contains("/referrers/") {
            true => Reply::new(404, ""),
            false => Reply::new(500, ""),
        })
        .await;
        let error = broken_tag.client().referrers(&repository(), &subject, None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }
}

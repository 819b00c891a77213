//! Asks what refers to a manifest: by the referrers API, or by its fallback tag where a registry has none.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::timeout;

use crate::image::{Digest, MAX_MANIFEST_BYTES, Manifest, ManifestKind, RepositoryName, fallback_tag, media_type};
use crate::registry::auth::token::Scopes;
use crate::registry::client::{Client, Reference};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::lists::page::next_link;
use crate::registry::session::{Fetched, RegistryRequest};

/// A manifest that names another one as its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: Digest,
    /// What the list says of its artifact type, if anything.
    pub artifact_type: Option<String>,
}

/// What refers to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrerList {
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
    ) -> Result<ReferrerList, RegistryError> {
        let (listed, by_api) = self.listed_referrers(repository, subject, has_fallback, &[]).await?;
        Ok(ReferrerList { digests: listed.into_iter().map(|referrer| referrer.digest).collect(), by_api })
    }

    /// As [`Client::referrers`], those of other artifact types than `types` left out where the registry or the list tells their
    /// type; where neither does it is `None`, and the manifest may tell it. `read` is what was read under the fallback tag lately.
    ///
    /// # Errors
    /// As [`Client::referrers`]; what is left out does not count.
    pub async fn referrers_of_types(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        (has_fallback, read): (bool, Option<Manifest>),
        types: &[String],
    ) -> Result<Vec<Referrer>, RegistryError> {
        let is_to_be_read = has_fallback && read.is_none();
        let (mut listed, _) = self.listed_referrers(repository, subject, Some(is_to_be_read), types).await?;
        if let Some(index) = read.filter(|_| has_fallback) {
            unite(&mut listed, self.listed_in(repository, subject, index, types)?);
        }
        Ok(listed)
    }

    /// The referrers, and whether the API lists them. What was pushed before a registry had the API may be under the fallback tag
    /// only, so both count where there is such a tag.
    async fn listed_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        has_fallback: Option<bool>,
        types: &[String],
    ) -> Result<(Vec<Referrer>, bool), RegistryError> {
        let listed = self.referrers_by_api_if_any(repository, subject, types).await?;
        let by_api = listed.is_some();
        let mut listed = listed.unwrap_or_default();
        if has_fallback.unwrap_or(!by_api)
            && let Some(index) = self.fallback_index(repository, subject).await?
        {
            unite(&mut listed, self.listed_in(repository, subject, index, types)?);
        }
        Ok((listed, by_api))
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
        let task = self.0.task("listing the referrers", format_args!("{repository}@{subject}"));
        let page = read_page(&index.bytes, &task)?;
        let mut seen = HashSet::new();
        Ok(page.wanted(types, false).filter(|referrer| seen.insert(referrer.digest.clone())).collect())
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
        types: &[String],
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let (api, arrived) = (&self.0.referrers_api, Instant::now());
        let mut first = match api.exists() {
            Some(_) => None,
            None => Some(api.asking.lock().await),
        };
        // Where he who asked failed, those who waited for him do not wait for one another.
        if api.exists().is_some() || first.as_ref().is_some_and(|failed| failed.is_some_and(|at| at >= arrived)) {
            first = None;
        }
        if api.exists() == Some(false) {
            return Ok(None);
        }
        let found = self.referrers_by_api(repository, subject, types).await;
        match (&found, &mut first) {
            (Ok(Some(_)), _) => api.note(true),
            (Err(_), Some(failed)) => **failed = Some(Instant::now()),
            _ => {}
        }
        found
    }

    /// `None` where the registry has no such API.
    async fn referrers_by_api(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        types: &[String],
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let inner = &self.0;
        let task = inner.task("listing the referrers", format_args!("{repository}@{subject}"));
        let limit = inner.deadlines.referrers;
        match timeout(limit, self.referrer_pages(repository, subject, types, &task)).await {
            Ok(result) => result,
            Err(_) => Err(task.error(ErrorKind::Unavailable, format!("the list did not end within {limit:?}"))),
        }
    }

    async fn referrer_pages(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        types: &[String],
        task: &Operation,
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let inner = &self.0;
        let mut url = inner.site.of(repository, &format!("referrers/{subject}"));
        if let [only] = types {
            url.query_pairs_mut().append_pair("artifactType", only);
        }
        let (mut pages, mut found) = (HashSet::from([url.clone()]), Vec::new());
        let mut seen = HashSet::new();
        loop {
            let mut request = RegistryRequest::new(Method::GET, url, Scopes::pull(repository), task);
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
            let is_filtered = types.len() == 1 && is_filtered(&headers);
            let wanted = read_page(&body, task)?.wanted(types, is_filtered);
            found.extend(wanted.filter(|referrer| seen.insert(referrer.digest.clone())));
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
pub(crate) struct ApiSupport {
    known: Mutex<Option<(bool, Instant)>>,
    /// When the last one who asked failed.
    asking: tokio::sync::Mutex<Option<Instant>>,
}

impl ApiSupport {
    fn exists(&self) -> Option<bool> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.filter(|(_, at)| at.elapsed() < SUPPORT_TTL).map(|(exists, _)| exists)
    }

    fn note(&self, exists: bool) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((exists, Instant::now()));
    }
}

#[derive(Deserialize)]
struct ReferrerPage {
    manifests: Vec<ReferrerEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerEntry {
    digest: Digest,
    artifact_type: Option<String>,
}

impl ReferrerPage {
    /// Those that may be of one of `types`; all of them if there are none. A registry that has filtered is believed where the list
    /// itself does not say more.
    fn wanted(self, types: &[String], is_filtered: bool) -> impl Iterator<Item = Referrer> {
        self.manifests.into_iter().filter_map(move |ReferrerEntry { digest, artifact_type }| {
            let artifact_type = artifact_type.filter(|text| !text.is_empty());
            let is_wanted = types.is_empty() || artifact_type.as_ref().is_none_or(|found| types.contains(found));
            let artifact_type = artifact_type.or_else(|| types.first().filter(|_| is_filtered).cloned());
            is_wanted.then_some(Referrer { digest, artifact_type })
        })
    }
}

fn read_page(body: &[u8], task: &Operation) -> Result<ReferrerPage, RegistryError> {
    serde_json::from_slice(body)
        .map_err(|_| task.error(ErrorKind::InvalidContent, "the answer is no image index with the field \"manifests\""))
}

/// Adds to `listed` what is not among it.
fn unite(listed: &mut Vec<Referrer>, more: Vec<Referrer>) {
    let seen: HashSet<Digest> = listed.iter().map(|referrer| referrer.digest.clone()).collect();
    listed.extend(more.into_iter().filter(|referrer| !seen.contains(&referrer.digest)));
}

/// Whether the registry says that it has filtered by the artifact type that was asked for.
fn is_filtered(headers: &HeaderMap) -> bool {
    let applied = headers.get_all("oci-filters-applied").iter().filter_map(|value| value.to_str().ok());
    applied.flat_map(|value| value.split(',')).any(|filter| filter.trim() == "artifactType")
}

/// Registries gain the API by an upgrade: it is looked for again then.
const SUPPORT_TTL: Duration = Duration::from_secs(3600);
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
        assert_eq!(found, ReferrerList { digests: vec![a, b], by_api: true });
        assert_eq!(server.lines()[0], format!("GET /v2/team/app/referrers/{subject}"));
    }

    #[tokio::test]
    async fn a_filter_counts_if_the_registry_says_so_or_no_entry_has_a_type() {
        let subject = Digest::sha256(b"s");
        let entry = |content: &[u8], more: &str| {
            let digest = Digest::sha256(content);
            format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1{more}}}"#, media_type::OCI_MANIFEST)
        };
        let entries = [
            entry(b"a", r#","artifactType":"a/x+json""#),
            entry(b"b", r#","artifactType":"b/x""#),
            entry(b"c", ""),
            entry(b"d", r#","artifactType":"""#),
        ];
        let document = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let told = async |applied: Option<&'static str>, types: &[&str]| {
            let document = document.clone();
            let server = Server::start(move |_, _| match applied {
                Some(applied) => served(document.clone()).header("OCI-Filters-Applied", applied),
                None => served(document.clone()),
            })
            .await;
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            let found =
                server.client().referrers_of_types(&repository(), &subject, (true, None), &types).await.unwrap();
            let name =
                |digest: &Digest| ["a", "b", "c", "d"].into_iter().find(|n| Digest::sha256(n.as_bytes()) == *digest);
            let found: Vec<_> = found.into_iter().map(|one| (name(&one.digest).unwrap(), one.artifact_type)).collect();
            (found, server.lines()[0].clone())
        };
        let (a, b) = (Some("a/x+json".to_owned()), Some("b/x".to_owned()));
        let (found, line) = told(Some("name, artifactType"), &["a/x+json"]).await;
        assert_eq!(found, [("a", a.clone()), ("c", a.clone()), ("d", a.clone())]);
        assert!(line.ends_with("?artifactType=a%2Fx%2Bjson"), "{line}");
        for applied in [None, Some("artifact"), Some("")] {
            assert_eq!(told(applied, &["a/x+json"]).await.0, [("a", a.clone()), ("c", None), ("d", None)]);
        }
        let (found, line) = told(Some("artifactType"), &["b/x", "a/x+json"]).await;
        assert_eq!(found, [("a", a), ("b", b), ("c", None), ("d", None)], "no filter was asked for");
        assert!(!line.contains('?'), "{line}");
        assert_eq!(told(None, &[]).await.0.len(), 4);
    }

    #[tokio::test]
    async fn what_is_under_the_fallback_tag_since_before_there_was_an_api_counts_too() {
        let (subject, a, b) = (Digest::sha256(b"s"), Digest::sha256(b"a"), Digest::sha256(b"b"));
        let (by_api, by_tag) = (index(&[&a]), index(&[&b, &a]));
        let server = Server::start(move |seen, _| match seen.target.contains("/referrers/") {
            true => served(by_api.clone()),
            false => served(by_tag.clone()),
        })
        .await;
        let client = server.client();
        let found = async |has_fallback, read| {
            let found = client.referrers_of_types(&repository(), &subject, (has_fallback, read), &[]).await.unwrap();
            found.into_iter().map(|referrer| referrer.digest).collect::<Vec<_>>()
        };
        assert_eq!(found(true, None).await, [a.clone(), b.clone()]);
        let read = client.fallback_index(&repository(), &subject).await.unwrap();
        let before = server.lines().len();
        assert_eq!(found(true, read).await, [a.clone(), b]);
        assert_eq!(found(false, None).await, [a]);
        assert_eq!(
            server.lines().len(),
            before + 2,
            "what was read is not read again, and what is not there not asked for"
        );
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
            assert_eq!(found, ReferrerList { digests: vec![a.clone()], by_api: false });
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

//! Reads and writes manifests, and resolves tags.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::image::{Digest, MANIFEST_ACCEPT, MAX_MANIFEST_BYTES, Manifest, ManifestError, RepositoryName, Tag};
use crate::registry::auth::scopes::Scopes;
use crate::registry::content::head_verdict::{Absence, HeadVerdict, HeadVerdicts};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::advice::unexpected;
use crate::registry::http::limiter::Load;
use crate::registry::http::said::web_page;
use crate::registry::session::{Fetched, RegistryRequest, Session};

/// A tag or a digest.
#[derive(Clone, Copy, Debug)]
pub enum Reference<'a> {
    /// The manifest that the tag points to at the moment.
    Tag(&'a Tag),
    /// The manifest with this digest.
    Digest(&'a Digest),
}

impl Reference<'_> {
    /// Returns the text behind `manifests/` in a path.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Tag(tag) => tag.as_str(),
            Self::Digest(digest) => digest.as_str(),
        }
    }

    /// Returns the text behind the name of a repository in a message.
    pub(crate) fn suffix(&self) -> String {
        match self {
            Self::Tag(tag) => format!(":{tag}"),
            Self::Digest(digest) => format!("@{digest}"),
        }
    }
}

/// The result of a HEAD on a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest as the registry states it, or computed if it states none.
    pub digest: Digest,
    /// The size in bytes, if stated.
    pub size: Option<u64>,
    /// True if the registry says that it is a manifest of Docker schema 1, which is not replicated.
    pub is_schema_1: bool,
}

/// The answer of a registry that is asked to delete something.
#[derive(Clone, Debug)]
pub enum DeletionAnswer {
    /// It has deleted it.
    Done,
    /// It has no such manifest, or none that can be deleted so.
    Absent,
    /// It does not delete in this way.
    Unsupported(RegistryError),
}

/// The result of a lookup.
pub(crate) enum Lookup {
    Found(ManifestHead),
    Absent,
    /// Neither HEAD nor GET is permitted. Some registries answer so for a tag that does not exist.
    Denied(RegistryError),
}

/// The manifests of one registry.
#[derive(Clone)]
pub(crate) struct Manifests {
    session: Arc<Session>,
    verdicts: Arc<HeadVerdicts>,
}

impl Manifests {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, verdicts: Arc::default() }
    }

    /// Looks a manifest up. If the registry refuses HEAD or states no digest, or was wrong about an absent manifest
    /// before, the manifest is read.
    ///
    /// # Errors
    /// `InvalidContent` if the registry states another digest than the requested one.
    pub(crate) async fn head(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        absence: Absence,
    ) -> Result<Lookup, RegistryError> {
        if self.verdicts.get(Instant::now()) == HeadVerdict::Wrong {
            return self.head_by_reading(repository, reference).await;
        }
        match self.head_alone(repository, reference).await? {
            Lookup::Absent => self.absent(repository, reference, absence).await,
            found => Ok(found),
        }
    }

    /// Compares a 404 to HEAD with the answer to GET, if `absence` wants that.
    async fn absent(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        absence: Absence,
    ) -> Result<Lookup, RegistryError> {
        let believes = || absence == Absence::Believed && self.verdicts.get(Instant::now()) == HeadVerdict::Right;
        if believes() {
            return Ok(Lookup::Absent);
        }
        let _turn = if absence == Absence::Believed { Some(self.verdicts.turn().await) } else { None };
        if believes() {
            return Ok(Lookup::Absent);
        }
        let read = self.head_by_reading(repository, reference).await?;
        match read {
            Lookup::Absent => self.verdicts.note(HeadVerdict::Right, Instant::now()),
            Lookup::Found(_) => {
                tracing::debug!(registry = self.session.http().hosts().host(), "HEAD does not find what GET finds");
                self.verdicts.note(HeadVerdict::Wrong, Instant::now());
            }
            Lookup::Denied(_) => {}
        }
        Ok(read)
    }

    async fn head_alone(&self, repository: &RepositoryName, reference: Reference<'_>) -> Result<Lookup, RegistryError> {
        let http = self.session.http();
        let operation = self.operation("asking for the manifest", repository, reference);
        let request = self.request(Method::HEAD, repository, reference, &operation);
        let response = {
            let _permit = http.read_permit(Load::Small).await;
            self.session.call(&request).await
        };
        let response = match response {
            Ok(response) => response,
            Err(error) if error.kind == ErrorKind::Unavailable && !self.verdicts.is_away(Instant::now()) => {
                return self.head_failed(repository, reference, &request).await;
            }
            Err(error) => return Err(error),
        };
        let stated = stated_digest(response.headers());
        match (response.status().as_u16(), stated) {
            (404, _) => Ok(Lookup::Absent),
            (200..=299, Some(stated)) => {
                let digest = match reference {
                    Reference::Digest(asked) if asked.algorithm() != stated.algorithm() => asked.clone(),
                    Reference::Digest(asked) if *asked != stated => {
                        return Err(operation.error(ErrorKind::InvalidContent, format!("the registry states {stated}")));
                    }
                    _ => stated,
                };
                let size = response.content_length().filter(|size| *size > 0);
                let content_type = response.header(CONTENT_TYPE);
                let is_schema_1 = content_type.is_some_and(|text| text.contains(SCHEMA_1));
                Ok(Lookup::Found(ManifestHead { digest, size, is_schema_1 }))
            }
            // A refusal of HEAD has no words, and may not be one of GET.
            (200..=299 | 400..=499 | 501, _) => self.head_by_reading(repository, reference).await,
            _ if response.elsewhere.is_some() => self.head_by_reading(repository, reference).await,
            _ => Err(response.into_error_response(http.deadlines()).await.error(&operation)),
        }
    }

    /// Reads the manifest after HEAD failed as if the registry were away. If HEAD fails once more beside a successful
    /// GET, manifests of this registry are read from then on.
    async fn head_failed(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        request: &RegistryRequest<'_>,
    ) -> Result<Lookup, RegistryError> {
        let read = self.head_by_reading(repository, reference).await;
        let is_away = read.as_ref().is_err_and(|error| error.kind == ErrorKind::Unavailable);
        self.verdicts.note_away(is_away, Instant::now());
        let read = read?;
        if Box::pin(self.session.send(request)).await.is_err_and(|failed| failed.error.kind == ErrorKind::Unavailable) {
            tracing::debug!(registry = self.session.http().hosts().host(), "HEAD fails where GET does not");
            self.verdicts.note(HeadVerdict::Wrong, Instant::now());
        }
        Ok(read)
    }

    /// Reads a manifest, and verifies it against the requested digest, or the one that the registry states with a tag.
    ///
    /// Content that was damaged on its way is read again, twice at most, over a new connection.
    ///
    /// # Errors
    /// `NotFound`; `InvalidContent` for another digest or a document that is no manifest; `TooLarge` over 8 MiB.
    pub(crate) async fn read(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Manifest, RegistryError> {
        let operation = self.operation("reading the manifest", repository, reference);
        let request = self.request(Method::GET, repository, reference, &operation);
        let mut rereads = 0;
        loop {
            let (headers, body) = match self.session.fetch_small(&request, MAX_MANIFEST_BYTES).await? {
                Fetched::Document { headers, body, .. } => (headers, body),
                Fetched::Refused(refused) => return Err(refused.error(&operation)),
            };
            match verified(reference, &headers, body, &operation) {
                Ok(manifest) => return Ok(manifest),
                Err(Unverified::Damaged(error)) if rereads < MAX_REREADS => {
                    tracing::debug!(error = %error.message, "reading again");
                    self.session.http().drop_connections();
                    rereads += 1;
                }
                Err(Unverified::Damaged(error) | Unverified::Wrong(error)) => return Err(error),
            }
        }
    }

    /// Writes a manifest, byte for byte.
    ///
    /// # Errors
    /// `ContentMissing` if the registry misses content that the manifest names; `ManifestInvalid` if it does not accept
    /// the manifest; `InvalidContent` if it states another digest than the manifest has.
    pub(crate) async fn write(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        let http = self.session.http();
        let operation = self.operation("writing the manifest", repository, reference);
        let content_type = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| operation.error(ErrorKind::InvalidContent, "its media type is not valid"))?;
        let url = http.hosts().of(repository, &format!("manifests/{}", reference.as_str()));
        let request = RegistryRequest::new(Method::PUT, url, Scopes::push(repository), &operation)
            .header(CONTENT_TYPE, content_type)
            .body(manifest.bytes.clone());
        let _permit = http.write_permit(Load::Small).await;
        let response = self.session.call(&request).await?;
        if !response.status().is_success() {
            let is_final = response.status().is_client_error();
            let refused = response.into_error_response(http.deadlines()).await;
            return Err(if is_final && refused.has_code(&MISSING_CODES) {
                refused.error_as(ErrorKind::ContentMissing, &operation)
            } else if is_final && refused.has_code(&["MANIFEST_INVALID"]) {
                refused.error_as(ErrorKind::ManifestInvalid, &operation)
            } else {
                refused.error(&operation)
            });
        }
        match stated_digest(response.headers()) {
            Some(stated) if !manifest.has_digest(&stated) => {
                let detail = format!("the registry took {} for {stated}", manifest.digest);
                Err(operation.error(ErrorKind::InvalidContent, detail))
            }
            _ => Ok(()),
        }
    }

    /// Deletes a tag alone, or a manifest with everything that points at it.
    ///
    /// # Errors
    /// `Unsupported` is an answer here, and no error: see [`DeletionAnswer`].
    pub(crate) async fn delete(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<DeletionAnswer, RegistryError> {
        let http = self.session.http();
        let operation = self.operation("deleting", repository, reference);
        let url = http.hosts().of(repository, &format!("manifests/{}", reference.as_str()));
        let request = RegistryRequest::new(Method::DELETE, url, Scopes::delete(repository), &operation);
        let _permit = http.write_permit(Load::Small).await;
        let response = self.session.call(&request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(DeletionAnswer::Done);
        }
        let refused = response.into_error_response(http.deadlines()).await;
        match status.as_u16() {
            404 => Ok(DeletionAnswer::Absent),
            // A registry that deletes by digest only takes a tag for a wrong digest.
            400 | 405 | 501 => Ok(DeletionAnswer::Unsupported(refused.error_as(ErrorKind::Unsupported, &operation))),
            _ => Err(refused.error(&operation)),
        }
    }

    async fn head_by_reading(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Lookup, RegistryError> {
        match self.read(repository, reference).await {
            Ok(manifest) => {
                let size = Some(manifest.bytes.len() as u64);
                Ok(Lookup::Found(ManifestHead { size, digest: manifest.digest, is_schema_1: false }))
            }
            Err(error) if error.kind == ErrorKind::NotFound => Ok(Lookup::Absent),
            Err(error) if error.kind == ErrorKind::Denied => Ok(Lookup::Denied(error)),
            Err(error) => Err(error),
        }
    }

    fn operation(&self, name: &'static str, repository: &RepositoryName, reference: Reference<'_>) -> Operation {
        self.session.http().operation(name, format_args!("{repository}{}", reference.suffix()))
    }

    fn request<'a>(
        &self,
        method: Method,
        repository: &RepositoryName,
        reference: Reference<'_>,
        operation: &'a Operation,
    ) -> RegistryRequest<'a> {
        let url = self.session.http().hosts().of(repository, &format!("manifests/{}", reference.as_str()));
        RegistryRequest::new(method, url, Scopes::pull(repository), operation)
            .header(ACCEPT, HeaderValue::from_static(MANIFEST_ACCEPT))
    }
}

/// Returns the digest that the registry states, if it states exactly one that can be verified.
pub(crate) fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    let mut values = headers.get_all(CONTENT_DIGEST).iter();
    let stated = values.next()?;
    let is_one = values.all(|value| value == stated);
    stated.to_str().ok().filter(|_| is_one)?.trim().parse().ok()
}

/// A document that is not taken for the manifest.
enum Unverified {
    /// The bytes may have been damaged on their way.
    Damaged(RegistryError),
    /// The bytes are those that the registry has.
    Wrong(RegistryError),
}

fn verified(
    reference: Reference<'_>,
    headers: &HeaderMap,
    body: Bytes,
    operation: &Operation,
) -> Result<Manifest, Unverified> {
    let expected = match reference {
        Reference::Digest(asked) => Some(asked.clone()),
        Reference::Tag(_) => stated_digest(headers),
    };
    if web_page(&body).is_some() {
        let detail = format!("this is not a manifest: the registry {}", unexpected(&body, ""));
        return Err(Unverified::Wrong(operation.error(ErrorKind::InvalidContent, detail)));
    }
    if let Some(expected) = expected.as_ref().filter(|expected| !expected.verifies(&body)) {
        let detail = format!("the content does not have the digest {expected}");
        return Err(Unverified::Damaged(operation.error(ErrorKind::InvalidContent, detail)));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match Manifest::parse(content_type, body) {
        Ok(manifest) => Ok(match expected {
            Some(digest) => Manifest { digest, ..manifest },
            None => manifest,
        }),
        Err(error) => {
            let is_size = matches!(error, ManifestError::TooLarge | ManifestError::TooManyDescriptors);
            let is_cut_off = expected.is_none() && matches!(error, ManifestError::NotJson { .. });
            let error = operation.error(if is_size { ErrorKind::TooLarge } else { ErrorKind::InvalidContent }, error);
            Err(if is_cut_off { Unverified::Damaged(error) } else { Unverified::Wrong(error) })
        }
    }
}

/// The times that damaged content is read again.
const MAX_REREADS: u32 = 2;

/// The media types of Docker schema 1, with a signature or without.
const SCHEMA_1: &str = "docker.distribution.manifest.v1+";

const CONTENT_DIGEST: &str = "docker-content-digest";

/// The codes that say that content which the manifest names is missing.
const MISSING_CODES: [&str; 3] = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];

#[cfg(test)]
mod tests;

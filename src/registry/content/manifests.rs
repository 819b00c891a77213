//! Reads and writes manifests, and asks what a tag points to.

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::image::{Digest, MANIFEST_ACCEPT, MAX_MANIFEST_BYTES, Manifest, ManifestError, RepositoryName};
use crate::registry::auth::token::Scopes;
use crate::registry::client::{Client, ManifestHead, Reference};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::session::{Fetched, RegistryRequest};

impl Client {
    /// The digest of a manifest; `None` when it is not there.
    ///
    /// Where the registry refuses HEAD or tells no digest, the manifest is read and its digest computed. A tag that may not be
    /// read is not there if the list of tags may be read and lacks it.
    ///
    /// # Errors
    /// `InvalidContent` when another digest than the one asked for is stated.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let inner = &self.0;
        let task = self.manifest_task("asking for the manifest", repository, reference);
        let answer = {
            let _permit = inner.read_permit().await;
            inner.call(&self.manifest_request(Method::HEAD, repository, reference, &task)).await?
        };
        let stated = stated_digest(answer.headers());
        match (answer.status().as_u16(), stated) {
            (404, _) => Ok(None),
            (200..=299, Some(stated)) => {
                let digest = match reference {
                    Reference::Digest(asked) if asked.algorithm() != stated.algorithm() => asked.clone(),
                    Reference::Digest(asked) if *asked != stated => {
                        return Err(task.error(ErrorKind::InvalidContent, format!("the registry states {stated}")));
                    }
                    _ => stated,
                };
                Ok(Some(ManifestHead { digest, size: answer.content_length().filter(|size| *size > 0) }))
            }
            (200..=299 | 400 | 403 | 405 | 501, _) => self.head_by_reading(repository, reference).await,
            _ if answer.elsewhere.is_some() => self.head_by_reading(repository, reference).await,
            _ => Err(answer.refusal(&inner.deadlines).await.error(&task)),
        }
    }

    /// A manifest, verified: against the digest that was asked for, or that the registry states with a tag.
    ///
    /// # Errors
    /// `NotFound`; `InvalidContent` for another digest or a document that is no manifest; `TooLarge` over 8 MiB.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Manifest, RegistryError> {
        let inner = &self.0;
        let task = self.manifest_task("reading the manifest", repository, reference);
        let request = self.manifest_request(Method::GET, repository, reference, &task);
        let fetched = {
            let _permit = inner.read_permit().await;
            inner.fetch(&request, MAX_MANIFEST_BYTES).await?
        };
        match fetched {
            Fetched::Good { headers, body, .. } => verified(reference, &headers, body, &task),
            Fetched::Refused(refusal) => Err(refusal.error(&task)),
        }
    }

    /// Puts a manifest there, byte for byte.
    ///
    /// # Errors
    /// `ContentMissing` when the registry misses content that the manifest names; `ManifestInvalid` when it does not take the
    /// manifest; `InvalidContent` when it states another digest than the manifest has.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        manifest: &Manifest,
    ) -> Result<(), RegistryError> {
        let inner = &self.0;
        let task = self.manifest_task("writing the manifest", repository, reference);
        let content_type = HeaderValue::from_str(&manifest.media_type)
            .map_err(|_| task.error(ErrorKind::InvalidContent, "its media type is not valid"))?;
        let url = inner.site.of(repository, &format!("manifests/{}", reference.as_str()));
        let mut request = RegistryRequest::new(Method::PUT, url, Scopes::push(repository), &task);
        request.headers.insert(CONTENT_TYPE, content_type);
        request.body = Some(manifest.bytes.clone());
        let _permit = inner.write_permit().await;
        let answer = inner.call(&request).await?;
        if !answer.status().is_success() {
            let is_final = answer.status().is_client_error();
            let refusal = answer.refusal(&inner.deadlines).await;
            return Err(if is_final && refusal.has_code(&MISSING_CODES) {
                refusal.error_of(ErrorKind::ContentMissing, &task)
            } else if is_final && refusal.has_code(&["MANIFEST_INVALID"]) {
                refusal.error_of(ErrorKind::ManifestInvalid, &task)
            } else {
                refusal.error(&task)
            });
        }
        match stated_digest(answer.headers()) {
            Some(stated) if !manifest.has_digest(&stated) => {
                let detail = format!("the registry took {} for {stated}", manifest.digest);
                Err(task.error(ErrorKind::InvalidContent, detail))
            }
            _ => Ok(()),
        }
    }

    async fn head_by_reading(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        match self.manifest(repository, reference).await {
            Ok(manifest) => Ok(Some(ManifestHead { size: Some(manifest.bytes.len() as u64), digest: manifest.digest })),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind == ErrorKind::Denied => self.head_by_listing(repository, reference, error).await,
            Err(error) => Err(error),
        }
    }

    /// Virtual repositories of Artifactory answer 403 for a tag that is not there (RTFACT-13797): the list of tags, where it may be
    /// read, tells the two apart.
    async fn head_by_listing(
        &self,
        repository: &RepositoryName,
        reference: Reference<'_>,
        denied: RegistryError,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let Reference::Tag(tag) = reference else { return Err(denied) };
        match self.tags_and_digests(repository, &|listed| listed == tag).await {
            Ok(listed) if listed.iter().all(|listing| listing.tags.is_empty()) => Ok(None),
            _ => Err(denied),
        }
    }

    fn manifest_task(
        &self,
        operation: &'static str,
        repository: &RepositoryName,
        reference: Reference<'_>,
    ) -> Operation {
        self.0.task(operation, format_args!("{repository}{}", reference.suffix()))
    }

    fn manifest_request<'a>(
        &self,
        method: Method,
        repository: &RepositoryName,
        reference: Reference<'_>,
        task: &'a Operation,
    ) -> RegistryRequest<'a> {
        let url = self.0.site.of(repository, &format!("manifests/{}", reference.as_str()));
        let mut request = RegistryRequest::new(method, url, Scopes::pull(repository), task);
        request.headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_ACCEPT));
        request
    }
}

/// The digest that the registry states, if it is one, and one that can be verified.
pub(crate) fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    let mut values = headers.get_all(CONTENT_DIGEST).iter();
    let stated = values.next()?;
    let is_one = values.all(|value| value == stated);
    stated.to_str().ok().filter(|_| is_one)?.trim().parse().ok()
}

fn verified(
    reference: Reference<'_>,
    headers: &HeaderMap,
    body: Bytes,
    task: &Operation,
) -> Result<Manifest, RegistryError> {
    let expected = match reference {
        Reference::Digest(asked) => Some(asked.clone()),
        Reference::Tag(_) => stated_digest(headers),
    };
    if let Some(expected) = expected.as_ref().filter(|expected| !expected.verifies(&body)) {
        return Err(task.error(ErrorKind::InvalidContent, format!("the content does not have the digest {expected}")));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let manifest = Manifest::parse(content_type, body).map_err(|error| {
        let is_size = matches!(error, ManifestError::TooLarge | ManifestError::TooManyDescriptors);
        task.error(if is_size { ErrorKind::TooLarge } else { ErrorKind::InvalidContent }, error)
    })?;
    Ok(match expected {
        Some(digest) => Manifest { digest, ..manifest },
        None => manifest,
    })
}

const CONTENT_DIGEST: &str = "docker-content-digest";

/// The codes that say that something the manifest names is not there.
const MISSING_CODES: [&str; 3] = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];

#[cfg(test)]
mod tests;

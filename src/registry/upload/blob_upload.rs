//! The requests that an upload of one blob consists of, except those that carry its bytes.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::image::{Descriptor, RepositoryName};
use crate::registry::auth::scopes::Scopes;
use crate::registry::content::blobs::Blobs;
use crate::registry::content::head_verdict::Absence;
use crate::registry::content::manifests::stated_digest;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::response::{ErrorResponse, HttpResponse, is_passing};
use crate::registry::session::{RegistryRequest, Session};
use crate::registry::upload::ladder::Ladder;
use crate::registry::upload::session::{Payload, UploadError, UploadSession};

/// One blob on its way to one repository.
pub(super) struct BlobUpload<'a> {
    pub(super) session: &'a Arc<Session>,
    pub(super) blobs: &'a Blobs,
    pub(super) ladder: &'a Ladder,
    pub(super) chunk_memory: &'a Semaphore,
    pub(super) repository: &'a RepositoryName,
    pub(super) blob: &'a Descriptor,
    pub(super) operation: &'a Operation,
}

/// The result of a request to mount a blob.
pub(super) enum Mount {
    Blob,
    /// The registry opened an upload session instead.
    Session(UploadSession),
    None,
}

/// The result of the request that completes an upload.
pub(super) enum Completion {
    Blob,
    Refused(ErrorResponse),
}

impl BlobUpload<'_> {
    /// Requests the blob from another repository of the registry, or checks that it is in its own.
    pub(super) async fn mount(&self, from: &RepositoryName) -> Result<Mount, RegistryError> {
        let mut retries = self.session.http().retries();
        loop {
            match self.post(Some(from), &self.scopes(Some(from))).await {
                Ok(response) if response.status() == StatusCode::CREATED => {
                    self.ladder.mounted();
                    return Ok(Mount::Blob);
                }
                Ok(response) if response.status().is_success() => {
                    // A mount from the repository itself is an existence check.
                    if from != self.repository {
                        self.ladder.not_mounted(false, Instant::now());
                    }
                    let session = self.open(&response, self.scopes(Some(from)));
                    return session.map(Mount::Session).map_err(|failed| failed.error);
                }
                Ok(response) => {
                    tracing::debug!(status = response.status().as_u16(), "the registry refuses to mount");
                    // Other refusals may be about this one repository.
                    let is_unknown = matches!(response.status().as_u16(), 400 | 405 | 501);
                    self.ladder.not_mounted(is_unknown, Instant::now());
                    return Ok(Mount::None);
                }
                Err(failed) if failed.error.kind.is_transient() => retries.again(failed).await?,
                Err(failed) => {
                    tracing::debug!(error = %failed.error.message, "the registry refuses to mount");
                    self.ladder.not_mounted(false, Instant::now());
                    return Ok(Mount::None);
                }
            }
        }
    }

    /// Opens a session.
    pub(super) async fn begin(&self, scopes: &Scopes) -> Result<UploadSession, AttemptError> {
        let response = self.post(None, scopes).await?;
        if response.status().is_success() {
            return self.open(&response, scopes.clone());
        }
        let deadlines = self.session.http().deadlines();
        Err(response.into_error_response(deadlines).await.attempt_error(self.operation))
    }

    /// Returns the scopes of an upload that may mount from `mount_from`.
    pub(super) fn scopes(&self, mount_from: Option<&RepositoryName>) -> Scopes {
        let scopes = Scopes::push(self.repository);
        match mount_from {
            Some(from) if from != self.repository => scopes.and_pull(from),
            _ => scopes,
        }
    }

    /// Makes a blob of the bytes that were sent into `session`. This request has attempts of its own, as it repeats no
    /// bytes.
    pub(super) async fn complete(&self, session: &mut UploadSession) -> Result<Completion, UploadError> {
        let mut retries = self.session.http().retries();
        let mut may_be_done = false;
        loop {
            let failed = match session.send(Payload::Nothing, Some(&self.blob.digest)).await {
                Ok(response) if response.status().is_success() => {
                    return self.accept(session, &response).map(|()| Completion::Blob);
                }
                Ok(response) => {
                    let refused = session.read_refusal(response).await;
                    let failed = refused.attempt_error(self.operation);
                    if !is_passing(refused.status) && failed.error.kind != ErrorKind::RateLimited {
                        // The session is gone if the registry had completed it already when the connection broke.
                        let is_done = may_be_done && refused.status == StatusCode::NOT_FOUND && self.exists().await;
                        return Ok(if is_done { Completion::Blob } else { Completion::Refused(refused) });
                    }
                    failed
                }
                Err(UploadError::Connection { failed, .. }) => failed,
                Err(other) => return Err(other),
            };
            may_be_done = true;
            let retried = retries.again(failed).await;
            retried.map_err(|error| UploadError::Refused(AttemptError::last(error)))?;
        }
    }

    /// Takes `response` for success, unless the registry states that it took other bytes.
    pub(super) fn accept(&self, session: &mut UploadSession, response: &HttpResponse) -> Result<(), UploadError> {
        session.close();
        match stated_digest(response.headers()) {
            Some(stated) if stated.algorithm() == self.blob.digest.algorithm() && stated != self.blob.digest => {
                let detail = format!("the registry took it for {stated}");
                Err(UploadError::Refused(self.operation.error(ErrorKind::InvalidContent, detail).into()))
            }
            _ => Ok(()),
        }
    }

    /// Returns true if the registry has the blob; false also if it cannot be asked.
    pub(super) async fn exists(&self) -> bool {
        matches!(self.blobs.exists(self.repository, self.blob, Absence::Believed).await, Ok(true))
    }

    async fn post(&self, mount_from: Option<&RepositoryName>, scopes: &Scopes) -> Result<HttpResponse, AttemptError> {
        let mut url = self.session.http().hosts().of(self.repository, "blobs/uploads/");
        if let Some(from) = mount_from {
            url.query_pairs_mut().append_pair("mount", self.blob.digest.as_str()).append_pair("from", from.as_str());
        }
        let request = RegistryRequest::new(Method::POST, url, scopes.clone(), self.operation)
            .header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        Box::pin(self.session.send(&request)).await
    }

    fn open(&self, response: &HttpResponse, scopes: Scopes) -> Result<UploadSession, AttemptError> {
        UploadSession::open(self.session, response, scopes, self.operation)
    }
}

//! One request to a registry and its answer: login, redirects, retries, what the answer teaches about the registry.

use crate::registry::auth::token::Scopes;
use crate::registry::auth::{Auth, Authorization};
use crate::registry::client::ClientId;
use crate::registry::error::{AttemptError, ErrorKind, HttpError, Operation, RegistryError};
use crate::registry::http::deadlines::Deadlines;
use crate::registry::http::hosts::{Hosts, canonical_host, is_same_origin};
use crate::registry::http::limiter::{Feedback, Limiter, Load, Permit};
use crate::registry::http::response::{ErrorResponse, HttpResponse, is_passing};
use crate::registry::http::retry::{Pause, Retries};
use crate::registry::http::transport::Transport;
use crate::registry::http::{body, retry, warnings};
use crate::registry::lists::referrers::ApiSupport;
use crate::registry::upload::Ladder;
use crate::registry::vendors::digest_apis::ApiVerdicts;
use crate::registry::vendors::ecr::Ecr;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use reqwest::Response;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

/// What the clones of a client share.
pub(crate) struct Inner {
    pub(crate) id: ClientId,
    pub(crate) site: Hosts,
    pub(crate) transport: Transport,
    pub(crate) auth: Auth,
    /// The API of Amazon ECR, where the registry belongs to one and the credentials are an access key.
    pub(crate) ecr: Option<Ecr>,
    pub(crate) deadlines: Deadlines,
    pub(crate) pause: Pause,
    pub(crate) referrers_api: ApiSupport,
    /// The token service is another server, with limits of its own.
    pub(crate) token_pause: Pause,
    /// Requests that read. They have places of their own: an upload that has one of the others may wait for a blob
    /// that comes from this same client.
    pub(crate) reads: Limiter,
    /// Requests that write.
    pub(crate) writes: Limiter,
    /// The memory for chunks of uploads, in KiB. It is waited for with a place to write and without one to read, so
    /// that who has it can always go on.
    pub(crate) chunk_memory: Semaphore,
    /// How the registry takes uploads.
    pub(crate) ladder: Ladder,
    /// Whether the registry has another API that is of use.
    pub(crate) digest_apis: ApiVerdicts,
}

/// A request that can be sent again.
pub(crate) struct RegistryRequest<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) scopes: Scopes,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// What it is sent with in place of the login that the registry asks for; a challenge is a refusal then.
    pub(crate) login: Option<Authorization>,
    pub(crate) task: &'a Operation,
}

impl<'a> RegistryRequest<'a> {
    /// Without headers and body.
    pub(crate) fn new(method: Method, url: Url, scopes: Scopes, task: &'a Operation) -> Self {
        Self { method, url, scopes, headers: HeaderMap::new(), body: None, login: None, task }
    }
}

/// A good answer with its whole body, or the refusal.
pub(crate) enum Fetched {
    Good { url: Url, headers: HeaderMap, body: Bytes },
    Refused(ErrorResponse),
}

impl Inner {
    /// Names an operation for messages.
    pub(crate) fn task(&self, operation: &'static str, subject: impl std::fmt::Display) -> Operation {
        Operation::new(self.site.host(), operation, subject)
    }

    /// A place for a small request that reads.
    pub(crate) async fn read_permit(&self) -> Permit {
        self.reads.enter(Load::Small).await
    }

    /// A place for a small request that writes.
    pub(crate) async fn write_permit(&self) -> Permit {
        self.writes.enter(Load::Small).await
    }

    pub(crate) fn retries(&self) -> Retries<'_> {
        Retries::new(&self.pause, &self.deadlines)
    }

    /// Sends `request` until there is an answer that will not change: success, or a refusal for good.
    pub(crate) async fn call(&self, request: &RegistryRequest<'_>) -> Result<HttpResponse, RegistryError> {
        let mut retries = self.retries();
        loop {
            match Box::pin(self.send(request)).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => retries.again(failure).await?,
            }
        }
    }

    /// As [`Inner::call`], with the body of at most `limit` bytes; a body that breaks is asked for again.
    pub(crate) async fn fetch(&self, request: &RegistryRequest<'_>, limit: usize) -> Result<Fetched, RegistryError> {
        let mut retries = self.retries();
        loop {
            match Box::pin(self.try_fetch(request, limit)).await {
                Ok(fetched) => return Ok(fetched),
                Err(failure) => retries.again(failure).await?,
            }
        }
    }

    async fn try_fetch(&self, request: &RegistryRequest<'_>, limit: usize) -> Result<Fetched, AttemptError> {
        let answer = self.send(request).await?;
        if !answer.status().is_success() {
            return Ok(Fetched::Refused(answer.refusal(&self.deadlines).await));
        }
        let (url, headers) = (answer.url, answer.response.headers().clone());
        let body = body::read(answer.response, limit, &self.deadlines).await;
        let body = body.map_err(|trouble| request.task.failure(trouble))?;
        Ok(Fetched::Good { url, headers, body })
    }

    /// One attempt. A refusal that may pass is a failure; any other is an answer. To be boxed: it takes kilobytes, which all
    /// futures around it would have again and be moved with.
    pub(crate) async fn send(&self, request: &RegistryRequest<'_>) -> Result<HttpResponse, AttemptError> {
        self.pause.wait(request.task, &self.deadlines).await?;
        if let Some(login) = &request.login {
            return self.settle(self.follow(request, login).await?, request).await;
        }
        let mut login = self.login(&request.scopes, request.task).await?;
        for _ in 0..MAX_CHALLENGE_ROUNDS {
            let answer = self.follow(request, &login).await?;
            if answer.status() != StatusCode::UNAUTHORIZED || answer.elsewhere.is_some() {
                return self.settle(answer, request).await;
            }
            let headers = answer.headers().clone();
            let refusal = answer.refusal(&self.deadlines).await;
            match self.answer_challenge(&headers, &request.scopes, &login, request.task).await? {
                Some(better) => login = better,
                None => return Err(refusal.failure(request.task)),
            }
        }
        Err(request.task.error(ErrorKind::Unauthorized, "asks to log in again and again").into())
    }

    async fn settle(&self, answer: HttpResponse, request: &RegistryRequest<'_>) -> Result<HttpResponse, AttemptError> {
        let status = answer.status();
        // URLs that a registry signs for GET are often no good for HEAD: the caller asks in another way then.
        let is_stale_signature =
            matches!(status.as_u16(), 401 | 403) && answer.elsewhere.is_some() && request.method != Method::HEAD;
        if is_passing(status) || is_stale_signature {
            return Err(answer.refusal(&self.deadlines).await.failure(request.task));
        }
        Ok(answer)
    }

    /// Sends `request`, and follows redirects of reading requests as far as they may be followed.
    async fn follow(&self, request: &RegistryRequest<'_>, login: &Authorization) -> Result<HttpResponse, AttemptError> {
        let mut url = request.url.clone();
        let mut authorization = login.header.clone();
        let is_reading = is_reading(&request.method);
        for _ in 0..=MAX_REDIRECTS {
            let outgoing = request.at(&url, authorization.as_ref());
            let (is_trusted, sent_at) = (self.site.is_trusted(&url), Instant::now());
            let response = self.transport.send(outgoing, is_trusted, Some(self.deadlines.headers)).await;
            self.learn(&request.method, &url, sent_at, &response);
            let response = response.map_err(|trouble| request.task.failure(trouble))?;
            let location = response.headers().get(LOCATION).filter(|_| is_redirect(response.status()) && is_reading);
            let Some(location) = location else {
                let elsewhere = (!self.site.is_own_origin(&url)).then(|| canonical_host(&url));
                return Ok(HttpResponse { response, url, elsewhere });
            };
            let target = self.site.redirect(&url, &String::from_utf8_lossy(location.as_bytes()));
            let target = target.map_err(|trouble| request.task.failure(trouble))?;
            if !is_same_origin(&url, &target) {
                authorization = None;
            }
            url = target;
        }
        Err(request.task.error(ErrorKind::Rejected, format!("redirects over {MAX_REDIRECTS} times")).into())
    }

    /// Takes from what came of a request how much the registry bears, and what it wants people to know.
    pub(crate) fn learn(&self, method: &Method, url: &Url, sent_at: Instant, sent: &Result<Response, HttpError>) {
        let window = if is_reading(method) { &self.reads } else { &self.writes };
        match sent {
            Ok(response) => {
                let is_overload = matches!(response.status().as_u16(), 429 | 503);
                window.note(sent_at, if is_overload { Feedback::Overloaded } else { Feedback::Answered });
                if self.site.is_own_origin(url) {
                    warnings::show(self.site.host(), response.headers());
                    if retry::remaining(response.headers()) == Some(0) {
                        tracing::debug!(registry = self.site.host(), "the quota of requests is used up");
                    }
                }
            }
            Err(trouble) if trouble.kind == ErrorKind::Unavailable => window.note(sent_at, Feedback::Overloaded),
            Err(_) => {}
        }
    }
}

impl RegistryRequest<'_> {
    fn at(&self, url: &Url, authorization: Option<&HeaderValue>) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), url.clone());
        *request.headers_mut() = self.headers.clone();
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        *request.body_mut() = self.body.clone().map(Into::into);
        request
    }
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The answers to challenges within one request: to log in, with a kept token, with a new one.
const MAX_CHALLENGE_ROUNDS: usize = 4;

const MAX_REDIRECTS: usize = 5;

#[cfg(test)]
mod tests;

//! The session layer: requests to one registry with authentication and retries.
//!
//! [`Session`] joins the HTTP and the authentication layer; everything above speaks to the registry through it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use url::Url;

use crate::registry::auth::Auth;
use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::scopes::Scopes;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::limiter::Load;
use crate::registry::http::request::HttpRequest;
use crate::registry::http::response::{ErrorResponse, HttpResponse, is_passing};
use crate::registry::http::{Http, body};

/// The authenticated requests of one client.
pub(crate) struct Session {
    http: Arc<Http>,
    auth: Auth,
}

/// A request to the registry that can be repeated.
pub(crate) struct RegistryRequest<'a> {
    http: HttpRequest,
    scopes: Scopes,
    login: LoginMode,
    operation: &'a Operation,
}

/// The way in which a request authenticates.
enum LoginMode {
    /// By the challenge of the registry.
    Challenge,
    /// With this value of `Authorization`, if any; a challenge counts as a refusal.
    Fixed(Option<HeaderValue>),
}

impl<'a> RegistryRequest<'a> {
    /// Creates a request without headers and body.
    pub(crate) fn new(method: Method, url: Url, scopes: Scopes, operation: &'a Operation) -> Self {
        Self { http: HttpRequest::new(method, url), scopes, login: LoginMode::Challenge, operation }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.http.headers.insert(name, value);
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.http.body = Some(body);
        self
    }

    /// Sends `authorization`, if any, whatever the registry asks for.
    pub(crate) fn with_authorization(mut self, authorization: Option<HeaderValue>) -> Self {
        self.login = LoginMode::Fixed(authorization);
        self
    }
}

/// The response to a request whose body is read into memory.
pub(crate) enum Fetched {
    /// A successful response with its whole body; `url` is where redirects led.
    Document {
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    },
    Refused(ErrorResponse),
}

impl Session {
    pub(crate) fn new(http: Arc<Http>, auth: Auth) -> Self {
        Self { http, auth }
    }

    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Checks that the registry answers and accepts the credentials: `GET /v2/`, with a token where it asks for one.
    ///
    /// A token service may refuse an anonymous client before it names a repository; that is no failure here.
    pub(crate) async fn ping(&self) -> Result<(), RegistryError> {
        let operation = self.http.operation("asking for the API", "");
        let _permit = self.http.read_permit(Load::Small).await;
        let request = RegistryRequest::new(Method::GET, self.http.hosts().root(), Scopes::default(), &operation);
        match self.call(&request).await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(response.into_error_response(self.http.deadlines()).await.error(&operation)),
            Err(error)
                if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Denied)
                    && matches!(self.auth.credentials(&request.scopes), Credentials::Anonymous)
                    && self.auth.is_bearer() =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Sends `request` until the response is final: success, or a refusal that no retry can change.
    pub(crate) async fn call(&self, request: &RegistryRequest<'_>) -> Result<HttpResponse, RegistryError> {
        let mut retries = self.http.retries();
        loop {
            match Box::pin(self.send(request)).await {
                Ok(response) => return Ok(response),
                Err(failed) => retries.again(failed).await?,
            }
        }
    }

    /// Like [`Session::call`], with a body of at most `limit` bytes; a body that breaks is requested again.
    pub(crate) async fn fetch(&self, request: &RegistryRequest<'_>, limit: usize) -> Result<Fetched, RegistryError> {
        let mut retries = self.http.retries();
        loop {
            match Box::pin(self.try_fetch(request, limit)).await {
                Ok(fetched) => return Ok(fetched),
                Err(failed) => retries.again(failed).await?,
            }
        }
    }

    /// Like [`Session::fetch`], with a permit for a small read.
    pub(crate) async fn fetch_small(
        &self,
        request: &RegistryRequest<'_>,
        limit: usize,
    ) -> Result<Fetched, RegistryError> {
        let _permit = self.http.read_permit(Load::Small).await;
        self.fetch(request, limit).await
    }

    async fn try_fetch(&self, request: &RegistryRequest<'_>, limit: usize) -> Result<Fetched, AttemptError> {
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Ok(Fetched::Refused(response.into_error_response(self.http.deadlines()).await));
        }
        let (url, headers) = (response.url, response.response.headers().clone());
        let body = body::read(response.response, limit, self.http.deadlines()).await;
        let body = body.map_err(|error| request.operation.attempt_error(error))?;
        self.http.pacer().count(body.len());
        Ok(Fetched::Document { url, headers, body })
    }

    /// Makes one attempt. A refusal that may pass is an error; any other is a response.
    ///
    /// Callers box the future: it takes kilobytes, which all futures around it would contain and move.
    pub(crate) async fn send(&self, request: &RegistryRequest<'_>) -> Result<HttpResponse, AttemptError> {
        let RegistryRequest { http, scopes, login, operation } = request;
        self.http.wait_for_pause(operation).await?;
        if let LoginMode::Fixed(authorization) = login {
            let response = self.http.exchange(http, authorization.as_ref(), operation).await?;
            return self.settle(response, request).await;
        }
        let mut authorization = self.auth.authorize(scopes, operation).await?;
        for _ in 0..MAX_CHALLENGE_ROUNDS {
            let response = self.http.exchange(http, authorization.header(), operation).await?;
            let response = response.explained_by(|| self.auth.remark(scopes));
            if response.status() != StatusCode::UNAUTHORIZED || response.elsewhere.is_some() {
                return self.settle(response, request).await;
            }
            let headers = response.headers().clone();
            let refused = response.into_error_response(self.http.deadlines()).await;
            match self.auth.answer_challenge(&headers, scopes, &authorization, operation).await? {
                Some(better) => authorization = better,
                None => {
                    let AttemptError { mut error, max_tries } = refused.attempt_error(operation);
                    let has_login = !matches!(self.auth.credentials(scopes), Credentials::Anonymous);
                    if has_login && authorization.header().is_none() {
                        error.message.push_str(NO_KNOWN_SCHEME);
                    }
                    return Err(AttemptError { error, max_tries });
                }
            }
        }
        Err(operation.error(ErrorKind::Unauthorized, "asks to log in again and again").into())
    }

    async fn settle(
        &self,
        response: HttpResponse,
        request: &RegistryRequest<'_>,
    ) -> Result<HttpResponse, AttemptError> {
        let status = response.status();
        // URLs that a registry signs for GET are often not valid for HEAD: the caller asks in another way then.
        let is_stale_signature =
            matches!(status.as_u16(), 401 | 403) && response.elsewhere.is_some() && request.http.method != Method::HEAD;
        if is_passing(status) || is_stale_signature {
            let refused = response.into_error_response(self.http.deadlines()).await;
            return Err(refused.attempt_error(request.operation));
        }
        Ok(response)
    }
}

const NO_KNOWN_SCHEME: &str = "; no credentials were sent: it asks for none in a way that is known (Basic or Bearer)";

/// The responses to challenges within one request: without credentials, with a cached token, with a new one.
const MAX_CHALLENGE_ROUNDS: usize = 4;

#[cfg(test)]
mod tests;

//! Requests tokens from the token service that a challenge names.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use url::Url;

use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::scopes::Scopes;
use crate::registry::auth::token::{AccessToken, parse_token};
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::hosts::canonical_host;
use crate::registry::http::response::{HttpResponse, is_passing};
use crate::registry::http::retry::{Pause, Retries};
use crate::registry::http::{Http, body};

/// The token service that a challenge names; the realm has been checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenService {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
}

impl TokenService {
    /// Returns the canonical host, for messages.
    pub(super) fn host(&self) -> String {
        canonical_host(&self.realm)
    }

    /// Creates a GET with basic credentials (or none), as Docker's token specification has it; or, for an identity
    /// token, the OAuth2 POST with a refresh token.
    fn request(&self, credentials: &Credentials, scopes: &Scopes) -> reqwest::Request {
        let mut url = self.realm.clone();
        let Credentials::IdentityToken(token) = credentials else {
            {
                let mut query = url.query_pairs_mut();
                query.extend_pairs(self.service.iter().map(|service| ("service", service)));
                query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            }
            if url.query() == Some("") {
                url.set_query(None);
            }
            let mut request = reqwest::Request::new(Method::GET, url);
            if let Some(basic) = credentials.basic() {
                request.headers_mut().insert(AUTHORIZATION, basic);
            }
            return request;
        };
        let scopes: Vec<&str> = scopes.iter().collect();
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", "transship");
        form.append_pair("refresh_token", token.expose_secret());
        form.append_pair("service", self.service.as_deref().unwrap_or_default());
        form.append_pair("scope", &scopes.join(" "));
        let mut request = reqwest::Request::new(Method::POST, url);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        *request.body_mut() = Some(form.finish().into());
        request
    }
}

/// Requests tokens for one client.
pub(super) struct TokenFetcher {
    http: Arc<Http>,
    /// The token service is another server than the registry, with limits of its own.
    pause: Pause,
}

impl TokenFetcher {
    pub(super) fn new(http: Arc<Http>) -> Self {
        Self { http, pause: Pause::default() }
    }

    /// Requests a token for `scopes`, with retries.
    pub(super) async fn fetch(
        &self,
        credentials: &Credentials,
        service: &TokenService,
        scopes: &Scopes,
        operation: &Operation,
    ) -> Result<AccessToken, RegistryError> {
        let mut retries = Retries::new(&self.pause, self.http.deadlines());
        loop {
            match self.try_fetch(credentials, service, scopes, operation).await {
                Ok(token) => return Ok(token),
                Err(failed) => retries.again(failed).await?,
            }
        }
    }

    async fn try_fetch(
        &self,
        credentials: &Credentials,
        service: &TokenService,
        scopes: &Scopes,
        operation: &Operation,
    ) -> Result<AccessToken, AttemptError> {
        self.pause.wait(operation, self.http.deadlines()).await?;
        let trust = self.http.hosts().trust(&service.realm);
        let sent = self.http.send_to_service(service.request(credentials, scopes), trust).await;
        let response = sent.map_err(|error| operation.attempt_error(error))?;
        let received_at = Instant::now();
        if response.status() != StatusCode::OK {
            let foreign = self.http.hosts().foreign_realm(&service.realm);
            let response = HttpResponse::new(response, service.realm.clone(), foreign);
            let is_anonymous = matches!(credentials, Credentials::Anonymous);
            return Err(self.refused(response, service, is_anonymous, operation).await);
        }
        let text = body::read(response, MAX_TOKEN_BYTES, self.http.deadlines()).await;
        let text = text.map_err(|error| operation.attempt_error(error))?;
        parse_token(&text, received_at).ok_or_else(|| {
            operation.error(ErrorKind::InvalidContent, format!("{} answered without a token", service.host())).into()
        })
    }

    async fn refused(
        &self,
        response: HttpResponse,
        service: &TokenService,
        is_anonymous: bool,
        operation: &Operation,
    ) -> AttemptError {
        let status = response.status();
        let refused = response.into_error_response(self.http.deadlines()).await;
        let host = service.host();
        let (kind, what) = match status.as_u16() {
            400 | 401 if is_anonymous => {
                (ErrorKind::Unauthorized, format!("the token service {host} gives no token without credentials"))
            }
            400 | 401 => (ErrorKind::Unauthorized, format!("the token service {host} refuses the credentials")),
            403 => (ErrorKind::Denied, format!("the token service {host} gives no access")),
            429 => (ErrorKind::RateLimited, format!("the token service {host} is asked too often")),
            _ if is_passing(status) => (ErrorKind::Unavailable, format!("the token service {host} does not work")),
            _ => (ErrorKind::Rejected, format!("the token service {host} gives no token")),
        };
        let error = refused.error_as(kind, operation);
        RegistryError { message: format!("{}; {what}", error.message), ..error }.into()
    }
}

const MAX_TOKEN_BYTES: usize = 1024 * 1024;

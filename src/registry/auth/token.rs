//! Gets bearer tokens from a registry's token service and keeps them until they run out.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::image::RepositoryName;
use crate::registry::auth;
use crate::registry::client::Credentials;
use crate::registry::error::{AttemptError, ErrorKind, Operation, RegistryError};
use crate::registry::http::body;
use crate::registry::http::hosts::canonical_host;
use crate::registry::http::response::{HttpResponse, is_passing};
use crate::registry::http::retry::Retries;
use crate::registry::session::Inner;

/// What a token is to be good for, as Docker's token specification spells it; in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Reading from `repository`.
    pub(crate) fn pull(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}:pull"))
    }

    /// Writing to `repository`.
    pub(crate) fn push(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}:pull,push"))
    }

    /// Reading the catalog.
    pub(crate) fn catalog() -> Self {
        Self::one("registry:catalog:*".to_owned())
    }

    /// This, and reading from `repository`.
    pub(crate) fn and_pull(mut self, repository: &RepositoryName) -> Self {
        self.0.extend(Self::pull(repository).0);
        self
    }

    fn one(scope: String) -> Self {
        Self(BTreeSet::from([scope]))
    }
}

/// Where tokens come from, as a challenge says; the realm has been checked.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenService {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
}

/// The tokens of one client. Each set of scopes has a slot, whose lock makes concurrent requests wait for one fetch.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<Scopes, TokenSlot>>);

type TokenSlot = Arc<tokio::sync::Mutex<CachedToken>>;

#[derive(Default)]
struct CachedToken {
    token: Option<AccessToken>,
    /// The last failure, for those who waited while it happened.
    failure: Option<(Instant, RegistryError)>,
}

pub(crate) struct AccessToken {
    pub(crate) header: HeaderValue,
    pub(crate) renew_at: Instant,
}

impl AccessToken {
    /// Its life in seconds is counted by our own clock, and cut by a tenth, at most 30 s.
    pub(crate) fn new(mut header: HeaderValue, seconds: f64, received_at: Instant) -> Self {
        header.set_sensitive(true);
        let life = Duration::from_secs_f64(seconds.min(MAX_LIFE));
        Self { header, renew_at: received_at + life - (life / 10).min(MAX_EARLY_RENEWAL) }
    }
}

impl TokenCache {
    fn slot(&self, scopes: &Scopes) -> TokenSlot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_TOKENS && !slots.contains_key(scopes) {
            let now = Instant::now();
            let is_used = |slot: &TokenSlot| slot.try_lock().map_or(true, |cached| cached.is_good(now, None));
            slots.retain(|_, slot| is_used(slot));
            if slots.len() >= MAX_TOKENS {
                slots.clear();
            }
        }
        slots.entry(scopes.clone()).or_default().clone()
    }
}

impl CachedToken {
    fn is_good(&self, now: Instant, rejected: Option<&HeaderValue>) -> bool {
        self.token.as_ref().is_some_and(|token| token.renew_at > now && Some(&token.header) != rejected)
    }
}

impl Inner {
    /// A token for `scopes` as the value of `Authorization`, and whether it is a new one; never `rejected` again.
    pub(crate) async fn token(
        &self,
        service: &TokenService,
        scopes: &Scopes,
        rejected: Option<&HeaderValue>,
        task: &Operation,
    ) -> Result<(HeaderValue, bool), RegistryError> {
        let fetch = || self.fetch_token(service, scopes, task).boxed();
        self.kept_token(scopes, rejected, fetch, || name(service), task).await
    }

    /// The same, from wherever `fetch` gets a new one.
    pub(crate) async fn kept_token<'a>(
        &self,
        scopes: &Scopes,
        rejected: Option<&HeaderValue>,
        fetch: impl FnOnce() -> BoxFuture<'a, Result<AccessToken, RegistryError>>,
        name: impl FnOnce() -> String,
        task: &Operation,
    ) -> Result<(HeaderValue, bool), RegistryError> {
        let asked_at = Instant::now();
        let slot = self.auth.tokens.slot(scopes);
        let mut cached = slot.lock().await;
        if let Some(token) = cached.token.as_ref().filter(|_| cached.is_good(Instant::now(), rejected)) {
            return Ok((token.header.clone(), false));
        }
        if let Some((_, error)) = cached.failure.as_ref().filter(|(at, _)| *at >= asked_at) {
            return Err(error.clone());
        }
        cached.token = None;
        let fetched = match timeout(self.deadlines.token, fetch()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(task.error(ErrorKind::Unavailable, format!("{} gave no token in time", name()))),
        };
        match fetched {
            Ok(token) => {
                let header = token.header.clone();
                *cached = CachedToken { token: Some(token), failure: None };
                Ok((header, true))
            }
            Err(error) => {
                cached.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch_token(
        &self,
        service: &TokenService,
        scopes: &Scopes,
        task: &Operation,
    ) -> Result<AccessToken, RegistryError> {
        let mut retries = Retries::new(&self.token_pause, &self.deadlines);
        loop {
            match self.try_fetch_token(service, scopes, task).await {
                Ok(token) => return Ok(token),
                Err(failure) => retries.again(failure).await?,
            }
        }
    }

    async fn try_fetch_token(
        &self,
        service: &TokenService,
        scopes: &Scopes,
        task: &Operation,
    ) -> Result<AccessToken, AttemptError> {
        self.token_pause.wait(task, &self.deadlines).await?;
        let request = token_request(&self.auth.credentials, service, scopes);
        let is_trusted = self.site.is_trusted(&service.realm);
        let response = self.transport.send(request, is_trusted, Some(self.deadlines.headers)).await;
        let response = response.map_err(|trouble| task.failure(trouble))?;
        let received_at = Instant::now();
        let status = response.status();
        if status != StatusCode::OK {
            let answer = HttpResponse { response, url: service.realm.clone(), elsewhere: None };
            return Err(self.token_refused(answer, service, task).await);
        }
        let text = body::read(response, MAX_TOKEN_BYTES, &self.deadlines).await;
        let text = text.map_err(|trouble| task.failure(trouble))?;
        parse_token(&text, received_at).ok_or_else(|| {
            task.error(ErrorKind::InvalidContent, format!("{} answered without a token", name(service))).into()
        })
    }

    async fn token_refused(&self, answer: HttpResponse, service: &TokenService, task: &Operation) -> AttemptError {
        let status = answer.status();
        let refusal = answer.refusal(&self.deadlines).await;
        let host = name(service);
        let (kind, what) = match status.as_u16() {
            400 | 401 => (ErrorKind::Unauthorized, format!("the token service {host} refuses the credentials")),
            403 => (ErrorKind::Denied, format!("the token service {host} gives no access")),
            429 => (ErrorKind::RateLimited, format!("the token service {host} is asked too often")),
            _ if is_passing(status) => (ErrorKind::Unavailable, format!("the token service {host} does not work")),
            _ => (ErrorKind::Rejected, format!("the token service {host} gives no token")),
        };
        let said = refusal.error_of(kind, task);
        RegistryError { message: format!("{}; {what}", said.message), ..said }.into()
    }
}

/// GET with basic credentials (or none), as Docker's token specification has it; or, for an identity token, the
/// OAuth2 POST with a refresh token.
fn token_request(credentials: &Credentials, service: &TokenService, scopes: &Scopes) -> reqwest::Request {
    let mut url = service.realm.clone();
    let Credentials::IdentityToken(token) = credentials else {
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.service.iter().map(|service| ("service", service)));
            query.extend_pairs(scopes.0.iter().map(|scope| ("scope", scope)));
        }
        if url.query() == Some("") {
            url.set_query(None);
        }
        let mut request = reqwest::Request::new(Method::GET, url);
        if let Some(basic) = auth::basic(credentials) {
            request.headers_mut().insert(AUTHORIZATION, basic);
        }
        return request;
    };
    let scopes: Vec<&str> = scopes.0.iter().map(String::as_str).collect();
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "transship");
    form.append_pair("refresh_token", token.expose_secret());
    form.append_pair("service", service.service.as_deref().unwrap_or_default());
    form.append_pair("scope", &scopes.join(" "));
    let mut request = reqwest::Request::new(Method::POST, url);
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    *request.body_mut() = Some(form.finish().into());
    request
}

/// Reads a token; its life is counted from when it was received.
pub(crate) fn parse_token(text: &[u8], received_at: Instant) -> Option<AccessToken> {
    let document: Value = serde_json::from_slice(text).ok()?;
    let token = ["token", "access_token"].iter().find_map(|name| document[*name].as_str().filter(|t| !t.is_empty()))?;
    let header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    let stated = &document["expires_in"];
    let seconds = stated.as_f64().or_else(|| stated.as_str()?.parse().ok()).filter(|seconds| *seconds > 0.0);
    Some(AccessToken::new(header, seconds.unwrap_or(DEFAULT_LIFE), received_at))
}

fn name(service: &TokenService) -> String {
    canonical_host(&service.realm)
}

const MAX_TOKEN_BYTES: usize = 1024 * 1024;
const MAX_TOKENS: usize = 4096;

/// The life of a token in seconds when nothing is said about it, by Docker's token specification.
const DEFAULT_LIFE: f64 = 60.0;
const MAX_LIFE: f64 = 86_400.0;

/// How long before its end a token is renewed, at most.
const MAX_EARLY_RENEWAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_life_of_a_token_is_read_leniently_and_cut_a_little() {
        let now = Instant::now();
        let table = [
            (r#"{"token":"t","expires_in":300}"#, Some(270.0)),
            (r#"{"access_token":"t","expires_in":3600}"#, Some(3570.0)),
            (r#"{"token":"t","expires_in":"100"}"#, Some(90.0)),
            (r#"{"token":"","access_token":"t"}"#, Some(54.0)),
            (r#"{"token":"t","expires_in":-1,"issued_at":"1970-01-01T00:00:00Z"}"#, Some(54.0)),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"token":7}"#, None),
            ("[]", None),
            ("<html>", None),
        ];
        for (text, expected) in table {
            let found = parse_token(text.as_bytes(), now).map(|token| (token.renew_at - now).as_secs_f64());
            assert_eq!(found, expected, "{text}");
        }
    }
}

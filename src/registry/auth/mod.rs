//! The authentication layer: answers the challenges of a registry, and remembers how it authenticates.
//!
//! [`Auth`] owns the credentials and the tokens. It uses the HTTP layer for requests to token services alone.

pub(crate) mod challenge;
pub(crate) mod credentials;
pub(crate) mod docker_config;
pub(crate) mod issuer;
pub(crate) mod logins;
pub(crate) mod scopes;
pub(crate) mod token;
pub(crate) mod token_service;

use std::sync::Arc;

use futures::FutureExt;
use http::HeaderMap;
use http::header::HeaderValue;
use tokio::time::timeout;

use crate::locked::Locked;
use crate::registry::auth::challenge::{Challenge, challenges};
use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::issuer::LoginIssuer;
use crate::registry::auth::logins::Logins;
use crate::registry::auth::scopes::Scopes;
use crate::registry::auth::token::{AccessToken, ObtainedToken, TokenCache};
use crate::registry::auth::token_service::{TokenFetcher, TokenService};
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::Http;

/// The authentication of one client.
pub(crate) struct Auth {
    http: Arc<Http>,
    logins: Logins,
    issuer: Option<Arc<dyn LoginIssuer>>,
    fetcher: TokenFetcher,
    tokens: TokenCache,
    /// The scheme of the last challenge; `None` until the first one.
    scheme: Locked<Option<Scheme>>,
}

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    /// A login from the [`LoginIssuer`].
    Issued,
    Bearer(TokenService),
}

/// The authentication of one request.
#[derive(Default)]
pub(crate) struct Authorization {
    /// The value of `Authorization`.
    header: Option<HeaderValue>,
    scheme: Option<Scheme>,
    /// The credentials are as fresh as they can be: asking for others would give nothing better.
    is_new: bool,
}

impl Authorization {
    pub(crate) fn header(&self) -> Option<&HeaderValue> {
        self.header.as_ref()
    }
}

impl Auth {
    /// `issuer` replaces the credentials by logins of limited life, if the registry has such an API.
    pub(crate) fn new(http: Arc<Http>, logins: Logins, issuer: Option<Arc<dyn LoginIssuer>>) -> Self {
        let fetcher = TokenFetcher::new(http.clone());
        Self { http, logins, issuer, fetcher, tokens: TokenCache::default(), scheme: Locked::default() }
    }

    /// Returns the credentials for requests of these scopes.
    pub(crate) fn credentials(&self, scopes: &Scopes) -> &Credentials {
        self.logins.for_path(scopes.repository())
    }

    /// Returns a clause that explains why the registry may have refused a request of these scopes.
    pub(crate) fn remark(&self, scopes: &Scopes) -> Option<String> {
        self.logins.remark(scopes.repository())
    }

    /// Returns true if the last challenge asked for a token.
    pub(crate) fn is_bearer(&self) -> bool {
        matches!(self.scheme(), Some(Scheme::Bearer(_)))
    }

    /// Returns the token service that the last challenge named.
    pub(crate) fn token_service(&self) -> Option<TokenService> {
        match self.scheme() {
            Some(Scheme::Bearer(service)) => Some(service),
            _ => None,
        }
    }

    /// Returns the authorization that a request for `scopes` is first sent with, by the scheme of the last challenge.
    pub(crate) async fn authorize(
        &self,
        scopes: &Scopes,
        operation: &Operation,
    ) -> Result<Authorization, RegistryError> {
        match self.scheme() {
            None => Ok(Authorization::default()),
            Some(scheme) => self.authorize_by(scheme, scopes, None, operation).await,
        }
    }

    /// Returns the authorization to repeat a request with that was refused with `used`; `None` if there is none better.
    pub(crate) async fn answer_challenge(
        &self,
        headers: &HeaderMap,
        scopes: &Scopes,
        used: &Authorization,
        operation: &Operation,
    ) -> Result<Option<Authorization>, RegistryError> {
        let Some(scheme) = self.choose(&challenges(headers), scopes, operation)? else {
            return Ok(None);
        };
        *self.scheme.lock() = Some(scheme.clone());
        let is_same = used.scheme.as_ref() == Some(&scheme);
        if is_same && (used.is_new || scheme == Scheme::Basic) {
            return Ok(None);
        }
        let better = self.authorize_by(scheme, scopes, used.header.as_ref(), operation).await?;
        Ok(better.header.is_some().then_some(better))
    }

    /// Replaces the token in `used`, which the registry no longer accepts.
    pub(crate) async fn renew(
        &self,
        scopes: &Scopes,
        used: &Authorization,
        operation: &Operation,
    ) -> Result<(), RegistryError> {
        if let Some(scheme @ (Scheme::Bearer(_) | Scheme::Issued)) = used.scheme.clone() {
            self.authorize_by(scheme, scopes, used.header.as_ref(), operation).await?;
        }
        Ok(())
    }

    async fn authorize_by(
        &self,
        scheme: Scheme,
        scopes: &Scopes,
        rejected: Option<&HeaderValue>,
        operation: &Operation,
    ) -> Result<Authorization, RegistryError> {
        let (header, is_new) = match &scheme {
            Scheme::Basic => (self.credentials(scopes).basic(), true),
            Scheme::Issued => {
                let Some(issuer) = &self.issuer else { return Ok(Authorization::default()) };
                let fetch = || self.in_time(issuer.issue(operation), || issuer.host(), operation).boxed();
                let ObtainedToken { header, is_new } = self.tokens.get(&Scopes::default(), rejected, fetch).await?;
                (Some(header), is_new)
            }
            Scheme::Bearer(service) => {
                let fetched = || async {
                    let fetched = self.fetcher.fetch(self.credentials(scopes), service, scopes, operation).await;
                    fetched.map_err(|error| self.explained(error, scopes))
                };
                let fetch = || self.in_time(fetched(), || service.host(), operation).boxed();
                let ObtainedToken { header, is_new } = self.tokens.get(scopes, rejected, fetch).await?;
                (Some(header), is_new)
            }
        };
        Ok(Authorization { header, scheme: Some(scheme), is_new })
    }

    async fn in_time(
        &self,
        fetched: impl Future<Output = Result<AccessToken, RegistryError>>,
        host: impl FnOnce() -> String,
        operation: &Operation,
    ) -> Result<AccessToken, RegistryError> {
        match timeout(self.http.deadlines().token, fetched).await {
            Ok(fetched) => fetched,
            Err(_) => Err(operation.error(ErrorKind::Unavailable, format!("{} gave no token in time", host()))),
        }
    }

    /// Adds the cause to a refusal of the credentials, if it is known.
    fn explained(&self, error: RegistryError, scopes: &Scopes) -> RegistryError {
        match self.remark(scopes) {
            Some(remark) if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Denied) => {
                RegistryError { message: format!("{}; {remark}", error.message), ..error }
            }
            _ => error,
        }
    }

    /// Chooses a token if the registry offers one, as it reveals less than the password.
    fn choose(
        &self,
        offered: &[Challenge],
        scopes: &Scopes,
        operation: &Operation,
    ) -> Result<Option<Scheme>, RegistryError> {
        if self.issuer.is_some() {
            // The credentials themselves are never sent to the registry.
            return Ok(offered.iter().any(|challenge| challenge.scheme == "basic").then_some(Scheme::Issued));
        }
        let has_password = matches!(self.credentials(scopes), Credentials::Basic { .. });
        let basic = offered.iter().any(|challenge| challenge.scheme == "basic" && has_password);
        let bearer = offered.iter().find_map(|challenge| {
            let realm = challenge.parameter("realm").filter(|_| challenge.scheme == "bearer")?;
            Some((realm, challenge.parameter("service")))
        });
        match bearer.map(|(realm, service)| (self.http.hosts().realm(realm), service)) {
            Some((Ok(realm), service)) => {
                Ok(Some(Scheme::Bearer(TokenService { realm, service: service.map(str::to_owned) })))
            }
            Some((Err(error), _)) if !basic => Err(operation.attempt_error(error).error),
            _ => Ok(basic.then_some(Scheme::Basic)),
        }
    }

    fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().clone()
    }
}

#[cfg(test)]
mod tests;

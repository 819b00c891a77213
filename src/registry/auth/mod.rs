//! Logs in to a registry: remembers how it wants it, and answers its challenges.

pub(crate) mod challenge;
pub(crate) mod docker_config;
pub(crate) mod token;

use std::sync::{Mutex, PoisonError};

use crate::registry::auth::challenge::{Challenge, challenges};
use crate::registry::auth::token::{Scopes, TokenCache, TokenService};
use crate::registry::client::Credentials;
use crate::registry::error::{Operation, RegistryError};
use crate::registry::session::Inner;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use http::HeaderMap;
use http::header::HeaderValue;
use secrecy::ExposeSecret;

/// How one client logs in.
pub(crate) struct Auth {
    pub(crate) credentials: Credentials,
    pub(crate) tokens: TokenCache,
    /// What the last challenge asked for; nothing until the first one.
    scheme: Mutex<Option<Scheme>>,
}

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    /// A password that ECR gives for an access key.
    Ecr,
    Bearer(TokenService),
}

/// What one request logs in with.
#[derive(Default)]
pub(crate) struct Authorization {
    /// The value of `Authorization`.
    pub(crate) header: Option<HeaderValue>,
    scheme: Option<Scheme>,
    /// Whether the token was got for this very request: another one would be no better.
    is_new: bool,
}

impl Authorization {
    /// Just this value of `Authorization`, whatever the registry asks for.
    pub(crate) fn with(header: Option<HeaderValue>) -> Self {
        Self { header, ..Self::default() }
    }
}

impl Auth {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self { credentials, tokens: TokenCache::default(), scheme: Mutex::default() }
    }

    /// Whether the registry wants tokens.
    pub(crate) fn is_bearer(&self) -> bool {
        matches!(self.scheme(), Some(Scheme::Bearer(_)))
    }

    /// The token service that the last challenge named.
    pub(crate) fn token_service(&self) -> Option<TokenService> {
        match self.scheme() {
            Some(Scheme::Bearer(service)) => Some(service),
            _ => None,
        }
    }

    fn scheme(&self) -> Option<Scheme> {
        self.scheme.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inner {
    /// What a request for `scopes` is sent with at first: what the last challenge taught, if there was any.
    pub(crate) async fn login(&self, scopes: &Scopes, task: &Operation) -> Result<Authorization, RegistryError> {
        match self.auth.scheme() {
            None => Ok(Authorization::default()),
            Some(scheme) => self.login_by(scheme, scopes, None, task).await,
        }
    }

    /// What to send a request with again that `used` was not enough for; nothing if there is nothing better.
    pub(crate) async fn answer_challenge(
        &self,
        headers: &HeaderMap,
        scopes: &Scopes,
        used: &Authorization,
        task: &Operation,
    ) -> Result<Option<Authorization>, RegistryError> {
        let Some(scheme) = self.choose(&challenges(headers), task)? else {
            return Ok(None);
        };
        *self.auth.scheme.lock().unwrap_or_else(PoisonError::into_inner) = Some(scheme.clone());
        let is_same = used.scheme.as_ref() == Some(&scheme);
        if is_same && (used.is_new || scheme == Scheme::Basic) {
            return Ok(None);
        }
        let login = self.login_by(scheme, scopes, used.header.as_ref(), task).await?;
        Ok(login.header.is_some().then_some(login))
    }

    /// Forgets the token that `used` holds, as the registry does not take it any longer.
    pub(crate) async fn renew(
        &self,
        scopes: &Scopes,
        used: &Authorization,
        task: &Operation,
    ) -> Result<(), RegistryError> {
        if let Some(scheme @ (Scheme::Bearer(_) | Scheme::Ecr)) = used.scheme.clone() {
            self.login_by(scheme, scopes, used.header.as_ref(), task).await?;
        }
        Ok(())
    }

    async fn login_by(
        &self,
        scheme: Scheme,
        scopes: &Scopes,
        rejected: Option<&HeaderValue>,
        task: &Operation,
    ) -> Result<Authorization, RegistryError> {
        let (header, is_new) = match &scheme {
            Scheme::Basic => (basic(&self.auth.credentials), true),
            Scheme::Ecr => {
                let Some(ecr) = &self.ecr else { return Ok(Authorization::default()) };
                let fetch = || self.ecr_login(ecr, task).boxed();
                let name = || ecr.host();
                let (header, is_new) = self.kept_token(&Scopes::default(), rejected, fetch, name, task).await?;
                (Some(header), is_new)
            }
            Scheme::Bearer(service) => {
                let (header, is_new) = self.token(service, scopes, rejected, task).await?;
                (Some(header), is_new)
            }
        };
        Ok(Authorization { header, scheme: Some(scheme), is_new })
    }

    /// A token where the registry offers that, for it is the safer way; else the password.
    fn choose(&self, offered: &[Challenge], task: &Operation) -> Result<Option<Scheme>, RegistryError> {
        if self.ecr.is_some() {
            // The access key itself is shown to nobody.
            return Ok(offered.iter().any(|challenge| challenge.scheme == "basic").then_some(Scheme::Ecr));
        }
        let has_password = matches!(self.auth.credentials, Credentials::Basic { .. });
        let basic = offered.iter().any(|challenge| challenge.scheme == "basic" && has_password);
        let bearer = offered.iter().find_map(|challenge| {
            let realm = challenge.parameter("realm").filter(|_| challenge.scheme == "bearer")?;
            Some((realm, challenge.parameter("service")))
        });
        match bearer.map(|(realm, service)| (self.site.realm(realm), service)) {
            Some((Ok(realm), service)) => {
                Ok(Some(Scheme::Bearer(TokenService { realm, service: service.map(str::to_owned) })))
            }
            Some((Err(trouble), _)) if !basic => Err(task.failure(trouble).error),
            _ => Ok(basic.then_some(Scheme::Basic)),
        }
    }
}

/// The value of `Authorization` for a user name and password.
pub(crate) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password } = credentials else {
        return None;
    };
    let encoded = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests;

//! Tokens, and the cache that keeps them until they expire.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;

use crate::locked::Locked;
use crate::registry::auth::scopes::Scopes;
use crate::registry::error::RegistryError;

/// A token, or any other authorization that expires.
pub(crate) struct AccessToken {
    /// The value of `Authorization`; sensitive.
    pub(crate) header: HeaderValue,
    pub(crate) renew_at: Instant,
}

impl AccessToken {
    /// `seconds` is the life of the token; a tenth of it, at most 30 s, is left unused.
    pub(crate) fn new(mut header: HeaderValue, seconds: f64, received_at: Instant) -> Self {
        header.set_sensitive(true);
        let life = Duration::from_secs_f64(seconds.min(MAX_LIFE));
        Self { header, renew_at: received_at + life - (life / 10).min(MAX_EARLY_RENEWAL) }
    }
}

/// Parses the document of a token service. The life of the token counts from `received_at`, as clocks may differ.
pub(crate) fn parse_token(text: &[u8], received_at: Instant) -> Option<AccessToken> {
    let document: Value = serde_json::from_slice(text).ok()?;
    let token = ["token", "access_token"].iter().find_map(|name| document[*name].as_str().filter(|t| !t.is_empty()))?;
    let header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    let stated = &document["expires_in"];
    let seconds = stated.as_f64().or_else(|| stated.as_str()?.parse().ok()).filter(|seconds| *seconds > 0.0);
    Some(AccessToken::new(header, seconds.unwrap_or(DEFAULT_LIFE), received_at))
}

/// The tokens of one client, by scopes. Concurrent requests for the same scopes wait for one fetch.
#[derive(Default)]
pub(super) struct TokenCache(Locked<HashMap<Scopes, TokenSlot>>);

type TokenSlot = Arc<tokio::sync::Mutex<CachedToken>>;

#[derive(Default)]
struct CachedToken {
    token: Option<AccessToken>,
    /// The last failure, for the requests that waited while it happened.
    failure: Option<(Instant, RegistryError)>,
}

/// The value of `Authorization` for a token.
pub(super) struct ObtainedToken {
    pub(super) header: HeaderValue,
    /// It was fetched for this request.
    pub(super) is_new: bool,
}

impl TokenCache {
    /// Returns the token for `scopes`, from `fetch` if the cache holds none that is valid; never `rejected` again.
    pub(super) async fn get<'a>(
        &self,
        scopes: &Scopes,
        rejected: Option<&HeaderValue>,
        fetch: impl FnOnce() -> BoxFuture<'a, Result<AccessToken, RegistryError>>,
    ) -> Result<ObtainedToken, RegistryError> {
        let asked_at = Instant::now();
        let slot = self.slot(scopes);
        let mut cached = slot.lock().await;
        if let Some(token) = cached.token.as_ref().filter(|_| cached.is_valid(Instant::now(), rejected)) {
            return Ok(ObtainedToken { header: token.header.clone(), is_new: false });
        }
        if let Some((_, error)) = cached.failure.as_ref().filter(|(at, _)| *at >= asked_at) {
            return Err(error.clone());
        }
        cached.token = None;
        match fetch().await {
            Ok(token) => {
                let header = token.header.clone();
                *cached = CachedToken { token: Some(token), failure: None };
                Ok(ObtainedToken { header, is_new: true })
            }
            Err(error) => {
                cached.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn slot(&self, scopes: &Scopes) -> TokenSlot {
        let mut slots = self.0.lock();
        if slots.len() >= MAX_TOKENS && !slots.contains_key(scopes) {
            let now = Instant::now();
            let is_used = |slot: &TokenSlot| slot.try_lock().map_or(true, |cached| cached.is_valid(now, None));
            slots.retain(|_, slot| is_used(slot));
            if slots.len() >= MAX_TOKENS {
                slots.clear();
            }
        }
        slots.entry(scopes.clone()).or_default().clone()
    }
}

impl CachedToken {
    fn is_valid(&self, now: Instant, rejected: Option<&HeaderValue>) -> bool {
        self.token.as_ref().is_some_and(|token| token.renew_at > now && Some(&token.header) != rejected)
    }
}

/// The scopes that tokens are cached for.
const MAX_TOKENS: usize = 4096;

/// The life of a token in seconds if the service states none, by Docker's token specification.
const DEFAULT_LIFE: f64 = 60.0;
const MAX_LIFE: f64 = 86_400.0;

/// The longest time before its end that a token is renewed.
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

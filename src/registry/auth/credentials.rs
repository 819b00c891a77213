//! The credentials for a registry.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// The credentials for a registry; `Debug` shows no secret.
#[derive(Clone)]
pub enum Credentials {
    /// Requests carry no credentials; a token service may still give a token.
    Anonymous,
    /// A user name and a password or access token.
    Basic {
        /// The name, without a colon.
        username: String,
        /// The password, or the secret of a lasting access key.
        password: SecretString,
    },
    /// An OAuth2 refresh token (`identitytoken` of a docker config).
    IdentityToken(SecretString),
    /// A temporary access key, for registries that trade such keys for logins. A lasting key is `Basic`, with its id as
    /// the name.
    TemporaryKey {
        /// The id of the key, which is no secret.
        id: String,
        /// The secret access key, which signs requests and is never sent.
        secret: SecretString,
        /// The session token that belongs to the key.
        session_token: SecretString,
    },
}

impl Credentials {
    /// Returns the value of `Authorization` for a user name and password; `None` for other credentials.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let Self::Basic { username, password } = self else {
            return None;
        };
        let encoded = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(***)",
            Self::IdentityToken(_) => "IdentityToken(***)",
            Self::TemporaryKey { .. } => "TemporaryKey(***)",
        })
    }
}

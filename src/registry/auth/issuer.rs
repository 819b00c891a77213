//! APIs that trade long-lived credentials for a login to the registry.

use futures::future::BoxFuture;

use crate::registry::auth::token::AccessToken;
use crate::registry::error::{Operation, RegistryError};

/// An API that issues logins of limited life, so that the credentials themselves are never sent to the registry.
pub(crate) trait LoginIssuer: Send + Sync {
    /// Returns the host of the API, for messages.
    fn host(&self) -> String;

    /// Requests a new login.
    fn issue<'a>(&'a self, operation: &'a Operation) -> BoxFuture<'a, Result<AccessToken, RegistryError>>;
}

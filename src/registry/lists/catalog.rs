//! Lists the repositories of a registry.

use std::sync::Arc;

use crate::image::{InvalidNames, RepositoryName};
use crate::registry::auth::scopes::Scopes;
use crate::registry::error::{ErrorKind, RegistryError};
use crate::registry::lists::page::NameField;
use crate::registry::lists::query::{ListQuery, ListResult};
use crate::registry::session::Session;

/// The repositories of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryList {
    /// The repositories, sorted.
    pub names: Vec<RepositoryName>,
    /// Listed names that no repository can have.
    pub invalid: InvalidNames,
}

/// The catalog of one registry.
pub(crate) struct Catalog {
    session: Arc<Session>,
}

impl Catalog {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    /// Lists every repository (`_catalog`, following `Link`), and counts the names that no repository can have.
    ///
    /// # Errors
    /// `Unsupported` if the registry offers no catalog, or not to these credentials; `Unauthorized` if it refuses the
    /// credentials as such; `TooLarge` over 32 MiB of names.
    pub(crate) async fn repositories(&self) -> Result<RepositoryList, RegistryError> {
        let http = self.session.http();
        let operation = http.operation("listing the repositories", "");
        let query = ListQuery {
            first: http.hosts().catalog(),
            scopes: Scopes::catalog(),
            field: NameField::Repositories,
            operation: &operation,
            remedy: "name those that are wanted, with filterType: EXACT_MATCH",
        };
        let error = match query.read(&self.session, &|_| true, &mut |_| ()).await {
            Ok(ListResult::Names(names, invalid)) => {
                return Ok(RepositoryList { names: names.into_iter().collect(), invalid });
            }
            Ok(ListResult::Refused(refused)) => refused.error(&operation),
            Err(error) => error,
        };
        match error.kind {
            // Credentials that are refused everywhere are another problem than a catalog that is kept from them.
            ErrorKind::Unauthorized if self.session.ping().await.is_err_and(|ping| ping.kind == error.kind) => {
                Err(error)
            }
            ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unauthorized => {
                Err(RegistryError { kind: ErrorKind::Unsupported, ..error })
            }
            _ => Err(error),
        }
    }
}

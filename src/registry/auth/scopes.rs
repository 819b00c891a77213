//! The scopes of tokens.

use std::collections::BTreeSet;

use crate::image::RepositoryName;

/// The rights that a token is to give, as Docker's token specification spells them; in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// To read from `repository`.
    pub(crate) fn pull(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}:pull"))
    }

    /// To write to `repository`.
    pub(crate) fn push(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}:pull,push"))
    }

    /// To read the catalog.
    pub(crate) fn catalog() -> Self {
        Self::one("registry:catalog:*".to_owned())
    }

    /// Adds the right to read from `repository`.
    pub(crate) fn and_pull(mut self, repository: &RepositoryName) -> Self {
        self.0.extend(Self::pull(repository).0);
        self
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn one(scope: String) -> Self {
        Self(BTreeSet::from([scope]))
    }
}

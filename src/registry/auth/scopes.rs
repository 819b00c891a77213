//! The scopes of tokens.

use std::collections::BTreeSet;

use crate::image::RepositoryName;

/// The rights that a token is to give, as Docker's token specification spells them; in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// To read from `repository`.
    pub(crate) fn pull(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}{PULL}"))
    }

    /// To write to `repository`.
    pub(crate) fn push(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}{PUSH}"))
    }

    /// To write to `repository`, and to delete from it.
    pub(crate) fn delete(repository: &RepositoryName) -> Self {
        Self::one(format!("repository:{repository}{DELETE}"))
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

    /// Returns the repository that the rights are about: of two the one that is written to.
    pub(super) fn repository(&self) -> Option<&str> {
        let written = self.iter().find(|scope| scope.ends_with(PUSH) || scope.ends_with(DELETE));
        let scope = written.or_else(|| self.iter().find(|scope| scope.ends_with(PULL)))?;
        scope.strip_prefix("repository:")?.rsplit_once(':').map(|(repository, _)| repository)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn one(scope: String) -> Self {
        Self(BTreeSet::from([scope]))
    }
}

const PULL: &str = ":pull";
const PUSH: &str = ":pull,push";
const DELETE: &str = ":pull,push,delete";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_repositories_the_one_that_is_written_to_counts() {
        let (app, base) = ("team/app".parse().unwrap(), "a/base".parse().unwrap());
        let table = [
            (Scopes::pull(&app), Some("team/app")),
            (Scopes::push(&app), Some("team/app")),
            (Scopes::delete(&app), Some("team/app")),
            (Scopes::push(&app).and_pull(&base), Some("team/app")),
            (Scopes::catalog(), None),
            (Scopes::default(), None),
        ];
        for (scopes, expected) in table {
            assert_eq!(scopes.repository(), expected, "{scopes:?}");
        }
    }
}

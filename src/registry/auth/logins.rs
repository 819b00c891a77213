//! The logins for one registry: one account for all of it, or several for parts of it.

use std::cmp::Reverse;

use secrecy::ExposeSecret;

use crate::image::{Algorithm, Digest, DigestHasher, RepositoryName};
use crate::registry::auth::credentials::Credentials;

/// The logins for one registry. `Debug` shows no secret.
#[derive(Clone, Debug, Default)]
pub struct Logins {
    /// The longest path first; no path twice.
    entries: Vec<PathLogin>,
    unused: Option<String>,
}

/// The login for the repositories below a path.
#[derive(Clone, Debug)]
pub struct PathLogin {
    /// The front part of repositories, up to a slash; empty for all of them.
    pub path: String,
    /// The credentials for them.
    pub credentials: Credentials,
}

impl From<Credentials> for Logins {
    fn from(credentials: Credentials) -> Self {
        Self::new(vec![PathLogin { path: String::new(), credentials }], None)
    }
}

impl Logins {
    /// Puts `entries` together; of several for one path the first counts. `unused` is a clause about logins that exist
    /// and cannot be used; it appears where the registry refuses a request.
    pub fn new(mut entries: Vec<PathLogin>, unused: Option<String>) -> Self {
        entries
            .sort_by(|one, other| (Reverse(one.path.len()), &one.path).cmp(&(Reverse(other.path.len()), &other.path)));
        entries.dedup_by(|one, other| one.path == other.path);
        Self { entries, unused }
    }

    /// Returns each login with its path.
    pub fn entries(&self) -> &[PathLogin] {
        &self.entries
    }

    /// Returns the clause about logins that exist and cannot be used.
    pub fn unused(&self) -> Option<&str> {
        self.unused.as_deref()
    }

    /// Returns the credentials for `repository`: those of the longest path above it. Without a repository, as for the
    /// catalog, those for all repositories, or else those of the shortest path.
    pub fn credentials(&self, repository: Option<&RepositoryName>) -> &Credentials {
        self.for_path(repository.map(RepositoryName::as_str))
    }

    /// Like [`Logins::credentials`], for the text of a repository name.
    pub(super) fn for_path(&self, repository: Option<&str>) -> &Credentials {
        let found = match repository {
            Some(repository) => self.entries.iter().find(|entry| is_below(&entry.path, repository)),
            None => self.entries.last(),
        };
        found.map_or(&Credentials::Anonymous, |entry| &entry.credentials)
    }

    /// Returns a clause about the credentials for `repository` that explains why a registry may refuse them.
    pub(super) fn remark(&self, repository: Option<&str>) -> Option<String> {
        let credentials = self.for_path(repository);
        if let Credentials::Basic { username, password } = credentials
            && [username, password.expose_secret()].iter().any(|text| text.ends_with(['\n', '\r']))
        {
            return Some(ENDS_IN_LINE_BREAK.to_owned());
        }
        let is_anonymous = matches!(credentials, Credentials::Anonymous);
        let paths: Vec<&str> = self.entries.iter().map(|entry| entry.path.as_str()).collect();
        let elsewhere = (is_anonymous && paths.iter().any(|path| !path.is_empty()))
            .then(|| format!("the logins for this host are for {}", paths.join(", ")));
        let clauses = [is_anonymous.then(|| "no credentials were sent".to_owned()), elsewhere, self.unused.clone()];
        let clauses: Vec<String> = clauses.into_iter().flatten().collect();
        (!clauses.is_empty()).then(|| clauses.join(": "))
    }

    /// Returns a hash of everything in the logins, which shows changes without keeping the secrets.
    pub fn fingerprint(&self) -> Digest {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        let mut add = |part: &str| {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part.as_bytes());
        };
        for PathLogin { path, credentials } in &self.entries {
            add(path);
            match credentials {
                Credentials::Anonymous => add("anonymous"),
                Credentials::Basic { username, password } => {
                    ["basic", username, password.expose_secret()].into_iter().for_each(&mut add);
                }
                Credentials::IdentityToken(token) => ["identity", token.expose_secret()].into_iter().for_each(&mut add),
                Credentials::TemporaryKey { id, secret, session_token } => {
                    let (secret, session_token) = (secret.expose_secret(), session_token.expose_secret());
                    ["temporary", id, secret, session_token].into_iter().for_each(&mut add);
                }
            }
        }
        add(self.unused.as_deref().unwrap_or_default());
        hasher.finish()
    }
}

/// Returns true if `repository` is `path` or below it.
fn is_below(path: &str, repository: &str) -> bool {
    match repository.strip_prefix(path) {
        Some(rest) => path.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

const ENDS_IN_LINE_BREAK: &str = "the user name or password that was sent ends in a line break, as a Secret has it whose \
value was made with echo: make it with printf or echo -n";

#[cfg(test)]
mod tests {
    use super::*;

    fn login(path: &str, username: &str) -> PathLogin {
        let credentials = Credentials::Basic { username: username.to_owned(), password: "secret".into() };
        PathLogin { path: path.to_owned(), credentials }
    }

    fn user<'a>(logins: &'a Logins, repository: Option<&str>) -> &'a str {
        match logins.for_path(repository) {
            Credentials::Basic { username, .. } => username,
            _ => "",
        }
    }

    #[test]
    fn the_longest_path_above_a_repository_wins() {
        let logins = Logins::new(
            vec![login("", "all"), login("team", "team"), login("team/app", "app"), login("team", "late")],
            None,
        );
        let table = [
            (Some("team/app"), "app"),
            (Some("team/app/sub"), "app"),
            (Some("team/application"), "team"),
            (Some("team"), "team"),
            (Some("teams/app"), "all"),
            (None, "all"),
        ];
        for (repository, expected) in table {
            assert_eq!(user(&logins, repository), expected, "{repository:?}");
        }
        let parts = Logins::new(vec![login("team/app", "app"), login("other", "other")], None);
        assert_eq!((user(&parts, Some("third/app")), user(&parts, None)), ("", "other"));
    }

    #[test]
    fn a_remark_says_what_was_sent_and_what_was_not() {
        let sent = |username: &str, password: &str| {
            let password = password.into();
            Logins::from(Credentials::Basic { username: username.to_owned(), password }).remark(None)
        };
        assert_eq!(sent("user", "secret"), None);
        for (username, password) in [("user", "secret\n"), ("user", "secret\r\n"), ("user\n", "secret")] {
            let remark = sent(username, password).unwrap();
            assert!(remark.contains("line break") && !remark.contains("secret"), "{remark}");
        }
        assert_eq!(Logins::default().remark(None).as_deref(), Some("no credentials were sent"));
        let helped = Logins::new(Vec::new(), Some("a helper is not run".to_owned()));
        assert_eq!(helped.remark(None).as_deref(), Some("no credentials were sent: a helper is not run"));
        let parts = Logins::new(vec![login("team", "t"), login("a", "a")], None);
        let remark = parts.remark(Some("other/app")).unwrap();
        assert_eq!(remark, "no credentials were sent: the logins for this host are for team, a");
        assert_eq!(parts.remark(Some("team/app")), None);
    }

    #[test]
    fn a_fingerprint_changes_with_each_part() {
        let one = Logins::new(vec![login("team", "user")], None);
        let others = [
            Logins::new(vec![login("teams", "user")], None),
            Logins::new(vec![login("team", "users")], None),
            Logins::new(vec![login("team", "user")], Some("x".to_owned())),
            Logins::new(vec![login("team", "user"), login("", "user")], None),
            Logins::default(),
        ];
        assert_eq!(one.fingerprint(), one.clone().fingerprint());
        assert!(others.iter().all(|other| other.fingerprint() != one.fingerprint()));
    }
}

//! Tests of the entry of a docker configuration that an image gets.

use secrecy::ExposeSecret;

use super::{DockerConfig, DockerConfigError};
use crate::registry::Credentials;

/// Parses entries whose user names are their keys.
fn config(keys: &[&str]) -> DockerConfig {
    let logins: Vec<_> = keys.iter().map(|key| format!(r#""{key}":{{"username":"{key}","password":"p"}}"#)).collect();
    DockerConfig::parse(format!(r#"{{"auths":{{{}}}}}"#, logins.join(",")).as_bytes()).unwrap()
}

fn found(config: &DockerConfig, host: &str, repository: &str) -> Option<String> {
    let repository = (!repository.is_empty()).then(|| repository.parse().unwrap());
    match config.credentials_for(host, repository.as_ref())? {
        Credentials::Basic { username, .. } => Some(username),
        _ => None,
    }
}

#[test]
fn entries_match_as_in_the_kubelet() {
    // keys; host; repository; the key that wins
    let table: [(&[&str], &str, &str, Option<&str>); 24] = [
        (&["r.example"], "r.example", "", Some("r.example")),
        (&["https://r.example/v1/"], "r.example", "a", Some("https://r.example/v1/")),
        (&["https://r.example/v2/"], "r.example", "a", Some("https://r.example/v2/")),
        (&["R.Example"], "r.example", "", Some("R.Example")),
        (&["r.example"], "r.example:5000", "", None),
        (&["r.example:5000"], "r.example", "", None),
        (&["r.example:5000"], "r.example:5000", "", Some("r.example:5000")),
        (&["r.example:443"], "r.example", "", Some("r.example:443")),
        (&["[::1]:5000"], "[::1]:5000", "", Some("[::1]:5000")),
        (&["[::1]"], "[::1]", "", Some("[::1]")),
        (&["https://index.docker.io/v1/"], "docker.io", "library/a", Some("https://index.docker.io/v1/")),
        (&["docker.io"], "registry-1.docker.io", "", Some("docker.io")),
        (&["*.example.com"], "a.example.com", "", Some("*.example.com")),
        (&["*.example.com"], "a.b.example.com", "", None),
        (&["*.example.com"], "example.com", "", None),
        (&["prefix-*.*.com"], "prefix-a.b.com", "", Some("prefix-*.*.com")),
        (&["*.example.com:5000"], "a.example.com", "", None),
        (&["*.example.com", "a.example.com"], "a.example.com", "", Some("a.example.com")),
        (&["r.example", "r.example/team"], "r.example", "team/app", Some("r.example/team")),
        (&["r.example", "r.example/team"], "r.example", "teams/app", Some("r.example")),
        (&["r.example/team"], "r.example", "", None),
        (&["r.example/team", "r.example/team/app"], "r.example", "team/app", Some("r.example/team/app")),
        (&["evil.example"], "r.example", "", None),
        (&["*"], "r.example", "", None),
    ];
    for (keys, host, repository, expected) in table {
        let found = found(&config(keys), host, repository);
        assert_eq!(found.as_deref(), expected, "{keys:?} for {host}/{repository}");
    }
}

#[test]
fn logins_are_read_in_each_form() {
    let login = |fields: &str| {
        let config = DockerConfig::parse(format!(r#"{{"auths":{{"r.example":{{{fields}}}}}}}"#).as_bytes());
        config.map(|config| match config.credentials_for("r.example", None) {
            None => "none".to_owned(),
            Some(Credentials::Anonymous) => "anonymous".to_owned(),
            Some(Credentials::Basic { username, password }) => format!("{username} {}", password.expose_secret()),
            Some(Credentials::IdentityToken(token)) => format!("token {}", token.expose_secret()),
            Some(Credentials::TemporaryKey { .. }) => "temporary key".to_owned(),
        })
    };
    let table = [
        (r#""auth":"dXNlcjpzZWNyZXQ=""#, Ok("user secret")),
        (r#""auth":"dXNlcjpzZWNyZXQ""#, Ok("user secret")),
        (r#""auth":"dXNlcjpzOmU6Yw==","email":"x""#, Ok("user s:e:c")),
        (r#""username":"u","password":"p""#, Ok("u p")),
        (r#""auth":"","username":"u","password":"p""#, Ok("u p")),
        (r#""auth":"PHRva2VuPjo=","identitytoken":"t""#, Ok("token t")),
        (r#""username":"u""#, Ok("none")),
        ("", Ok("none")),
        (r#""auth":"c2VjcmV0""#, Err(DockerConfigError::Auth)),
        (r#""auth":"%""#, Err(DockerConfigError::Auth)),
        (r#""auth":7"#, Err(DockerConfigError::Malformed)),
    ];
    for (fields, expected) in table {
        assert_eq!(login(fields), expected.map(str::to_owned), "{fields}");
    }
}

#[test]
fn both_forms_of_documents_are_read_and_helpers_are_only_mentioned() {
    let old = DockerConfig::parse(br#"{"r.example":{"auth":"dXNlcjpzZWNyZXQ="}}"#).unwrap();
    assert_eq!(found(&old, "r.example", "").as_deref(), Some("user"));
    assert!(!old.has_helpers());
    let helped = DockerConfig::parse(br#"{"credsStore":"desktop","credHelpers":{"r.example":"ecr-login"}}"#).unwrap();
    assert!(helped.has_helpers() && helped.credentials_for("r.example", None).is_none());
    assert!(DockerConfig::parse(br#"{"auths":null}"#).is_ok());
}

#[test]
fn malformed_documents_are_refused_without_repeating_them() {
    for document in ["", "secret", "[]", r#"{"auths":"secret"}"#, r#"{"auths":{"r":"secret"}}"#] {
        let error = DockerConfig::parse(document.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{document}: {error}");
    }
    let large = vec![b' '; DockerConfig::MAX_BYTES + 1];
    assert_eq!(DockerConfig::parse(&large).unwrap_err(), DockerConfigError::TooLarge);
}

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
    match config.logins_for(host).for_path(Some(repository)) {
        Credentials::Basic { username, .. } => Some(username.clone()),
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
        let logins = config.map(|config| config.logins_for("r.example"));
        logins.map(|logins| match logins.entries().first().map(|entry| entry.credentials.clone()) {
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
        (r#""auth":"c2VjcmV0""#, Ok("none")),
        (r#""auth":"%""#, Ok("none")),
        (r#""auth":7"#, Ok("none")),
    ];
    for (fields, expected) in table {
        assert_eq!(login(fields), expected.map(str::to_owned), "{fields}");
    }
}

#[test]
fn an_entry_that_cannot_be_read_spoils_no_other_and_is_named_for_its_host() {
    let table = [
        (r#"{"auth":"c2VjcmV0"}"#, "auth is not base64 of user:password"),
        (r#"{"auth":"%"}"#, "auth is not base64 of user:password"),
        (r#"{"auth":7}"#, "it is not an object of strings"),
        (r#""secret""#, "it is not an object of strings"),
        (r#"["secret"]"#, "it is not an object of strings"),
    ];
    for (entry, fault) in table {
        let good = r#"{"username":"u","password":"p"}"#;
        let document =
            format!(r#"{{"auths":{{"bad.example/team":{entry},"bad.example/other":{good},"r.example":{good}}}}}"#);
        let config = DockerConfig::parse(document.as_bytes()).unwrap();
        let (good, bad) = (config.logins_for("r.example"), config.logins_for("bad.example"));
        assert_eq!((good.entries().len(), good.unused()), (1, None), "{entry}");
        let expected = format!("of the docker configuration, its entry bad.example/team cannot be read ({fault})");
        assert_eq!((bad.entries().len(), bad.unused()), (1, Some(expected.as_str())), "{entry}");
    }
}

#[test]
fn logins_that_exist_and_are_not_used_are_named() {
    let config = |document: &str| DockerConfig::parse(document.as_bytes()).unwrap();
    let unused = |document: &str, host: &str| config(document).logins_for(host).unused().map(str::to_owned);
    let helpers =
        r#"{"auths":{"b.example":{}},"credsStore":"desktop","credHelpers":{"https://a.example/v1/":"ecr-login"}}"#;
    assert!(unused(helpers, "a.example").unwrap().contains("the credential helper ecr-login"));
    assert!(unused(helpers, "b.example").unwrap().contains("the credential store desktop"));
    let port = r#"{"auths":{"r.example:5000":{"username":"u","password":"p"}}}"#;
    assert!(unused(port, "r.example").unwrap().contains("its entry r.example:5000 is for another port"));
    assert_eq!(unused(port, "r.example:5000"), None);
    assert_eq!(unused(port, "other.example"), None);
    let odd = r#"{"credsStore":7,"credHelpers":{"r.example":"a b; rm"}}"#;
    assert_eq!(unused(odd, "r.example"), None);
}

#[test]
fn accounts_for_parts_of_a_host_are_kept_apart() {
    let config = config(&["r.example", "r.example/team", "https://r.example/v2/team/app/", "other.example/team"]);
    let logins = config.logins_for("r.example");
    let paths: Vec<_> = logins.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["team/app", "team", ""]);
    let parts: Vec<_> = ["index.docker.io/v1/", "https://docker.io/library"].into();
    assert_eq!(self::config(&parts).logins_for("docker.io").entries().len(), 2);
}

#[test]
fn both_forms_of_documents_are_read_and_helpers_are_only_mentioned() {
    let old = DockerConfig::parse(br#"{"r.example":{"auth":"dXNlcjpzZWNyZXQ="}}"#).unwrap();
    assert_eq!(found(&old, "r.example", "").as_deref(), Some("user"));
    assert_eq!(old.logins_for("r.example").unused(), None);
    let helped = DockerConfig::parse(br#"{"credsStore":"desktop","credHelpers":{"r.example":"ecr-login"}}"#).unwrap();
    let logins = helped.logins_for("r.example");
    assert!(logins.unused().is_some() && logins.entries().is_empty());
    assert!(DockerConfig::parse(br#"{"auths":null}"#).is_ok());
}

#[test]
fn malformed_documents_are_refused_without_repeating_them() {
    for document in ["", "secret", "[]", r#"{"auths":"secret"}"#, r#"{"auths":["secret"]}"#] {
        let error = DockerConfig::parse(document.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{document}: {error}");
    }
    let large = vec![b' '; DockerConfig::MAX_BYTES + 1];
    assert_eq!(DockerConfig::parse(&large).unwrap_err(), DockerConfigError::TooLarge);
}

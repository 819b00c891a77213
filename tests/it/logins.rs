//! Logins and certificates as people have them, by `transship sync` and `plan`.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::standalone::{Files, basic, text};
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::run_folder::new_folder;
use crate::support::scripted::{Login, PASSWORD, Personality, ScriptedRegistry, USER};
use crate::support::tls::TestAuthority;

/// Returns files that replicate the repositories `team/app` and `other` between two registries.
pub fn files(name: &str, source: &str, destination: &str, options: Value) -> Files {
    let mut files = Files::new(name);
    for (name, url) in [("source", source), ("d", destination)] {
        let mut spec = options.clone();
        spec["url"] = json!(url);
        spec["allowHTTP"] = json!(url.starts_with("http://"));
        files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
    }
    let filters: Vec<_> =
        ["team/app", "other"].map(|filter| json!({"filter": filter, "filterType": "EXACT_MATCH"})).into();
    let rules =
        json!([{"name": "all", "repositoryFilters": filters, "destinations": [{"registryRef": {"name": "d"}}]}]);
    let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": rules});
    files.add("ReplicationConfiguration", json!({"namespace": "team-a", "name": "all"}), spec);
    files
}

/// Returns a source with an image in each repository, and a destination.
fn registries(login: Login) -> (ScriptedRegistry, ScriptedRegistry) {
    let source = ScriptedRegistry::start(Personality { login, ..Personality::plain() });
    for repository in ["team/app", "other"] {
        source.push(repository, "1", &Image::single(1, 1, 500));
    }
    (source, ScriptedRegistry::start(Personality::plain()))
}

/// Runs a command with this docker configuration, and without a home.
pub async fn run(mut command: Command, docker_config: &Path) -> Output {
    command.env("DOCKER_CONFIG", docker_config).env("HOME", new_folder("no-home")).output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_docker_configuration_that_is_not_there_or_empty_is_anonymous() {
    let (source, destination) = registries(Login::Anonymous);
    let files = files("no-logins", &source.url(), &destination.url(), json!({}));
    let (empty, with_empty_file) = (new_folder("empty-docker"), new_folder("empty-docker-file"));
    std::fs::write(with_empty_file.join("config.json"), "\n").unwrap();
    for docker_config in [empty.clone(), empty.join("absent"), with_empty_file, Path::new("").to_owned()] {
        let synced = run(files.command("sync", &[]), &docker_config).await;
        assert_eq!(synced.status.code(), Some(0), "{}: {}", docker_config.display(), text(&synced));
    }
    let absent = empty.join("absent.json");
    let named = run(files.command("sync", &["--docker-config", absent.to_str().unwrap()]), &empty).await;
    assert_eq!(named.status.code(), Some(2), "a file that is named has to be there: {}", text(&named));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_has_its_login_and_an_unreadable_entry_spoils_no_other() {
    for login in [Login::Basic, Login::Bearer(crate::support::scripted::Bearer::plain())] {
        let (source, destination) = registries(login);
        let files = files("two-accounts", &source.url(), &destination.url(), json!({}));
        let host = source.host();
        let right = json!({"auth": basic(USER, PASSWORD)});
        let wrong = json!({"auth": basic(USER, "wrong-canary")});
        let auths = json!({ host.clone(): wrong, format!("{host}/team"): right, "elsewhere.example": {"auth": "%"} });
        let folder = new_folder("two-accounts-docker");
        std::fs::write(folder.join("config.json"), json!({ "auths": auths }).to_string()).unwrap();
        let synced = run(files.command("sync", &[]), &folder).await;
        let printed = text(&synced);
        assert_eq!(destination.tags("team/app").len(), 1, "{login:?}: {printed}");
        assert!(destination.tags("other").is_empty() && synced.status.code() == Some(1), "{login:?}: {printed}");
        assert!(!printed.contains("elsewhere") && !printed.contains("wrong-canary"), "{login:?}: {printed}");

        let auths = json!({ host.clone(): right, format!("{host}/team"): {"auth": "secret-canary"} });
        std::fs::write(folder.join("config.json"), json!({ "auths": auths }).to_string()).unwrap();
        let synced = run(files.command("sync", &[]), &folder).await;
        assert_eq!(synced.status.code(), Some(0), "{login:?}: {}", text(&synced));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_the_logins_that_exist_and_were_not_used() {
    let (source, destination) = registries(Login::Basic);
    let files = files("unused-logins", &source.url(), &destination.url(), json!({}));
    let host = source.host();
    let right = basic(USER, PASSWORD);
    // the configuration; words of the message
    let table = [
        (json!({}), "no credentials were sent"),
        (json!({"credHelpers": {host.clone(): "ecr-login"}}), "the credential helper ecr-login"),
        (json!({"auths": {host.clone(): {}}, "credsStore": "desktop"}), "the credential store desktop"),
        (json!({"auths": {host.clone(): {"auth": "secret-canary"}}}), "cannot be read (auth is not base64"),
        (json!({"auths": {"127.0.0.1": {"auth": right}}}), "its entry 127.0.0.1 is for another port"),
        (json!({"auths": {format!("{host}/third"): {"auth": right}}}), "the logins for this host are for third"),
        (json!({"auths": {host.clone(): {"username": USER, "password": format!("{PASSWORD}\n")}}}), "a line break"),
    ];
    let folder = new_folder("unused-logins-docker");
    for (configuration, expected) in table {
        std::fs::write(folder.join("config.json"), configuration.to_string()).unwrap();
        for subcommand in ["plan", "sync"] {
            let refused = run(files.command(subcommand, &[]), &folder).await;
            let printed = text(&refused);
            assert_eq!(refused.status.code(), Some(1), "{subcommand}, {configuration}: {printed}");
            assert!(printed.contains(expected), "{subcommand}, {configuration}: {printed}");
            assert!(!printed.contains("canary") && !printed.contains(&right), "{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_besides_those_of_the_system_by_sync() {
    let source = TestRegistry::distribution("besides-source").tls().start().await;
    for repository in ["team/app", "other"] {
        source.pusher().push(repository, "1", &Image::single(1, 1, 500)).await;
    }
    let destination = ScriptedRegistry::start(Personality::plain());
    let mut files = files("besides", &source.url(), &destination.url(), json!({}));
    let private = TestAuthority::new("Another authority of a registry");
    let ca = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "team-a", "name": "ca"},
        "data": {"ca.crt": private.pem()}});
    files.documents.push(ca);
    files.documents[0]["spec"]["tls"] = json!({"caConfigMapRef": {"name": "ca"}});
    let nothing = new_folder("besides-docker");
    let mut command = files.command("sync", &[]);
    command.env("SSL_CERT_FILE", TestAuthority::shared().file());
    let synced = run(command, &nothing).await;
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));

    let mut command = files.command("sync", &[]);
    command.env("SSL_CERT_FILE", private.file());
    let refused = run(command, &nothing).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("TLS with"), "{}", text(&refused));
}

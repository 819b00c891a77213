//! `transship sync` and `transship plan`: the same kinds, without a cluster, between real registries.

mod creation;
mod ending;
mod output;
mod reading;
mod retrying;

use std::path::PathBuf;
use std::process::Output;

use base64::Engine;
use serde_json::{Value, json};

use crate::stories::kinds::{arrived, push_one_of_each};
use crate::stories::scene::PASSWORD;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::run_folder::new_folder;

/// Files of one sync.
pub struct Files {
    pub folder: PathBuf,
    pub documents: Vec<Value>,
    logins: Value,
}

impl Files {
    /// None yet.
    pub fn new(name: &str) -> Self {
        Self { folder: new_folder(name), documents: Vec::new(), logins: json!({}) }
    }

    pub fn registry(&mut self, namespace: &str, name: &str, registry: &TestRegistry, user: &str) -> &mut Self {
        let metadata = json!({"namespace": namespace, "name": name});
        let spec = json!({"url": format!("http://{}", registry.host()), "allowHTTP": true,
            "credentials": {"secretRef": {"name": name}}});
        self.login(registry, user, PASSWORD);
        self.add("Registry", metadata, spec)
    }

    /// The configuration of a docker client that is logged in.
    fn login(&mut self, registry: &TestRegistry, user: &str, password: &str) {
        self.login_at(&registry.host(), user, password);
    }

    /// The same for a registry at `host`.
    pub fn login_at(&mut self, host: &str, user: &str, password: &str) {
        self.logins[host] = json!({"auth": basic(user, password)});
    }

    /// Replicates repositories that begin with `prefix` from the Registry `source` of team-a.
    pub fn configuration(&mut self, name: &str, prefix: &str, destinations: &[Value]) -> &mut Self {
        let destinations: Vec<_> = destinations.iter().map(|reference| json!({"registryRef": reference})).collect();
        let filters = json!([{"filter": prefix, "filterType": "PREFIX_MATCH"}]);
        let rules = json!([{"name": "all", "repositoryFilters": filters, "destinations": destinations}]);
        let spec = json!({"source": {"registryRef": {"name": "source"}}, "rules": rules});
        self.add("ReplicationConfiguration", json!({"namespace": "team-a", "name": name}), spec)
    }

    /// Adds a document.
    pub fn add(&mut self, kind: &str, metadata: Value, spec: Value) -> &mut Self {
        let document =
            json!({"apiVersion": "transship.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        self.documents.push(document);
        self
    }

    /// Runs a subcommand with everything that was added.
    pub async fn run(&self, subcommand: &str, more: &[&str]) -> Output {
        let output =
            tokio::time::timeout(std::time::Duration::from_secs(60), self.command(subcommand, more).output()).await;
        output.expect("it ends in a minute").unwrap()
    }

    /// Returns the command, to be run.
    pub fn command(&self, subcommand: &str, more: &[&str]) -> tokio::process::Command {
        let file = self.write();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_transship"));
        command.arg(subcommand).arg("-f").arg(&file).env("DOCKER_CONFIG", &self.folder).args(more).kill_on_drop(true);
        // Two minutes are for people: the first attempts show a failure that stays.
        command.env("TRANSSHIP_RETRY_FOR", "2s");
        command
    }

    /// Writes the documents and logins, and returns the path of the documents. A process that reads them meanwhile
    /// finds the earlier or the new ones.
    pub fn write(&self) -> PathBuf {
        let documents: Vec<_> = self.documents.iter().map(Value::to_string).collect();
        self.replace("config.json", &json!({"auths": self.logins}).to_string());
        self.replace("all.yaml", &documents.join("\n---\n"))
    }

    /// Replaces one file at once, unless it has this content.
    pub fn replace(&self, name: &str, content: &str) -> PathBuf {
        let (file, partial) = (self.folder.join(name), self.folder.join(format!("{name}.partial")));
        if std::fs::read_to_string(&file).ok().as_deref() != Some(content) {
            std::fs::write(&partial, content).unwrap();
            std::fs::rename(&partial, &file).unwrap();
        }
        file
    }

    /// Returns the folder that remembers what was verified.
    pub fn state(&self) -> String {
        self.folder.join("state").display().to_string()
    }
}

/// Returns all that it printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Credentials as docker configurations and `Authorization` headers have them.
pub fn basic(user: &str, password: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_images_arrive_by_sync_a_second_asks_only_the_source() {
    let source = TestRegistry::distribution("sync-source").user("reader", PASSWORD).start().await;
    let new = TestRegistry::distribution("sync-new").user("writer", PASSWORD).start().await;
    let old = TestRegistry::docker_2_8("sync-old").user("writer", PASSWORD).start().await;
    let images = push_one_of_each(&source).await;
    let mut files = Files::new("sync");
    files.registry("team-a", "source", &source, "reader");
    files.registry("team-a", "new", &new, "writer").registry("team-a", "old", &old, "writer");
    files.configuration("kinds", "kinds/", &[json!({"name": "new"}), json!({"name": "old"})]);

    let planned = files.run("plan", &["--state", &files.state()]).await;
    assert!(text(&planned).contains("rule all: PREFIX_MATCH kinds/"), "{}", text(&planned));
    assert!(text(&planned).contains("copy "), "{}", text(&planned));
    assert!(new.access_log().iter().all(|line| !format!("{line:?}").contains("PUT")), "a plan writes nothing");

    let synced = files.run("sync", &["--state", &files.state()]).await;
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));
    assert!(!text(&synced).contains(PASSWORD), "no secret is printed");
    arrived(&source, &new, &images).await;
    arrived(&source, &old, &images).await;

    let before = (new.access_log().len(), old.access_log().len());
    let again = files.run("sync", &["--state", &files.state(), "--output", "json"]).await;
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    let printed: Value = serde_json::from_slice(&again.stdout).unwrap();
    let summary = ["images", "complete", "failed"].map(|field| printed["summary"][field].as_u64().unwrap());
    assert_eq!(summary, [images.len() as u64 * 2, images.len() as u64 * 2, 0]);
    let usage = ["bytesMoved", "bytesStored"].map(|field| printed["summary"][field].as_u64().unwrap());
    assert!(usage.iter().all(|bytes| *bytes > 100_000), "the usage of the run before is known: {usage:?}");
    assert_eq!(before, (new.access_log().len(), old.access_log().len()), "the destinations were not asked");

    let without_state = files.run("sync", &[]).await;
    assert!(text(&without_state).contains("already there"), "{}", text(&without_state));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_owners_registry_needs_his_policy_also_without_a_cluster() {
    let source = TestRegistry::distribution("sync-a").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("sync-b").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(71, 2, 5_000)).await;
    let mut files = Files::new("sync-consent");
    files.registry("team-a", "source", &source, "reader").registry("team-b", "theirs", &destination, "writer");
    files.configuration("app", "app", &[json!({"namespace": "team-b", "name": "theirs"})]);
    let refused = files.run("sync", &[]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("RegistryPermissionDenied"), "{}", text(&refused));
    assert!(destination.access_log().is_empty(), "without consent nothing is asked: {:?}", destination.access_log());

    let statement = json!({"sid": "from-a", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"]});
    let metadata = json!({"namespace": "team-b", "name": "consent"});
    let spec = json!({"registryRef": {"name": "theirs"}, "statements": [statement]});
    files.add("RegistryPermissionPolicy", metadata, spec);
    let allowed = files.run("sync", &[]).await;
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_named_and_the_exit_code_says_whose_they_are() {
    let source = TestRegistry::distribution("sync-wrong").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("sync-right").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(72, 1, 5_000)).await;
    let mut files = Files::new("sync-wrong");
    files.registry("team-a", "source", &source, "reader").registry("team-a", "d", &destination, "writer");
    files.configuration("first", "app", &[json!({"name": "d"})]);
    files.configuration("second", "ap", &[json!({"name": "d"})]);
    let conflict = files.run("sync", &[]).await;
    assert_eq!(conflict.status.code(), Some(1), "{}", text(&conflict));
    assert!(text(&conflict).contains("an earlier configuration writes to repository app"), "{}", text(&conflict));
    assert!(text(&conflict).contains("COMPLETE"), "one that is in the way never stops another: {}", text(&conflict));

    files.configuration("third", "app", &[json!({"name": "nowhere"})]);
    let usage = files.run("sync", &[]).await;
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage));
    assert!(text(&usage).contains("Registry team-a/nowhere, which no file has"), "{}", text(&usage));
    files.documents.pop();

    files.documents.pop();
    files.login(&source, "reader", "wrong");
    let denied = files.run("sync", &[]).await;
    assert_eq!(denied.status.code(), Some(1), "{}", text(&denied));
    assert!(text(&denied).contains("source Registry source"), "{}", text(&denied));
    assert!(!text(&denied).contains("EXACT_MATCH"), "a wrong password is no missing catalog: {}", text(&denied));
    files.logins = json!({});
    let without_login = files.run("sync", &[]).await;
    assert_eq!(without_login.status.code(), Some(2), "{}", text(&without_login));
    assert!(text(&without_login).contains("has no login for"), "{}", text(&without_login));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_of_a_sync_holds_a_credential() {
    let source = TestRegistry::distribution("canary-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("canary-destination").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(73, 1, 5_000)).await;
    let mut files = Files::new("canary");
    files.registry("team-a", "source", &source, "reader").registry("team-a", "d", &destination, "writer");
    files.configuration("app", "app", &[json!({"name": "d"})]);
    let mut printed = String::new();
    for subcommand in ["plan", "sync"] {
        let state = files.state();
        for more in [vec![], vec!["--output", "json"], vec!["--state", &state]] {
            printed += &text(&files.run(subcommand, &more).await);
        }
    }
    let wrong = "another-canary-5f0c";
    for (registry, user) in [(&destination, "writer"), (&source, "reader")] {
        files.login(registry, user, wrong);
        let refused = files.run("sync", &[]).await;
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        printed += &text(&refused);
    }
    for folder in ["", "records", "statuses"] {
        let entries = std::fs::read_dir(PathBuf::from(files.state()).join(folder)).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        files.for_each(|file| printed += &std::fs::read_to_string(file.path()).unwrap());
    }
    assert!(printed.contains("COMPLETE") && printed.contains("401"), "{printed}");
    for user in ["reader", "writer"] {
        for password in [PASSWORD, wrong] {
            for canary in [password.to_owned(), basic(user, password)] {
                assert!(!printed.contains(&canary), "{canary} is in the output");
            }
        }
    }
}

//! `transship serve`, `transship status` and locked state folders, between real and scripted registries.

mod bad_parts;
mod conflicts;
mod deletions;
mod folder;
mod hint_storms;
mod kills;
mod limits;
mod newest;
mod notified;
mod reading;
mod runs;
mod signed;
mod stopped;
mod strangers;

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use transship::api::ReplicationStatus;
use transship::terms::{ImageStatus, ReplicationState};

use crate::standalone::{Files, text};
use crate::support::eventually::eventually;
use crate::support::process::{ChildProcess, Port, Signal};
use crate::support::tls::client_builder;

/// The token of the notifications of the Registry `source`.
const TOKEN: &str = "canary-token-of-notifications-7d21";

/// Within seconds, on a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// A running `transship serve`; dropping it kills the process.
struct Serve {
    /// Ended before the port below is given back.
    process: ChildProcess,
    port: Port,
}

impl Serve {
    /// Starts it on a port of its own with the state folder of `files`, and waits until it listens.
    async fn start(files: &Files) -> Self {
        Self::on(Port::claim(), files, &[]).await
    }

    /// Returns the same on `port`, with more flags.
    async fn on(port: Port, files: &Files, more: &[&str]) -> Self {
        let mut serve = Self::spawn(port, files, more);
        eventually(SOON, "serve listens", async || {
            assert!(serve.process.ended().is_none(), "{}", serve.process.log_tail());
            let alive = client().get(serve.url("/healthz")).send().await;
            alive.is_ok_and(|alive| alive.status() == 200)
        })
        .await;
        serve
    }

    /// The same, without waiting.
    fn spawn(port: Port, files: &Files, more: &[&str]) -> Self {
        let listen = format!("127.0.0.1:{}", port.number());
        let mut command = files.command("serve", &["--state", &files.state(), "--listen", &listen]);
        // The log of other crates is theirs; ours holds no secret at any level.
        command.args(more).env("RUST_LOG", "info,transship=trace");
        let log = (0..).map(|number| files.folder.join(format!("serve-{number}.log"))).find(|log| !log.exists());
        let process = ChildProcess::start("serve", command.into_std(), &log.unwrap());
        Self { process, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    fn log(&self) -> String {
        self.process.log()
    }

    /// Returns the messages of the log, each behind the reason if it has one.
    fn messages(&self) -> Vec<String> {
        let text = |line: &Value, field: &str| line["fields"][field].as_str().unwrap_or_default().to_owned();
        let lines = self.log().lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect::<Vec<_>>();
        lines.iter().map(|line| format!("{} {}", text(line, "reason"), text(line, "message"))).collect()
    }

    /// Returns the number of messages that contain `part`.
    fn count(&self, part: &str) -> usize {
        self.messages().iter().filter(|message| message.contains(part)).count()
    }

    /// Waits until `part` is logged more than `before` times.
    async fn logs(&self, part: &str, before: usize) {
        eventually(SOON, &format!("serve logs {part:?}"), async || {
            if self.count(part) > before { Ok(()) } else { Err(self.process.log_tail()) }
        })
        .await;
    }

    /// Sends a notification to the path of a Registry, with a token if there is one.
    async fn notify(&self, registry: &str, token: Option<&str>, body: &Value) -> Response {
        let request = client().post(self.url(&format!("/v1/notify/team-a/{registry}"))).body(body.to_string());
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        request.send().await.unwrap()
    }

    /// Says that a tag of the Registry `source` was pushed.
    async fn hint(&self, repository: &str, tag: &str) {
        let answer = self.notify("source", Some(TOKEN), &pushed(repository, tag)).await;
        assert_eq!(answer.status(), 202);
    }

    /// Ends it with SIGTERM, which is no failure, and returns its log.
    async fn end(self) -> String {
        let Self { mut process, port: _port } = self;
        process.signal(Signal::TERM);
        let ended = process.wait(SOON).await;
        assert_eq!(ended.and_then(|ended| ended.code()), Some(0), "{}", process.log_tail());
        process.log()
    }
}

fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

/// Returns a notification of one pushed tag.
fn pushed(repository: &str, tag: &str) -> Value {
    json!({"events": [{"action": "push", "target": {"repository": repository, "tag": tag}}]})
}

/// Lets the Registry `source` take notifications with [`TOKEN`].
fn take_notifications(files: &mut Files) {
    let source = files.documents.iter_mut().find(|document| document["metadata"]["name"] == "source").unwrap();
    let auth = json!({"type": "Bearer", "secretRef": {"name": "notifications"}});
    source["spec"]["notifications"] = json!({"type": "Distribution", "auth": auth});
    let metadata = json!({"namespace": "team-a", "name": "notifications"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": TOKEN}});
    files.documents.push(secret);
}

/// Has the configurations compare so often.
fn compare_every(files: &mut Files, interval: &str) {
    let configurations = files.documents.iter_mut().filter(|document| document["kind"] == "ReplicationConfiguration");
    configurations.for_each(|configuration| configuration["spec"]["interval"] = json!(interval));
}

/// Runs `transship status` on the state folder of `files`.
async fn status(files: &Files, more: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_transship"));
    command.args(["status", "--state", &files.state()]).args(more).kill_on_drop(true).output().await.unwrap()
}

/// Returns the objects that it prints.
async fn objects(files: &Files) -> Vec<ReplicationStatus> {
    let output = status(files, &["-o", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!((&list["apiVersion"], &list["kind"]), (&json!("v1"), &json!("List")));
    serde_json::from_value(list["items"].clone()).unwrap()
}

/// Returns the images of all statuses, by `configuration: destination/repository:tag`.
async fn images(files: &Files) -> BTreeMap<String, ImageStatus> {
    let mut found = BTreeMap::new();
    for object in objects(files).await {
        let (configuration, to) = (&object.spec.configuration_ref.name, &object.spec.destination);
        for image in object.status.map(|status| status.images).unwrap_or_default() {
            let name = format!("{configuration}: {}/{}:{}", to.registry_ref.name, to.repository, image.tag);
            found.insert(name, image);
        }
    }
    found
}

/// Waits until an image is as wanted, and returns its entry.
async fn becomes(files: &Files, image: &str, state: ReplicationState) -> ImageStatus {
    eventually(SOON, &format!("{image} becomes {state:?}"), async || {
        let images = images(files).await;
        match images.get(image) {
            Some(entry) if entry.status == state => Ok(entry.clone()),
            _ => Err(format!("{images:?}")),
        }
    })
    .await
}

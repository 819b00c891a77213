//! `transship sync` is killed at every request that it sends, and the next one ends where an undisturbed one does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::gate::{Closing, Gate, GateProxy};
use crate::support::image::{Blob, Image, OCI_INDEX};
use crate::support::registry::TestRegistry;
use crate::support::run_folder::new_folder;

/// Far longer than a sync of a small image takes on a busy machine.
const MAX_SYNC: Duration = Duration::from_secs(60);

/// Syncs that run side by side, each with proxies of its own.
const SIDE_BY_SIDE: usize = 3;

/// More requests than any sync here sends: the search for the last one ends in any case.
const MAX_REQUESTS: usize = 300;

/// The digests below each tag of a repository.
type DigestsByTag = BTreeMap<String, BTreeSet<String>>;

/// Two registries, and the ways to them.
struct Site<'a> {
    source: &'a TestRegistry,
    destination: &'a TestRegistry,
    to_source: GateProxy,
    to_destination: GateProxy,
}

/// One image, its signature and its bill of materials, which refer to it by `subject`; the index under the fallback tag
/// names both.
struct Signed {
    image: Image,
    referrers: [Image; 2],
}

impl Signed {
    fn new() -> Self {
        let shared = Blob::layer(1, 3_000);
        let platforms = [("linux/amd64", 2), ("linux/arm64", 3)];
        let platforms = platforms
            .map(|(platform, seed)| Image::with_layers(seed, platform, vec![shared.clone(), Blob::layer(seed, 2_000)]));
        let image = Image::index(platforms.to_vec());
        let signature = Image::artifact(4, "application/vnd.example.signature", 300, Some(&image));
        let bill = Image::artifact(5, "application/spdx+json", 900, Some(&image));
        Self { image, referrers: [signature, bill] }
    }

    async fn push(&self, source: &TestRegistry, repository: &str) {
        let pusher = source.pusher();
        pusher.push(repository, "v1", &self.image).await;
        for referrer in &self.referrers {
            pusher.push_untagged(repository, referrer).await;
        }
        let index = Image::index(self.referrers.to_vec());
        assert_eq!(index.media_type, OCI_INDEX);
        pusher.push_manifest(repository, &self.image.digest().replace(':', "-"), &index).await;
    }
}

impl Site<'_> {
    /// Starts a sync of one repository through `gate`.
    fn sync(&self, folder: &PathBuf, repository: &str, gate: &std::sync::Arc<Gate>) -> Child {
        self.to_source.set(gate);
        self.to_destination.set(gate);
        let object = |kind: &str, name: &str, spec: Value| {
            let metadata = json!({"namespace": "team-a", "name": name});
            json!({"apiVersion": "transship.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
                .to_string()
        };
        let registry = |name: &str, proxy: &GateProxy| {
            object("Registry", name, json!({"url": format!("http://{}", proxy.host()), "allowHTTP": true}))
        };
        let rule = json!({
            "name": "one", "repositoryFilters": [{"filter": repository, "filterType": "EXACT_MATCH"}],
            "destinations": [{"registryRef": {"name": "destination"}}],
        });
        let rules = json!({"source": {"registryRef": {"name": "source"}}, "rules": [rule]});
        let documents = [
            registry("source", &self.to_source),
            registry("destination", &self.to_destination),
            object("ReplicationConfiguration", "crash", rules),
        ];
        let file = folder.join("all.yaml");
        std::fs::write(&file, documents.join("\n---\n")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_transship"));
        command.arg("sync").arg("-f").arg(&file).arg("--state").arg(folder.join("state"));
        command.env("DOCKER_CONFIG", folder).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    async fn sync_whole(&self, folder: &PathBuf, repository: &str) {
        let sync = self.sync(folder, repository, &Gate::new(Closing::Never)).wait_with_output();
        let output = timeout(MAX_SYNC, sync).await.expect("a sync ends").unwrap();
        assert!(output.status.success(), "{repository}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns everything that is at the destination. Panics where a tag is there and something below it is not.
    async fn content(&self, repository: &str) -> DigestsByTag {
        let (pusher, mut content) = (self.destination.pusher(), DigestsByTag::new());
        for tag in pusher.tags(repository).await {
            content.insert(tag.clone(), pusher.copy_tree_digests(repository, &tag).await);
        }
        content
    }

    /// Kills a sync at `closing` and lets another one finish; false if it had ended before it came to that request.
    async fn survives(&self, signed: &Signed, closing: Closing, expected: &DigestsByTag) -> bool {
        let repository = format!("crash/{}", format!("{closing:?}").to_lowercase().replace(['(', ')'], ""));
        signed.push(self.source, &repository).await;
        let folder = new_folder("crash");
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        let gate = Gate::new(closing);
        let mut sync = self.sync(&folder, &repository, &gate);
        let is_killed = tokio::select! {
            () = gate.closed() => true,
            ended = timeout(MAX_SYNC, sync.wait()) => {
                assert!(ended.expect("a sync ends").unwrap().success(), "{closing:?}");
                false
            }
        };
        sync.kill().await.unwrap();
        let left: Vec<_> = self.content(&repository).await.into_iter().collect();
        assert!(left.iter().all(|(tag, below)| expected.get(tag) == Some(below)), "{closing:?}: {left:?}");
        self.sync_whole(&folder, &repository).await;
        assert_eq!(self.content(&repository).await, *expected, "{closing:?}");
        std::fs::remove_dir_all(folder).unwrap();
        is_killed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_killed_at_any_request_is_completed_by_the_next_no_tag_early() {
    let source = TestRegistry::distribution("crash-source").start().await;
    let destination = TestRegistry::distribution("crash-destination").start().await;
    let signed = Signed::new();
    let site = || Site {
        source: &source,
        destination: &destination,
        to_source: GateProxy::start(source.address()),
        to_destination: GateProxy::start(destination.address()),
    };
    let whole = site();
    signed.push(&source, "crash/whole").await;
    let folder = new_folder("crash");
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    whole.sync_whole(&folder, "crash/whole").await;
    let expected = whole.content("crash/whole").await;
    assert_eq!(expected.get("v1"), Some(&signed.image.tree_digests()));
    let there: BTreeSet<_> = expected.values().flatten().collect();
    assert!(
        signed.referrers.iter().all(|referrer| there.contains(&referrer.digest())),
        "referrers arrive: {expected:?}"
    );

    let lanes = (0..SIDE_BY_SIDE).map(|lane| {
        let (site, signed, expected) = (site(), &signed, &expected);
        async move {
            let mut kills = 0;
            for kind in [Closing::Before as fn(usize) -> Closing, Closing::AfterWrite] {
                for number in (1 + lane..MAX_REQUESTS).step_by(SIDE_BY_SIDE) {
                    if !site.survives(signed, kind(number), expected).await {
                        break;
                    }
                    kills += 1;
                }
            }
            kills
        }
    });
    let kills: usize = futures::future::join_all(lanes).await.into_iter().sum();
    assert!(kills >= 30, "{kills} kills: a sync sends more requests than that");
}

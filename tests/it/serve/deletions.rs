//! Images that leave the source of a `serve`: by notification and by comparison.

use serde_json::{Value, json};
use transship::terms::ReplicationState;

use super::{SOON, Serve, TOKEN, becomes, compare_every, take_notifications};
use crate::standalone::Files;
use crate::stories::scene::PASSWORD;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::Port;
use crate::support::registry::TestRegistry;
use crate::tag_filters::rule;

/// Returns files that delete, between two real registries; the source notifies the process at `port`.
async fn deleting(name: &str, port: &Port, interval: &str) -> (Files, TestRegistry, TestRegistry) {
    let notify = format!("http://127.0.0.1:{}/v1/notify/team-a/source", port.number());
    let source = TestRegistry::distribution(&format!("{name}-source")).user("reader", PASSWORD);
    let source = source.notify(&notify, &[("Authorization", &format!("Bearer {TOKEN}"))]).start().await;
    let destination = TestRegistry::distribution(&format!("{name}-to")).user("writer", PASSWORD).start().await;
    let mut files = Files::new(name);
    files.registry("team-a", "source", &source, "reader").registry("team-a", "d", &destination, "writer");
    let statement = json!({"sid": "delete", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["DeleteImage"], "resources": ["*"]});
    let spec = json!({"registryRef": {"name": "d"}, "statements": [statement]});
    files.add("RegistryPermissionPolicy", json!({"namespace": "team-a", "name": "deletes"}), spec);
    files.configuration("app", "app", &[json!({"name": "d"})]);
    rule(&mut files)["deleteReplication"] = json!({"enabled": true});
    compare_every(&mut files, interval);
    take_notifications(&mut files);
    for (seed, tag) in (1..).zip(["v1", "v2", "v3"]) {
        source.pusher().push("app", tag, &Image::single(seed, 1, 1_000)).await;
    }
    (files, source, destination)
}

fn configuration(files: &mut Files) -> &mut Value {
    files.documents.iter_mut().find(|document| document["kind"] == "ReplicationConfiguration").unwrap()
}

async fn has_replicated(files: &Files) {
    for tag in ["v1", "v2", "v3"] {
        becomes(files, &format!("app: d/app:{tag}"), ReplicationState::Complete).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notified_deletion_lists_the_repository_at_once_and_deletes_nothing() {
    let port = Port::claim();
    let (files, source, destination) = deleting("serve-notified-deletion", &port, "24h").await;
    let serve = Serve::on(port, &files, &[]).await;
    has_replicated(&files).await;
    serve.logs("Replicated ready: ", 0).await;
    let lists = || source.access_log().iter().filter(|access| access.path.contains("/app/tags/list")).count();
    for reference in ["v2".to_owned(), Image::single(3, 1, 1_000).digest()] {
        let before = lists();
        assert_eq!(source.pusher().delete_manifest("app", &reference).await, 202);
        // A list of a repository that was listed just now waits for ten seconds.
        eventually(2 * SOON, &format!("the repository is listed for {reference}"), async || lists() > before).await;
    }
    assert_eq!(destination.pusher().tags("app").await.len(), 3, "one list proves nothing");
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serve_deletes_what_two_lists_lack_and_goes_on_after_a_restart() {
    let port = Port::claim();
    let (files, source, destination) = deleting("serve-deletes", &port, "10s").await;
    let serve = Serve::on(port, &files, &[]).await;
    has_replicated(&files).await;
    assert_eq!(source.pusher().delete_manifest("app", "v2").await, 202);
    let missed = || {
        let files = crate::support::run_folder::files_below(files.state().as_ref());
        files.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("issed"))
    };
    eventually(4 * SOON, "the first list is recorded", async || missed()).await;
    // The folder has the first list: the next process goes on with it.
    serve.end().await;
    let serve = Serve::start(&files).await;
    eventually(8 * SOON, "the tag is deleted", async || destination.pusher().tags("app").await.len() == 2).await;
    serve.logs("an image is deleted", 0).await;
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serve_says_which_deletions_wait_and_deletes_them_once_approved() {
    let port = Port::claim();
    let (mut files, source, destination) = deleting("serve-holds", &port, "10s").await;
    configuration(&mut files)["spec"]["rules"][0]["deleteReplication"] =
        json!({"enabled": true, "maxPercent": 0, "minAllowed": 1});
    let serve = Serve::on(port, &files, &[]).await;
    has_replicated(&files).await;
    for tag in ["v2", "v3"] {
        assert_eq!(source.pusher().delete_manifest("app", tag).await, 202);
    }
    eventually(8 * SOON, "they are held", async || serve.count("deletions are held: ") > 0).await;
    assert_eq!(destination.pusher().tags("app").await.len(), 3);
    let log = serve.process.log();
    let hash = log.split("approve-deletions: ").nth(1).unwrap().split(' ').next().unwrap();
    configuration(&mut files)["metadata"]["annotations"] = json!({"transship.dev/approve-deletions": hash});
    files.write();
    eventually(4 * SOON, "both are deleted", async || destination.pusher().tags("app").await.iter().eq(["v1"])).await;
    assert_eq!(serve.end().await.matches("deletions are held: ").count(), 1);
}

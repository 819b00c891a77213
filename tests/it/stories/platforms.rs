//! A rule chooses platforms and promises tags: what the status says, what a change of the rule does, and what is not
//! asked.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use super::scene::{NOTIFY_TOKEN, PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::{AccessLine, TestRegistry};

const SOON: Duration = Duration::from_secs(30);

/// Gives the only rule of the configuration `app` these fields besides its destination, and no others.
pub(super) async fn change_rule(scene: &Scene, more: Value) {
    let mut rule = json!({"name": "all", "destinations": [to("destination")]});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let spec = json!({"spec": {"rules": [rule]}});
    scene.configurations().patch("app", &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_choice_of_platforms_is_carried_out_also_over_a_restart() {
    let source = TestRegistry::distribution("chosen-source").user("reader", PASSWORD).start().await;
    let destination =
        TestRegistry::distribution("chosen-destination").user("writer", PASSWORD).validates_indexes().start().await;
    let image = Image::multi_platform(31, 5_000);
    source.pusher().push("app", "v1", &image).await;
    let mut scene = Scene::new("chosen").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, "24h").await;
    change_rule(&scene, json!({"platforms": ["linux/amd64"]})).await;
    scene.start_operator().await;
    let failed = scene.image_becomes("destination/app:v1", ReplicationState::Failed, SOON).await;
    assert_eq!(json!(failed.failure_code), json!("SparseIndexRefused"), "{failed:?}");

    change_rule(&scene, json!({"platforms": ["linux/amd64"], "platformIndex": "Rewrite"})).await;
    let complete = scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    let rewritten = Image::index(vec![image.children[0].clone(), image.children[3].clone()]);
    assert_eq!(complete.digest, image.digest());
    assert_eq!(complete.destination_digest, Some(rewritten.digest()));
    assert_eq!(destination.pusher().copy_tree_digests("app", "v1").await, rewritten.tree_digests());

    // The rule changes while no operator runs: what the status says was verified by the earlier one.
    scene.end_operator().await;
    change_rule(&scene, json!({})).await;
    scene.start_operator().await;
    eventually(SOON, "everything is copied", async || {
        destination.pusher().digest_of("app", "v1").await == Some(image.digest())
    })
    .await;
    eventually(SOON, "the status says so", async || {
        let images = scene.images().await;
        let image = &images["destination/app:v1"];
        image.status == ReplicationState::Complete && image.destination_digest.is_none()
    })
    .await;
    assert_eq!(destination.pusher().copy_tree_digests("app", "v1").await, image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_never_moves_costs_no_request_once_it_is_replicated() {
    let mut scene = Scene::new("promised").await;
    let bearer = format!("Bearer {NOTIFY_TOKEN}");
    let source = TestRegistry::distribution("promised-source").user("reader", PASSWORD);
    let source = source.notify(&scene.notify_url("source"), &[("Authorization", &bearer)]).start().await;
    let destination = TestRegistry::distribution("promised-destination").user("writer", PASSWORD).start().await;
    for (seed, tag) in [(41, "v1.0"), (42, "v1.1"), (43, "latest")] {
        source.pusher().push("app", tag, &Image::single(seed, 1, 5_000)).await;
    }
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.take_notifications("source").await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("app", "source", &[to("destination")], None, "24h").await;
    change_rule(&scene, json!({"immutableTags": ["v*"]})).await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON).await;
    for tag in ["v1.0", "v1.1", "latest"] {
        scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Complete, SOON).await;
    }
    let heads = |since: usize| {
        let log = source.access_log().split_off(since);
        // A tag is asked for with its manifest where that is about to be copied.
        let is_asked = |access: &AccessLine| {
            matches!(access.method.as_str(), "GET" | "HEAD") && access.path.contains("/manifests/")
        };
        let ours = log.into_iter().filter(|access| access.user_agent.starts_with("transship/") && is_asked(access));
        ours.map(|access| access.path.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(heads(0).contains(&"v1.0".to_owned()), "what was never replicated is asked for");
    let before = source.access_log().len();
    scene.compared_again("app", "again").await;
    let hint =
        |tag: &str| format!(r#"{{"events":[{{"action":"push","target":{{"repository":"app","tag":"{tag}"}}}}]}}"#);
    assert_eq!(scene.send_notification("source", NOTIFY_TOKEN, hint("v1.0")).await, 202);
    source.pusher().push("app", "v1.2", &Image::single(44, 1, 5_000)).await;
    scene.image_becomes("destination/app:v1.2", ReplicationState::Complete, SOON).await;
    scene.compared_again("app", "and again").await;
    let asked = heads(before);
    assert!(asked.iter().filter(|tag| *tag == "latest").count() >= 2, "{asked:?}");
    assert!(asked.contains(&"v1.2".to_owned()), "{asked:?}");
    assert!(!asked.iter().any(|tag| tag == "v1.0" || tag == "v1.1"), "{asked:?}");
}

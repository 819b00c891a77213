//! Dependencies that are deleted show at their configuration within 10 s, and its Ready returns with them.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use transship::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration, ReplicationStatus};
use transship::terms::ReplicationState;

use super::core::{SOON, between, is_ready};
use super::scene::{PASSWORD, Scene, to, to_other};
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::scripted::{ScriptedFault, When};
use crate::tag_filters::registry;

const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Waits until the configuration is not Ready for `reason`, and returns the message.
async fn shows(scene: &Scene, name: &str, reason: &str) -> String {
    let began = Instant::now();
    let namespace = &scene.namespace.name;
    let shown = scene.condition::<ReplicationConfiguration>(namespace, name, "Ready", "False", reason, SHOWN_WITHIN);
    let message = shown.await;
    println!("{reason} after {:?}", began.elapsed());
    let stalled = scene.condition::<ReplicationConfiguration>(namespace, name, "Stalled", "True", reason, SHOWN_WITHIN);
    assert_eq!(stalled.await, message);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_deleted_shows_at_its_configuration() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = between("deleted-registry", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    let namespace = scene.namespace.name.clone();
    for (name, registry) in [("destination", &destination), ("source", &source)] {
        scene.api::<Registry>(&namespace).delete(name, &DeleteParams::default()).await.unwrap();
        let message = shows(&scene, "all", "RegistryNotFound").await;
        assert!(message.contains(name), "{message}");
        scene.open_registry(name, registry).await;
        is_ready(&scene).await;
    }
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_deleted_shows_at_registry_and_configuration() {
    let source = TestRegistry::distribution("deleted-secret-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("deleted-secret-to").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(2, 1, 1_000)).await;
    let mut scene = Scene::new("deleted-secret").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("all", "source", &[to("destination")], None, "24h").await;
    scene.start_operator().await;
    is_ready(&scene).await;
    for (name, registry, user) in [("destination", &destination, "writer"), ("source", &source, "reader")] {
        scene.api::<Secret>(&namespace).delete(name, &DeleteParams::default()).await.unwrap();
        let message = shows(&scene, "all", "RegistryNotReady").await;
        assert!(message.contains(&format!("{name} Registry")), "{message}");
        assert!(message.contains(&format!("Secret {name} does not exist")), "{message}");
        scene.condition::<Registry>(&namespace, name, "Ready", "False", "SecretNotFound", SHOWN_WITHIN).await;
        scene.secret(&namespace, name, &registry.host(), user, PASSWORD).await;
        is_ready(&scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_was_deleted_shows_at_its_configuration() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(3, 1, 1_000));
    let mut scene = Scene::new("deleted-policy").await;
    let (namespace, other) = (scene.namespace.name.clone(), scene.other_namespace("deleted-policy-other").await);
    scene.open_registry("source", &source).await;
    scene.allow(&destination.host());
    let spec = json!({"url": destination.url(), "allowHTTP": true});
    scene.registry_object(&other, "theirs", spec).await;
    let policy: RegistryPermissionPolicy = serde_json::from_value(json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": "consent"},
        "spec": {"registryRef": {"name": "theirs"}, "statements": [{
            "sid": "all", "effect": "Allow", "principals": [{"namespace": namespace}],
            "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"],
        }]},
    }))
    .unwrap();
    let policies = scene.api::<RegistryPermissionPolicy>(&other);
    policies.create(&PostParams::default(), &policy).await.unwrap();
    scene.configure("all", "source", &[to_other(&other, "theirs")], None, "24h").await;
    scene.start_operator().await;
    is_ready(&scene).await;

    policies.delete("consent", &DeleteParams::default()).await.unwrap();
    let message = shows(&scene, "all", "NoStatementAllows").await;
    assert!(message.contains("no statement allows ReplicateImage into repository app"), "{message}");
    let name = scene.statuses().await[0].metadata.name.clone().unwrap();
    let (kind, reason) = ("Permitted", "NoStatementAllows");
    scene.condition::<ReplicationStatus>(&namespace, &name, kind, "False", reason, SHOWN_WITHIN).await;
    scene.image_becomes("theirs/app:v1", ReplicationState::Complete, SOON).await;
    policies.create(&PostParams::default(), &policy).await.unwrap();
    is_ready(&scene).await;
    scene.condition::<ReplicationStatus>(&namespace, &name, kind, "True", "StatementAllows", SHOWN_WITHIN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_whose_root_is_odd_is_ready_once_images_replicate() {
    for odd in [ScriptedFault::error(403, "DENIED"), ScriptedFault::error(404, "UNSUPPORTED")] {
        let (source, destination) = (registry(), registry());
        source.push("app", "v1", &Image::single(4, 1, 1_000));
        for registry in [&source, &destination] {
            registry.fault(When::asked("GET", "/v2/").exactly().always(), odd.clone());
        }
        let mut scene = between("odd-root", &source, &destination, None).await;
        scene.start_operator().await;
        is_ready(&scene).await;
        let namespace = scene.namespace.name.clone();
        for name in ["source", "destination"] {
            let ready = scene.condition::<Registry>(&namespace, name, "Ready", "True", "Reachable", SOON).await;
            assert!(ready.starts_with("images are read or written, although "), "{ready}");
            let object = scene.api::<Registry>(&namespace).get(name).await.unwrap();
            let conditions = object.status.unwrap().conditions;
            assert!(conditions.iter().all(|condition| condition.type_ != "Stalled"), "{conditions:?}");
        }
        source.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_valid_are_a_condition_and_no_failure() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(5, 1, 1_000));
    let answer = |body: &'static str| ScriptedFault::Answer {
        status: 200,
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.into(),
    };
    let catalog = answer(r#"{"repositories":["Team/App","app"]}"#);
    source.fault(When::asked("GET", "/v2/_catalog").always(), catalog);
    source
        .fault(When::asked("GET", "/v2/app/tags/list").always(), answer(r#"{"name":"app","tags":["v1","sha256:1"]}"#));
    let mut scene = between("invalid-names", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    let namespace = scene.namespace.name.clone();
    let (kind, reason) = ("NamesSkipped", "InvalidNames");
    let shown = scene.condition::<ReplicationConfiguration>(&namespace, "all", kind, "True", reason, SOON).await;
    let expected = "the source lists 1 name that is not valid, such as \"Team/App\" as repositories; \
                    app lists 1 name that is not valid, such as \"sha256:1\" as tags: they are not replicated; rename \
                    them at the source";
    assert_eq!(shown, expected);
    source.clear_faults();
    scene.compared_again("all", "renamed").await;
    is_ready(&scene).await;
    let status = scene.configurations().get("all").await.unwrap().status.unwrap();
    assert!(status.conditions.iter().all(|condition| condition.type_ != kind), "{:?}", status.conditions);
}

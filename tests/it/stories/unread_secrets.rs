//! Secrets that the API server does not give out for a while: nothing is lost, and nothing reads as missing.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use transship::api::{Registry, ReplicationConfiguration};
use transship::terms::ReplicationState;

use super::core::{SOON, between, is_ready};
use super::scene::{PASSWORD, Scene, to};
use crate::support::cosign::{CosignSigner, signature_tag};
use crate::support::eventually::throughout;
use crate::support::image::Image;
use crate::support::refusing_proxy::RefusingProxy;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::registry;

/// Longer than any content of a Secret is used without being read again.
const UNREAD: Duration = Duration::from_secs(75);
/// Failed images and Registries are tried again every 15 to 20 s.
const LATER: Duration = Duration::from_secs(60);

/// Puts a proxy between the operator of a scene, which does not run yet, and the API server.
fn through_proxy(scene: &mut Scene) -> RefusingProxy {
    let proxy = RefusingProxy::in_front_of(scene.plane.server());
    scene.operator.process().api_url = Some(proxy.url());
    proxy
}

/// Has a Registry log in with a Secret of its name.
async fn log_in(scene: &Scene, name: &str, registry: &ScriptedRegistry) {
    let namespace = &scene.namespace.name;
    scene.secret(namespace, name, &registry.host(), "user", PASSWORD).await;
    let spec = Patch::Merge(json!({"spec": {"credentials": {"secretRef": {"name": name}}}}));
    scene.api::<Registry>(namespace).patch(name, &PatchParams::default(), &spec).await.unwrap();
}

/// Has the configuration `all` copy what is signed with the key in the Secret `cosign`.
async fn verify(scene: &Scene, signer: &CosignSigner) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign"},
        "stringData": {"cosign.pub": signer.public_key()}});
    let secrets = scene.api::<Secret>(&scene.namespace.name);
    secrets.patch("cosign", &PatchParams::apply("story").force(), &Patch::Apply(secret)).await.unwrap();
    let rule = json!({"name": "all", "destinations": [to("destination")],
        "verification": {"cosign": {"publicKeySecretRef": {"name": "cosign"}}}});
    let spec = Patch::Merge(json!({"spec": {"rules": [rule]}}));
    scene.configurations().patch("all", &PatchParams::default(), &spec).await.unwrap();
}

/// Creates a configuration with a key that cannot be read now: it says so.
async fn create_unread(scene: &Scene) {
    let rule = json!({"name": "all", "destinations": [to("destination")],
        "repositoryFilters": [{"filter": "other", "filterType": "EXACT_MATCH"}],
        "verification": {"cosign": {"publicKeySecretRef": {"name": "cosign"}}}});
    let late = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration",
        "metadata": {"name": "late"}, "spec": {"source": {"registryRef": {"name": "source"}}, "rules": [rule]}});
    let late: ReplicationConfiguration = serde_json::from_value(late).unwrap();
    scene.configurations().create(&PostParams::default(), &late).await.unwrap();
    let namespace = &scene.namespace.name;
    let unread = scene.condition::<ReplicationConfiguration>(namespace, "late", "Ready", "False", "Unreachable", SOON);
    let message = unread.await;
    assert!(message.starts_with("Secret cosign cannot be read now"), "{message}");
}

/// Pushes an image with its signature, and notifies the operator.
async fn push(scene: &Scene, source: &ScriptedRegistry, signer: &CosignSigner, tag: &str, seed: u64) {
    let digest = source.push("app", tag, &Image::single(seed, 1, 1_000));
    source.push("app", &signature_tag(&digest), &signer.simple_signatures(&[&digest]));
    scene.notify("source", "app", tag, &digest).await;
    scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Complete, SOON).await;
}

/// Waits until the configuration `name` has a condition that is true.
async fn shows(scene: &Scene, name: &str, kind: &str, reason: &str) {
    let namespace = &scene.namespace.name;
    scene.condition::<ReplicationConfiguration>(namespace, name, kind, "True", reason, LATER).await;
}

/// Returns the conditions by which the configuration is stalled or a Registry is not ready, as an error.
async fn nothing_stalls(scene: &Scene) -> Result<(), String> {
    let status = scene.configurations().get("all").await.unwrap().status.unwrap_or_default();
    let mut conditions = status.conditions;
    conditions.retain(|condition| condition.type_ == "Stalled");
    for name in ["source", "destination"] {
        let registry = scene.api::<Registry>(&scene.namespace.name).get(name).await.unwrap();
        conditions.extend(registry.status.unwrap_or_default().conditions);
    }
    conditions.retain(|condition| condition.type_ != "Ready" || condition.status != "True");
    if conditions.is_empty() { Ok(()) } else { Err(format!("{conditions:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_cannot_be_read_for_a_minute_stop_nothing() {
    let (signer, source, destination) = (CosignSigner::new(), registry(), registry());
    let mut scene = between("unread", &source, &destination, None).await;
    log_in(&scene, "source", &source).await;
    log_in(&scene, "destination", &destination).await;
    verify(&scene, &signer).await;
    let proxy = through_proxy(&mut scene);
    scene.start_operator().await;
    is_ready(&scene).await;
    push(&scene, &source, &signer, "v1", 10).await;
    is_ready(&scene).await;

    proxy.refuse("/secrets/");
    throughout(UNREAD, "nothing stalls", async || nothing_stalls(&scene).await).await;
    // It takes the token of notifications, the key, and the credentials of both Registries.
    push(&scene, &source, &signer, "v2", 20).await;
    nothing_stalls(&scene).await.unwrap();
    create_unread(&scene).await;
    let refused = proxy.let_through();
    println!("{refused} reads of Secrets were refused");
    assert!(refused > 10, "{refused}");
    is_ready(&scene).await;
    shows(&scene, "late", "Stalled", "RepositoryNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_read_at_the_start_costs_no_destination() {
    let (one, two, target) = (registry(), registry(), registry());
    let kept = one.push("app", "v1", &Image::single(10, 1, 1_000));
    two.push("app", "v1", &Image::single(20, 1, 1_000));
    let mut scene = Scene::new("unread-start").await;
    let namespace = scene.namespace.name.clone();
    for (name, registry) in [("one", &one), ("two", &two), ("first", &target), ("second", &target)] {
        scene.open_registry(name, registry).await;
    }
    log_in(&scene, "first", &target).await;
    log_in(&scene, "second", &target).await;
    let proxy = through_proxy(&mut scene);
    scene.configure("older", "one", &[to("first")], None, "10s").await;
    scene.start_operator().await;
    shows(&scene, "older", "Ready", "Replicated").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // Ages differ by the second.
    scene.configure("younger", "two", &[to("second")], None, "10s").await;
    shows(&scene, "younger", "Stalled", "DestinationConflict").await;

    scene.end_operator().await;
    proxy.refuse("/secrets/first");
    scene.start_operator().await;
    let message = scene.condition::<Registry>(&namespace, "first", "Reconciling", "True", "Unreachable", SOON).await;
    assert!(message.starts_with("Secret first cannot be read now"), "{message}");
    throughout(Duration::from_secs(20), "the destination stays with the older one", async || {
        target.digest("app", "v1").as_deref() == Some(kept.as_str())
    })
    .await;
    assert!(proxy.let_through() > 0);
    scene.condition::<Registry>(&namespace, "first", "Ready", "True", "Reachable", SOON).await;
    shows(&scene, "older", "Ready", "Replicated").await;
    shows(&scene, "younger", "Stalled", "DestinationConflict").await;
    assert_eq!(target.moves("app")["v1"], [kept]);
}

//! Settings of new repositories that a registry does not have: the Registry says so, and a correction takes effect.

use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use transship::api::{Registry, ReplicationConfiguration};
use transship::terms::ReplicationState;

use super::execution::with_jobs;
use super::scene::{Scene, to};
use crate::measured::limits::run_workers;
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{PASSWORD, Personality, ScriptedRegistry, USER};
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);

async fn set(scene: &Scene, templates: Value) {
    let patch = Patch::Merge(json!({"spec": {"repositoryTemplates": templates}}));
    let registries = scene.api::<Registry>(&scene.namespace.name);
    registries.patch("destination", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_a_registry_does_not_have_stalls_until_it_is_removed() {
    let destination = registry();
    let mut scene = Scene::new("templates").await;
    scene.open_registry("destination", &destination).await;
    set(&scene, json!([{"prefix": "prod", "scanOnPush": true}])).await;
    scene.start_operator().await;
    let namespace = scene.namespace.name.clone();
    let is = async |kind: &str, status: &str, reason: &str| {
        scene.condition::<Registry>(&namespace, "destination", kind, status, reason, SOON).await
    };
    let message = is("Stalled", "True", "RepositoryTemplateUnsupported").await;
    assert!(message.contains("spec.repositoryTemplates[\"prod\"].scanOnPush"), "{message}");
    set(&scene, json!([{"prefix": "prod", "projectVisibility": "Private"}])).await;
    eventually(SOON, "the message names the other setting", async || {
        let message = is("Stalled", "True", "RepositoryTemplateUnsupported").await;
        if message.contains("projectVisibility") { Ok(()) } else { Err(message) }
    })
    .await;
    set(&scene, json!([{"prefix": "prod", "lifecyclePolicy": "{rules: []}"}])).await;
    let message = is("Stalled", "True", "InvalidSpec").await;
    assert!(message.contains("spec.repositoryTemplates[0].lifecyclePolicy is no JSON document"), "{message}");
    set(&scene, json!([])).await;
    is("Ready", "True", "Reachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_creates_a_project_with_the_settings_of_its_template() {
    let (source, harbor) = (registry(), ScriptedRegistry::start(Personality::harbor()));
    source.push("open/app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = Scene::new("templates-job").await;
    let namespace = scene.namespace.name.clone();
    scene.open_registry("source", &source).await;
    [harbor.host(), harbor.other_host()].iter().for_each(|host| scene.allow(host));
    scene.secret(&namespace, "harbor", &harbor.host(), USER, PASSWORD).await;
    let spec = json!({"url": harbor.url(), "allowHTTP": true, "trustedHosts": [harbor.other_host()],
        "credentials": {"secretRef": {"name": "harbor"}},
        "repositoryTemplates": [{"prefix": "open", "projectVisibility": "Public"}]});
    scene.registry_object(&namespace, "destination", spec).await;
    let object: ReplicationConfiguration = serde_json::from_value(json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": "all"},
        "spec": {"source": {"registryRef": {"name": "source"}}, "interval": "24h", "execution": {"mode": "Job"},
            "rules": [{"name": "all", "destinations": [to("destination")]}]},
    }))
    .unwrap();
    scene.configurations().create(&PostParams::default(), &object).await.unwrap();
    let (system, _channel) = with_jobs(&mut scene, "templates-job").await;
    scene.start_operator().await;
    let _workers = run_workers(&scene, &system, 1).await;
    scene.image_becomes("destination/open/app:v1", ReplicationState::Complete, SOON).await;
    assert_eq!(harbor.settings("open"), Some(json!({"public": "true"})));
}

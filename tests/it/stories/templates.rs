//! Settings of new repositories that a registry does not have: the Registry says so, and a correction takes effect.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use transship::api::Registry;

use super::scene::Scene;
use crate::support::eventually::eventually;
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

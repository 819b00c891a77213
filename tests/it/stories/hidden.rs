//! Absent, forbidden and taken destinations of other owners read the same, and so does a registry of one's own that
//! refuses the credentials.

use std::time::Duration;

use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use transship::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration, ReplicationStatus};

use super::scene::{PASSWORD, Scene, to, to_other};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::tag_filters::registry;

const SOON: Duration = Duration::from_secs(60);
/// Fields that say when something was, or how often: they differ from object to object.
const COUNTED: [&str; 6] =
    ["lastTransitionTime", "nextAttemptAt", "attempts", "oldestPendingSince", "observedGeneration", "since"];

fn without_times(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !COUNTED.contains(&name.as_str()));
            fields.values_mut().for_each(without_times);
        }
        Value::Array(items) => items.iter_mut().for_each(without_times),
        _ => {}
    }
}

/// A configuration whose destination is in one of several states, with the words that are its own.
struct Case {
    configuration: &'static str,
    /// Names and hosts that are replaced before texts are compared.
    own: Vec<String>,
}

/// Returns all that the owner of a configuration can read about it.
async fn seen(scene: &Scene, case: &Case) -> String {
    let object = scene.configurations().get(case.configuration).await.unwrap();
    let statuses = scene.api::<ReplicationStatus>(&scene.namespace.name).list(&Default::default()).await.unwrap();
    let of_it = statuses.items.into_iter().filter(|it| it.spec.configuration_ref.name == case.configuration);
    let mut statuses: Vec<Value> = of_it.map(|it| json!({"spec": *it.spec, "status": it.status})).collect();
    for status in &mut statuses {
        status["spec"]["configurationRef"].take();
    }
    let mut all = json!({"status": object.status, "pairs": statuses});
    all["status"]["lastHandledReplicateRequest"].take();
    without_times(&mut all);
    let text = serde_json::to_string_pretty(&all).unwrap();
    let text = case.own.iter().fold(text, |text, own| text.replace(own.as_str(), "OWN"));
    text.replace(case.configuration, "CONFIGURATION")
}

/// Waits until all cases read the same, with `reason` at the condition Ready.
async fn read_the_same(scene: &Scene, cases: &[Case], reason: &str, when: &str) {
    eventually(SOON, &format!("they read the same {when}"), async || {
        let mut texts = Vec::new();
        for case in cases {
            texts.push(seen(scene, case).await);
        }
        let wanted = format!("\"reason\": \"{reason}\"");
        match texts.iter().find(|text| **text != texts[0] || !text.contains(&wanted)) {
            None => Ok(()),
            Some(other) => Err(format!("{}\n--- and ---\n{other}", texts[0])),
        }
    })
    .await;
}

async fn compare_again(scene: &Scene, cases: &[Case], token: &str) {
    for case in cases {
        scene.compared_again(case.configuration, token).await;
    }
}

fn consent(namespace: &str) -> RegistryPermissionPolicy {
    serde_json::from_value(json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": "consent"},
        "spec": {"registryRef": {"name": "theirs"}, "statements": [{
            "sid": "all", "effect": "Allow", "principals": [{"namespace": namespace}],
            "actions": ["ReplicateImage", "CreateRepository"], "resources": ["*"],
        }]},
    }))
    .unwrap()
}

fn configuration(name: &str, source: &str, destination: Value) -> ReplicationConfiguration {
    serde_json::from_value(json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": name},
        "spec": {"source": {"registryRef": {"name": source}}, "interval": "24h",
            "rules": [{"name": "all", "destinations": [destination]}]},
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_of_others_read_the_same_if_absent_forbidden_or_taken() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = Scene::new("hidden").await;
    let (namespace, user) = (scene.namespace.name.clone(), scene.other_namespace("hidden-user").await);
    scene.open_registry("source", &source).await;
    scene.allow(&destination.host());
    let open = |url: String| json!({"url": url, "allowHTTP": true});
    scene.registry_object(&user, "source", open(source.url())).await;
    let mut cases = Vec::new();
    for (number, name) in ["absent", "forbidden", "broken", "taken"].into_iter().enumerate() {
        let owner = scene.other_namespace(&format!("hidden-o{number}")).await;
        match name {
            "absent" => {}
            "broken" => scene.registry_object(&owner, "theirs", open("http://127.0.0.1:1".to_owned())).await,
            _ => scene.registry_object(&owner, "theirs", open(destination.url())).await,
        }
        if name == "taken" {
            let policies = scene.api::<RegistryPermissionPolicy>(&owner);
            policies.create(&PostParams::default(), &consent(&user)).await.unwrap();
            let theirs = configuration("user", "source", to_other(&owner, "theirs"));
            scene.api::<ReplicationConfiguration>(&user).create(&PostParams::default(), &theirs).await.unwrap();
        }
        cases.push(Case { configuration: name, own: vec![owner] });
    }
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&user, "user", "Ready", "True", "Replicated", SOON).await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // Ages differ by the second.
    for case in &cases {
        let object = configuration(case.configuration, "source", to_other(&case.own[0], "theirs"));
        scene.configurations().create(&PostParams::default(), &object).await.unwrap();
    }
    let reason = "NoStatementAllows";
    read_the_same(&scene, &cases, reason, "at first").await;
    source.push("app", "v2", &Image::single(2, 1, 1_000));
    compare_again(&scene, &cases, "1").await;
    read_the_same(&scene, &cases, reason, "after a push").await;
    // What is absent appears, and what is forbidden disappears.
    scene.registry_object(&cases[0].own[0], "theirs", open(destination.url())).await;
    scene.api::<Registry>(&cases[1].own[0]).delete("theirs", &DeleteParams::default()).await.unwrap();
    compare_again(&scene, &cases, "2").await;
    read_the_same(&scene, &cases, reason, "after both changed").await;
    scene.end_operator().await;
    scene.start_operator().await;
    compare_again(&scene, &cases, "3").await;
    read_the_same(&scene, &cases, reason, "after a restart").await;
    // Some time after the restart the older configuration copies what was pushed.
    eventually(SOON, "v2 is at the destination", async || {
        destination.digest("app", "v2").map(drop).ok_or_else(|| format!("{:?}", destination.tags("app")))
    })
    .await;
    // Consent shows everything, once there is something to write that the older configuration has not written.
    let policies = scene.api::<RegistryPermissionPolicy>(&cases[0].own[0]);
    policies.create(&PostParams::default(), &consent(&namespace)).await.unwrap();
    let uid = scene.api::<Registry>(&cases[0].own[0]).get("theirs").await.unwrap().metadata.uid.unwrap();
    scene.condition::<ReplicationConfiguration>(&namespace, "absent", "Ready", "True", "Replicated", SOON).await;
    source.push("app", "v3", &Image::single(3, 1, 1_000));
    scene.compared_again("absent", "4").await;
    let (kind, reason) = ("Stalled", "DestinationConflict");
    scene.condition::<ReplicationConfiguration>(&namespace, "absent", kind, "True", reason, SOON).await;
    scene.api::<ReplicationConfiguration>(&user).delete("user", &DeleteParams::default()).await.unwrap();
    scene.condition::<ReplicationConfiguration>(&namespace, "absent", "Ready", "True", "Replicated", SOON).await;
    let shown = scene.statuses().await;
    assert!(shown.iter().any(|status| status.spec.destination.registry_ref.uid == uid), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_the_login_reads_the_same_free_or_taken() {
    let source = registry();
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = Scene::new("stranger").await;
    let victim = scene.other_namespace("stranger-victim").await;
    scene.open_registry("source", &source).await;
    scene.registry_object(&victim, "source", json!({"url": source.url(), "allowHTTP": true})).await;
    let mut registries = Vec::new();
    let mut cases = Vec::new();
    for name in ["free", "taken"] {
        let destination =
            TestRegistry::distribution(&format!("stranger-{name}")).user("writer", PASSWORD).start().await;
        if name == "taken" {
            scene.registry(&victim, "theirs", &destination, Some("writer")).await;
            let theirs = configuration("victim", "source", to("theirs"));
            scene.api::<ReplicationConfiguration>(&victim).create(&PostParams::default(), &theirs).await.unwrap();
        } else {
            scene.allow(&destination.host());
        }
        let own = scene.namespace.name.clone();
        scene.secret(&own, &format!("{name}-login"), &destination.host(), "writer", "a wrong password").await;
        let login = json!({"secretRef": {"name": format!("{name}-login")}});
        let spec = json!({"url": destination.url(), "allowHTTP": true, "credentials": login});
        scene.registry_object(&own, &format!("{name}-mine"), spec).await;
        let object = scene.api::<Registry>(&own).get(&format!("{name}-mine")).await.unwrap();
        let port = destination.host().rsplit_once(':').unwrap().1.to_owned();
        cases.push(Case { configuration: name, own: vec![destination.host(), port, object.metadata.uid.unwrap()] });
        registries.push(destination);
    }
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&victim, "victim", "Ready", "True", "Replicated", SOON).await;
    for case in &cases {
        let object = configuration(case.configuration, "source", to(&format!("{}-mine", case.configuration)));
        scene.configurations().create(&PostParams::default(), &object).await.unwrap();
    }
    read_the_same(&scene, &cases, "ImagesFailed", "at first").await;
    source.push("app", "v2", &Image::single(2, 1, 1_000));
    compare_again(&scene, &cases, "1").await;
    read_the_same(&scene, &cases, "ImagesFailed", "after a push").await;
    // The victim itself is compared at the next start.
    assert!(registries[1].pusher().digest_of("app", "v2").await.is_none(), "nothing was written");
    scene.end_operator().await;
    scene.start_operator().await;
    compare_again(&scene, &cases, "2").await;
    read_the_same(&scene, &cases, "ImagesFailed", "after a restart").await;
    assert!(registries[0].pusher().digest_of("app", "v1").await.is_none(), "nothing was written");
}

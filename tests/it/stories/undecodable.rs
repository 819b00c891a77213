//! Objects that this version of the program cannot decode, as another version may have stored them.
//!
//! Definitions change meanwhile, so these run while no other test uses the API server.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, Resource};
use serde_json::{Value, json};
use transship::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration, ReplicationStatus};

use super::core::{SOON, between, is_ready};
use super::scene::{Scene, to, to_other};
use crate::support::eventually::{eventually, throughout};
use crate::support::image::Image;
use crate::tag_filters::registry;

/// A definition of which one property takes any value.
struct Loosened {
    definitions: Api<CustomResourceDefinition>,
    name: String,
    /// The JSON pointer of the property's schema.
    path: String,
    schema: Value,
}

impl Loosened {
    /// Lets a property of the `part` (`spec` or `status`) of a kind have any value.
    async fn new<K: Resource<DynamicType = ()>>(client: &Client, part: &str, property: &str) -> Self {
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = format!("{}.{}", K::plural(&()), K::group(&()));
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}/properties/{property}");
        let found = serde_json::to_value(definitions.get(&name).await.unwrap()).unwrap();
        let schema = found.pointer(&path).expect("the property has a schema").clone();
        let loosened = Self { definitions, name, path, schema };
        loosened.set(json!({"x-kubernetes-preserve-unknown-fields": true})).await;
        loosened
    }

    async fn set(&self, schema: Value) {
        let patch = serde_json::from_value(json!([{"op": "replace", "path": self.path, "value": schema}])).unwrap();
        let patch = Patch::Json::<()>(patch);
        self.definitions.patch(&self.name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn restore(self) {
        self.set(self.schema.clone()).await;
    }
}

/// Returns access to a kind whose objects may be anything.
fn untyped<K: Resource<DynamicType = ()>>(client: &Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

/// Changes the spec of an object, once the API server takes the change.
async fn change(objects: &Api<DynamicObject>, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    eventually(SOON, "the API server takes the change", async || {
        objects.patch(name, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())
    })
    .await;
}

/// Waits until an object says that it cannot be decoded, and why.
async fn is_reported(objects: &Api<DynamicObject>, name: &str, cause: &str) {
    eventually(SOON, "it is reported on the object", async || {
        let object = objects.get(name).await.map_err(|error| error.to_string())?;
        let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let has = |kind: &str, status: &str| {
            conditions.iter().any(|condition| {
                let message = condition["message"].as_str().unwrap_or_default();
                condition["type"] == kind
                    && condition["status"] == status
                    && condition["reason"] == "InvalidSpec"
                    && message.starts_with("this version of Transship cannot read the object: ")
                    && message.contains(cause)
            })
        };
        if has("Ready", "False") && has("Stalled", "True") { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await;
}

/// Returns the uids of the statuses of one configuration.
async fn uids(scene: &Scene, configuration: &str) -> BTreeSet<String> {
    let mut statuses = scene.statuses().await;
    statuses.retain(|status| status.spec.configuration_ref.name == configuration);
    statuses.into_iter().filter_map(|status| status.metadata.uid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_no_longer_decodes_stays_and_stops_no_other() {
    let (source, destination, second) = (registry(), registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = between("undecodable", &source, &destination, None).await;
    scene.open_registry("second", &second).await;
    scene.configure("other", "source", &[to("second")], None, "24h").await;
    scene.start_operator().await;
    is_ready(&scene).await;
    eventually(SOON, "both have the image", async || second.digest("app", "v1").is_some()).await;
    let before = uids(&scene, "all").await;
    assert_eq!(before.len(), 1);

    let client = scene.plane.client().await;
    let loosened = Loosened::new::<ReplicationConfiguration>(&client, "spec", "priority").await;
    let objects = untyped::<ReplicationConfiguration>(&client, &scene.namespace.name);
    change(&objects, "all", json!({"priority": "high"})).await;
    is_reported(&objects, "all", "spec.priority: invalid type: string \"high\"").await;
    for (seed, is_restarted) in [(2, false), (3, true)] {
        if is_restarted {
            scene.kill_operator();
            scene.start_operator().await;
        }
        let (tag, image) = (format!("v{seed}"), Image::single(seed, 1, 1_000));
        let digest = source.push("app", &tag, &image);
        scene.notify("source", "app", &tag, &digest).await;
        eventually(SOON, "the other configuration goes on", async || {
            second.digest("app", &tag).as_deref() == Some(digest.as_str())
        })
        .await;
        is_reported(&objects, "all", "spec.priority: invalid type: string \"high\"").await;
        throughout(Duration::from_secs(2), "it stands still", async || destination.digest("app", &tag).is_none()).await;
        assert_eq!(uids(&scene, "all").await, before, "its statuses stay");
    }

    change(&objects, "all", json!({"priority": 5})).await;
    loosened.restore().await;
    is_ready(&scene).await;
    eventually(SOON, "it goes on", async || destination.tags("app") == source.tags("app")).await;
    assert_eq!(uids(&scene, "all").await, before, "its statuses are the same objects");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_no_longer_decodes_denies_and_a_registry_stops_no_other() {
    let (source, destination, own) = (registry(), registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = between("undecodable-policy", &source, &own, None).await;
    let owner = scene.other_namespace("owner").await;
    scene.allow(&destination.host());
    scene.registry_object(&owner, "theirs", json!({"url": destination.url(), "allowHTTP": true})).await;
    let policy = json!({
        "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": "consent"},
        "spec": {"registryRef": {"name": "theirs"}, "statements": [{"sid": "all", "effect": "Allow",
            "principals": [{"namespace": scene.namespace.name}], "actions": ["ReplicateImage", "CreateRepository"],
            "resources": ["*"]}]},
    });
    let client = scene.plane.client().await;
    let policies = untyped::<RegistryPermissionPolicy>(&client, &owner);
    policies.create(&Default::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    scene.configure("other", "source", &[to_other(&owner, "theirs")], None, "24h").await;
    scene.start_operator().await;
    is_ready(&scene).await;
    eventually(SOON, "both have the image", async || destination.digest("app", "v1").is_some()).await;

    let loose_policy = Loosened::new::<RegistryPermissionPolicy>(&client, "spec", "statements").await;
    let statements = policies.get("consent").await.unwrap().data["spec"]["statements"].clone();
    change(&policies, "consent", json!({"statements": "all"})).await;
    is_reported(&policies, "consent", "spec.statements: invalid type: string \"all\"").await;
    let digest = source.push("app", "v2", &Image::single(2, 1, 1_000));
    scene.notify("source", "app", "v2", &digest).await;
    eventually(SOON, "what needs no consent arrives", async || own.digest("app", "v2").is_some()).await;
    throughout(Duration::from_secs(2), "nothing is allowed", async || destination.digest("app", "v2").is_none()).await;
    change(&policies, "consent", json!({"statements": statements})).await;
    loose_policy.restore().await;
    eventually(SOON, "consent is back", async || destination.digest("app", "v2").is_some()).await;

    let loose_registry = Loosened::new::<Registry>(&client, "spec", "limits").await;
    let registries = untyped::<Registry>(&client, &owner);
    change(&registries, "theirs", json!({"limits": "many"})).await;
    is_reported(&registries, "theirs", "spec.limits: invalid type: string \"many\"").await;
    let digest = source.push("app", "v3", &Image::single(3, 1, 1_000));
    scene.notify("source", "app", "v3", &digest).await;
    eventually(SOON, "the other destination goes on", async || own.digest("app", "v3").is_some()).await;
    change(&registries, "theirs", json!({"limits": null})).await;
    loose_registry.restore().await;
    eventually(SOON, "the destination goes on", async || destination.digest("app", "v3").is_some()).await;
    let left = scene.api::<Registry>(&owner).list(&ListParams::default()).await.expect("all can be decoded again");
    assert_eq!(left.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_no_longer_decodes_is_written_anew_after_a_restart() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut scene = between("undecodable-status", &source, &destination, None).await;
    scene.start_operator().await;
    is_ready(&scene).await;
    let name = scene.statuses().await.pop().and_then(|status| status.metadata.name).expect("a status");
    scene.kill_operator();

    let client = scene.plane.client().await;
    let loosened = Loosened::new::<ReplicationStatus>(&client, "status", "images").await;
    let objects = untyped::<ReplicationStatus>(&client, &scene.namespace.name);
    let patch = Patch::Merge(json!({"status": {"images": "many"}}));
    eventually(SOON, "the API server takes the status", async || {
        let patched = objects.patch_status(&name, &PatchParams::default(), &patch).await;
        patched.map_err(|error| error.to_string())
    })
    .await;
    scene.start_operator().await;
    let digest = source.push("app", "v2", &Image::single(2, 1, 1_000));
    scene.notify("source", "app", "v2", &digest).await;
    eventually(SOON, "the status shows both images again", async || {
        let found = objects.get(&name).await.map_err(|error| error.to_string())?;
        let images = found.data["status"]["images"].as_array().map_or(0, Vec::len);
        if images == 2 { Ok(()) } else { Err(found.data["status"].to_string()) }
    })
    .await;
    loosened.restore().await;
    assert_eq!(scene.statuses().await.len(), 1);
}

//! Another owner's registry is written to only with its owner's consent.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use transship::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration, ReplicationStatus};
use transship::terms::{FailureCode, ReplicationState, Side};

use super::scene::{PASSWORD, Scene, to, to_other};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::proxy::{FaultProxy, LineFault};
use crate::support::registry::{AccessLine, TestRegistry};

const SOON: Duration = Duration::from_secs(30);

struct TwoOwners {
    scene: Scene,
    other: String,
    source: TestRegistry,
    destination: TestRegistry,
}

async fn two_owners(story: &str) -> TwoOwners {
    let source = TestRegistry::distribution(&format!("{story}-source")).user("reader", PASSWORD).start().await;
    let destination =
        TestRegistry::distribution(&format!("{story}-destination")).user("writer", PASSWORD).start().await;
    source.pusher().push("prod-app", "v1", &Image::single(31, 2, 5_000)).await;
    let mut scene = Scene::new(story).await;
    let other = scene.other_namespace(&format!("{story}-other")).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&other, "eu-west-1", &destination, Some("writer")).await;
    scene.configure("cross", "source", &[to_other(&other, "eu-west-1")], None, "10s").await;
    scene.start_operator().await;
    TwoOwners { scene, other, source, destination }
}

impl TwoOwners {
    async fn policy(&self, name: &str, sid: &str, effect: &str, actions: &[&str], resource: &str) {
        let policy = serde_json::json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "RegistryPermissionPolicy", "metadata": {"name": name},
            "spec": {"registryRef": {"name": "eu-west-1"}, "statements": [{
                "sid": sid, "effect": effect, "principals": [{"namespace": self.scene.namespace.name}],
                "actions": actions, "resources": [resource],
            }]},
        });
        let policies = self.scene.api::<RegistryPermissionPolicy>(&self.other);
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
    }

    async fn permitted(&self, status: &str, reason: &str) -> String {
        let name = self.scene.statuses().await[0].metadata.name.clone().unwrap();
        self.scene
            .condition::<ReplicationStatus>(&self.scene.namespace.name, &name, "Permitted", status, reason, SOON)
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_reaches_the_destination_without_consent_with_it_the_image() {
    let two = two_owners("consent").await;
    let failed = two.scene.image_becomes("eu-west-1/prod-app:v1", ReplicationState::Failed, SOON).await;
    assert_eq!(failed.failure_code, Some(FailureCode::RegistryPermissionDenied));
    assert!(failed.message.unwrap().contains("no statement allows ReplicateImage"));
    two.permitted("False", "NoStatementAllows").await;
    tokio::time::sleep(Duration::from_secs(12)).await; // A comparison and retries more.
    // The owner's own check of its Registry (`GET /v2/`) is all that its registry ever saw.
    let seen = two.destination.access_log();
    assert!(seen.iter().all(|access| access.path == "/v2/"), "{seen:?}");

    two.policy("replicate", "ReplicationAccessCrossAccount", "Allow", &["ReplicateImage"], "prod-*").await;
    eventually(SOON, "a repository may not be created yet", async || {
        let images = two.scene.images().await;
        // With the first consent the pair gets another status.
        let image = images.get("eu-west-1/prod-app:v1");
        let message = image.and_then(|image| image.message.clone()).unwrap_or_default();
        if message.contains("CreateRepository") { Ok(()) } else { Err(message) }
    })
    .await;
    assert!(two.destination.access_log().iter().all(|access| matches!(access.method.as_str(), "GET" | "HEAD")));

    two.policy("create", "MayCreate", "Allow", &["CreateRepository"], "prod-*").await;
    two.scene.image_becomes("eu-west-1/prod-app:v1", ReplicationState::Complete, SOON).await;
    let message = two.permitted("True", "StatementAllows").await;
    assert!(message.contains("ReplicationAccessCrossAccount"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_overwrite_leaves_the_tag_and_a_revoked_policy_stops_the_rest() {
    let two = two_owners("revoked").await;
    two.policy("allow", "All", "Allow", &["ReplicateImage", "CreateRepository"], "*").await;
    two.scene.image_becomes("eu-west-1/prod-app:v1", ReplicationState::Complete, SOON).await;
    let first = two.destination.pusher().digest_of("prod-app", "v1").await;
    two.policy("keep", "NoOverwrite", "Deny", &["OverwriteTag"], "*").await;
    tokio::time::sleep(Duration::from_secs(6)).await; // Decisions are made by policies that are at most 5 s old.
    two.source.pusher().push("prod-app", "v1", &Image::single(32, 2, 5_000)).await;
    let failed = two.scene.image_becomes("eu-west-1/prod-app:v1", ReplicationState::Failed, SOON).await;
    assert!(failed.message.unwrap().contains("NoOverwrite"));
    assert_eq!(two.destination.pusher().digest_of("prod-app", "v1").await, first);
    for name in ["allow", "keep"] {
        two.scene.api::<RegistryPermissionPolicy>(&two.other).delete(name, &DeleteParams::default()).await.unwrap();
    }
    two.source.pusher().push("prod-app", "v2", &Image::single(33, 2, 5_000)).await;
    let failed = two.scene.image_becomes("eu-west-1/prod-app:v2", ReplicationState::Failed, SOON).await;
    assert_eq!(failed.failure_code, Some(FailureCode::RegistryPermissionDenied));
}

/// A copy to another owner's registry whose only layer takes half a minute, so slow is its source.
pub struct SlowLayer {
    pub scene: Scene,
    other: String,
    source: FaultProxy,
    destination: TestRegistry,
    registry: TestRegistry,
}

impl SlowLayer {
    /// Nothing runs yet; the owner consents.
    pub async fn new(story: &str) -> Self {
        Self::of(story, 8 << 20).await
    }

    /// The same with a layer of so many bytes.
    pub async fn of(story: &str, bytes: usize) -> Self {
        let source = TestRegistry::distribution(&format!("{story}-source")).user("reader", PASSWORD).start().await;
        let destination = TestRegistry::distribution(&format!("{story}-to")).user("writer", PASSWORD).start().await;
        let proxy = FaultProxy::start(source.address());
        let large = Image::with_layers(35, "linux/amd64", vec![Blob::layer(35, bytes)]);
        source.pusher().push("app", "v1", &large).await;
        let mut scene = Scene::new(story).await;
        let other = scene.other_namespace(&format!("{story}-other")).await;
        let namespace = scene.namespace.name.clone();
        scene.allow(&proxy.host());
        scene.secret(&namespace, "source", &proxy.host(), "reader", PASSWORD).await;
        let spec = serde_json::json!({"url": format!("http://{}", proxy.host()), "allowHTTP": true,
            "credentials": {"secretRef": {"name": "source"}}});
        scene.registry_object(&namespace, "source", spec).await;
        scene.registry(&other, "eu-west-1", &destination, Some("writer")).await;
        let two = TwoOwners { scene, other, source, destination };
        two.policy("allow", "All", "Allow", &["ReplicateImage", "CreateRepository"], "*").await;
        let TwoOwners { scene, other, source, destination } = two;
        Self { scene, other, source: proxy, destination, registry: source }
    }

    /// Starts the operator, and waits until the layer is on its way.
    pub async fn is_on_its_way(&mut self) {
        self.begin("InProcess", Duration::from_millis(200)).await;
        self.moves().await;
    }

    /// Starts the operator, and has the layer copied in an execution mode; its source waits before each piece.
    pub async fn begin(&mut self, mode: &str, pause: Duration) {
        self.scene.start_operator().await;
        self.source.set(LineFault::Delay { to_upstream: Duration::ZERO, to_client: pause });
        let object: ReplicationConfiguration = serde_json::from_value(serde_json::json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": "cross"},
            "spec": {"source": {"registryRef": {"name": "source"}}, "interval": "10s", "execution": {"mode": mode},
                "rules": [{"name": "all", "destinations": [to_other(&self.other, "eu-west-1")]}]},
        }))
        .unwrap();
        self.scene.configurations().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Returns the blobs that were read from the source more than once.
    pub fn read_again(&self) -> Vec<String> {
        let (mut seen, log) = (std::collections::BTreeSet::new(), self.registry.access_log());
        let reads = log.into_iter().filter(|line| line.method == "GET" && line.path.contains("/blobs/"));
        reads.map(|line| line.path).filter(|path| !seen.insert(path.clone())).collect()
    }

    /// Lets the rest of the layer through at once.
    pub fn lets_through(&self) {
        self.source.set(LineFault::None);
    }

    /// Waits until the layer is on its way.
    pub async fn moves(&self) {
        eventually(SOON, "the layer is on its way", async || self.source.bytes_to_client() > 500_000).await;
    }

    /// The owner withdraws its consent: no byte of the layer comes later than 10 s after that, and no manifest is
    /// written.
    pub async fn is_stopped_by_its_owner(&self) {
        let policies = self.scene.api::<RegistryPermissionPolicy>(&self.other);
        policies.delete("allow", &DeleteParams::default()).await.unwrap();
        self.is_stopped("policy").await;
    }

    /// The Registry of one end is deleted, with the same effect.
    pub async fn is_stopped_by_the_end_of(&self, side: Side) {
        let (namespace, name) = match side {
            Side::Source => (&self.scene.namespace.name, "source"),
            Side::Destination => (&self.other, "eu-west-1"),
        };
        self.scene.api::<Registry>(namespace).delete(name, &DeleteParams::default()).await.unwrap();
        self.is_stopped("Registry").await;
    }

    /// The Registry of one end is replaced by another object of its name, which leads nowhere; with the same effect.
    pub async fn is_stopped_by_another(&self, side: Side) {
        let (namespace, name) = match side {
            Side::Source => (&self.scene.namespace.name, "source"),
            Side::Destination => (&self.other, "eu-west-1"),
        };
        self.scene.api::<Registry>(namespace).delete(name, &DeleteParams::default()).await.unwrap();
        self.scene.registry_object(namespace, name, nowhere()).await;
        self.is_stopped("Registry").await;
    }

    /// The configuration names another source, with the same effect.
    pub async fn is_stopped_by_another_source(&self) {
        self.scene.registry_object(&self.scene.namespace.name, "other", nowhere()).await;
        let patch = Patch::Merge(serde_json::json!({"spec": {"source": {"registryRef": {"name": "other"}}}}));
        self.scene.configurations().patch("cross", &PatchParams::default(), &patch).await.unwrap();
        self.is_stopped("source").await;
    }

    async fn is_stopped(&self, deleted: &str) {
        let revoked = Instant::now();
        let mut last = (self.source.bytes_to_client(), Duration::ZERO);
        while revoked.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // A comparison reads on; a layer is more.
            if self.source.bytes_to_client() > last.0 + 10_000 {
                last = (self.source.bytes_to_client(), revoked.elapsed());
            }
        }
        println!("the last bytes of the layer came {:?} after the {deleted} was deleted", last.1);
        assert!(last.1 < Duration::from_secs(10), "{last:?}");
        let manifests = |access: &AccessLine| access.method == "PUT" && access.path.contains("/manifests/");
        assert!(!self.destination.access_log().iter().any(manifests), "{:?}", self.destination.access_log());
    }

    /// The status reports it.
    pub async fn is_reported(&self) {
        let failed = self.scene.image_becomes("eu-west-1/app:v1", ReplicationState::Failed, SOON).await;
        // The first failure says that it was revoked; later attempts are denied before they begin.
        assert!(matches!(
            failed.failure_code,
            Some(FailureCode::PolicyRevoked | FailureCode::RegistryPermissionDenied)
        ));
    }
}

fn nowhere() -> serde_json::Value {
    serde_json::json!({"url": "http://127.0.0.1:1", "allowHTTP": true})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_is_deleted_in_the_middle_of_a_layer_stops_the_copy() {
    let mut layer = SlowLayer::new("layer").await;
    layer.is_on_its_way().await;
    let reported = async {
        eventually(SOON, "PolicyRevoked is reported", async || {
            let images = layer.scene.images().await;
            let code = images.get("eu-west-1/app:v1").and_then(|image| image.failure_code);
            if code == Some(FailureCode::PolicyRevoked) { Ok(()) } else { Err(format!("{code:?}")) }
        })
        .await;
    };
    tokio::join!(layer.is_stopped_by_its_owner(), reported);
    layer.is_reported().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_deleted_in_the_middle_of_a_layer_stops_the_copy() {
    let stopped = [Side::Source, Side::Destination].map(async |side| {
        let mut layer = SlowLayer::new("layer-registry").await;
        layer.is_on_its_way().await;
        layer.is_stopped_by_the_end_of(side).await;
    });
    futures::future::join_all(stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_configurations_on_one_repository_do_not_flip_flop() {
    let one = TestRegistry::distribution("flip-one").user("reader", PASSWORD).start().await;
    let two = TestRegistry::distribution("flip-two").user("reader", PASSWORD).start().await;
    let target = TestRegistry::distribution("flip-target").user("writer", PASSWORD).start().await;
    let first = one.pusher().push("app", "v1", &Image::single(41, 2, 5_000)).await;
    let second = two.pusher().push("app", "v1", &Image::single(42, 2, 5_000)).await;
    let mut scene = Scene::new("flip").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "one", &one, Some("reader")).await;
    scene.registry(&namespace, "two", &two, Some("reader")).await;
    scene.registry(&namespace, "target", &target, Some("writer")).await;
    scene.configure("first", "one", &[to("target")], None, "10s").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // Ages differ by the second.
    scene.configure("second", "two", &[to("target")], None, "10s").await;
    scene.start_operator().await;
    let message = scene
        .condition::<ReplicationConfiguration>(&namespace, "second", "Stalled", "True", "DestinationConflict", SOON)
        .await;
    assert!(message.contains("app") && !message.contains("first"), "{message}");
    scene.condition::<ReplicationConfiguration>(&namespace, "first", "Ready", "True", "Replicated", SOON).await;
    let manifests = |registry: &TestRegistry| {
        registry.access_log().iter().filter(|a| a.method == "PUT" && a.path.contains("/manifests/v1")).count()
    };
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(target.pusher().digest_of("app", "v1").await, Some(first));
    assert_eq!(manifests(&target), 1, "the tag was written once");
    scene.configurations().delete("first", &DeleteParams::default()).await.unwrap();
    scene.condition::<ReplicationConfiguration>(&namespace, "second", "Ready", "True", "Replicated", SOON).await;
    assert_eq!(target.pusher().digest_of("app", "v1").await, Some(second));
}

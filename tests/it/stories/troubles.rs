//! Problems are reported on the right object within 10 s, resolve within 30 s of their cause, and delay no other
//! object.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use transship::api::{Registry, ReplicationConfiguration};
use transship::terms::ReplicationState;

use super::scene::{PASSWORD, Scene, to};
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::stage;
use crate::support::tls::TestAuthority;

/// On a node a pod has to start first.
fn report_within() -> Duration {
    Duration::from_secs(if stage::node().is_some() { 30 } else { 10 })
}

const RECOVERY: Duration = Duration::from_secs(30);

/// A story of a destination that does not work, beside a configuration that does.
struct Trouble {
    scene: Scene,
    source: TestRegistry,
    broken: TestRegistry,
    _healthy: TestRegistry,
    namespace: String,
}

async fn trouble(story: &str, broken: TestRegistry, spec: impl FnOnce(&TestRegistry) -> serde_json::Value) -> Trouble {
    let source = TestRegistry::distribution(&format!("{story}-source")).user("reader", PASSWORD).start().await;
    let healthy = TestRegistry::distribution(&format!("{story}-healthy")).user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(51, 2, 5_000)).await;
    let mut scene = Scene::new(story).await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "healthy", &healthy, Some("writer")).await;
    scene.allow(&broken.host());
    scene.registry_object(&namespace, "broken", spec(&broken)).await;
    scene.configure("to-broken", "source", &[to("broken")], None, "24h").await;
    scene.configure("to-healthy", "source", &[to("healthy")], None, "24h").await;
    Trouble { scene, source, broken, _healthy: healthy, namespace }
}

impl Trouble {
    /// Starts the operator; the Registry reports `reason` in time, and the healthy configuration is not delayed.
    async fn is_reported(&mut self, reason: &str, words: &str) {
        self.scene.start_operator().await;
        let began = Instant::now();
        let scene = &self.scene;
        let message =
            scene.condition::<Registry>(&self.namespace, "broken", "Ready", "False", reason, report_within()).await;
        assert!(message.contains(words), "{message}");
        assert!(!message.contains(PASSWORD), "{message}");
        scene
            .condition::<ReplicationConfiguration>(
                &self.namespace,
                "to-broken",
                "Ready",
                "False",
                "ImagesFailed",
                report_within(),
            )
            .await;
        scene.image_becomes("healthy/app:v1", ReplicationState::Complete, report_within()).await;
        println!("{reason}: reported after {:?}", began.elapsed());
    }

    /// The cause was resolved just now: all else recovers by itself.
    async fn recovers(&self) {
        let began = Instant::now();
        self.scene.condition::<Registry>(&self.namespace, "broken", "Ready", "True", "Reachable", RECOVERY).await;
        let left = RECOVERY.saturating_sub(began.elapsed());
        self.scene.image_becomes("broken/app:v1", ReplicationState::Complete, left).await;
        println!("recovered after {:?}", began.elapsed());
    }
}

fn with_secret(registry: &TestRegistry) -> serde_json::Value {
    json!({"url": registry.url(), "allowHTTP": true, "credentials": {"secretRef": {"name": "broken"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password() {
    let broken = TestRegistry::distribution("password").user("writer", PASSWORD).start().await;
    let mut story = trouble("password", broken, with_secret).await;
    let host = story.broken.host();
    story.scene.secret(&story.namespace, "broken", &host, "writer", "not the password").await;
    story.is_reported("AuthenticationFailed", &host).await;
    story.scene.secret(&story.namespace, "broken", &host, "writer", PASSWORD).await;
    story.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host() {
    // The URL is immutable: it is resolved by a Registry under a name that resolves.
    let broken = TestRegistry::distribution("unknown").user("writer", PASSWORD).start().await;
    let mut story = trouble("unknown", broken, |_| json!({"url": "https://no-such-host.invalid"})).await;
    story.is_reported("HostUnknown", "no-such-host.invalid").await;
    let registries = story.scene.api::<Registry>(&story.namespace);
    registries.delete("broken", &Default::default()).await.unwrap();
    let (namespace, host) = (story.namespace.clone(), story.broken.host());
    story.scene.secret(&namespace, "broken", &host, "writer", PASSWORD).await;
    story.scene.registry_object(&namespace, "broken", with_secret(&story.broken)).await;
    story.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate() {
    let broken = TestRegistry::distribution("certificate").user("writer", PASSWORD).tls().start().await;
    let mut story = trouble(
        "certificate",
        broken,
        |registry| json!({"url": registry.url(), "credentials": {"secretRef": {"name": "broken"}}}),
    )
    .await;
    let host = story.broken.host();
    story.scene.secret(&story.namespace, "broken", &host, "writer", PASSWORD).await;
    story.is_reported("TlsRefused", &host).await;
    let ca = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"}, "stringData": {"ca.crt": TestAuthority::shared().pem()}});
    let secrets = story.scene.api::<Secret>(&story.namespace);
    secrets.patch("ca", &PatchParams::apply("story"), &Patch::Apply(ca)).await.unwrap();
    let tls = json!({"spec": {"tls": {"caSecretRef": {"name": "ca"}}}});
    story
        .scene
        .api::<Registry>(&story.namespace)
        .patch("broken", &PatchParams::default(), &Patch::Merge(tls))
        .await
        .unwrap();
    story.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret() {
    let broken = TestRegistry::distribution("missing").user("writer", PASSWORD).start().await;
    let mut story = trouble("missing", broken, with_secret).await;
    story.is_reported("SecretNotFound", "Secret broken").await;
    story.scene.secret(&story.namespace, "broken", &story.broken.host(), "writer", PASSWORD).await;
    story.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_wrong_type() {
    let broken = TestRegistry::distribution("type").user("writer", PASSWORD).start().await;
    let mut story = trouble("type", broken, with_secret).await;
    let wrong = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/ssh-auth", "metadata": {"name": "broken"},
        "stringData": {"ssh-privatekey": PASSWORD}});
    let secrets = story.scene.api::<Secret>(&story.namespace);
    secrets.create(&Default::default(), &serde_json::from_value(wrong).unwrap()).await.unwrap();
    story.is_reported("SecretInvalid", "kubernetes.io/ssh-auth").await;
    secrets.delete("broken", &Default::default()).await.unwrap();
    story.scene.secret(&story.namespace, "broken", &story.broken.host(), "writer", PASSWORD).await;
    story.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_bound_to_another_host_is_never_sent() {
    let broken = TestRegistry::distribution("bound").user("writer", PASSWORD).start().await;
    let mut story = trouble("bound", broken, with_secret).await;
    story.scene.secret(&story.namespace, "broken", "registry.example.com", "writer", PASSWORD).await;
    story.is_reported("SecretNotBoundToHost", "transship.dev/registry-host").await;
    assert!(story.broken.access_log().is_empty(), "nothing was sent there: {:?}", story.broken.access_log());
    story.scene.secret(&story.namespace, "broken", &story.broken.host(), "writer", PASSWORD).await;
    story.recovers().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_repository_and_a_missing_registry() {
    let source = TestRegistry::distribution("absent-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("absent-destination").user("writer", PASSWORD).start().await;
    let mut scene = Scene::new("absent").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    let filters = json!([{"filter": "app", "filterType": "EXACT_MATCH"}]);
    scene.configure("app", "source", &[to("destination")], Some(filters), "24h").await;
    scene.allow(&destination.host());
    scene.start_operator().await;
    let message = scene
        .condition::<ReplicationConfiguration>(
            &namespace,
            "app",
            "Stalled",
            "True",
            "RepositoryNotFound",
            report_within(),
        )
        .await;
    assert!(message.contains("no repository app"), "{message}");
    source.pusher().push("app", "v1", &Image::single(61, 2, 5_000)).await;
    let message = scene
        .condition::<ReplicationConfiguration>(&namespace, "app", "Stalled", "True", "RegistryNotFound", RECOVERY)
        .await;
    assert!(message.contains("destination"), "{message}");
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, RECOVERY).await;
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", RECOVERY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_may_not_be_created() {
    let broken = TestRegistry::distribution("never").user("writer", PASSWORD).start().await;
    let mut story = trouble("never", broken, |registry| {
        let mut spec = with_secret(registry);
        spec["createRepositories"] = "Never".into();
        spec
    })
    .await;
    story.scene.secret(&story.namespace, "broken", &story.broken.host(), "writer", PASSWORD).await;
    story.scene.start_operator().await;
    let failed = story.scene.image_becomes("broken/app:v1", ReplicationState::Failed, report_within()).await;
    assert_eq!(failed.failure_code, Some(transship::terms::FailureCode::RepositoryNotFound));
    story.broken.pusher().push("app", "seed", &Image::single(62, 1, 100)).await;
    story.scene.image_becomes("broken/app:v1", ReplicationState::Complete, RECOVERY).await;
    assert!(story.source.process_id().is_some());
}

//! Every kind of image arrives, byte for byte.

use std::time::Duration;

use transship::api::ReplicationStatus;
use transship::terms::ReplicationState;

use super::scene::{PASSWORD, Scene, to};
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::run_folder::new_folder;

const SOON: Duration = Duration::from_secs(30);

/// Pushes one of each kind to `source`; answers with their names.
pub async fn push_one_of_each(source: &TestRegistry) -> Vec<&'static str> {
    let pusher = source.pusher();
    pusher.push("kinds/multi", "v1", &Image::multi_platform(1, 20_000)).await;
    pusher.push("kinds/nested", "v1", &Image::nested_index(2, 20_000)).await;
    pusher.push("kinds/single", "v1", &Image::single(3, 3, 20_000)).await;
    pusher.push("kinds/docker", "v1", &Image::docker(4, 3, 20_000)).await;
    push_chart(source).await;
    push_with_oras(source).await;
    vec![
        "kinds/multi:v1",
        "kinds/nested:v1",
        "kinds/single:v1",
        "kinds/docker:v1",
        "kinds/demo-chart:0.1.0",
        "kinds/oras:v1",
    ]
}

async fn push_chart(source: &TestRegistry) {
    let folder = new_folder("chart");
    let at = |name: &str| folder.join(name).display().to_string();
    let login = source.login();
    login.run("helm", &["create", &at("demo-chart")]).await.expect_success("helm create");
    login.run("helm", &["package", &at("demo-chart"), "--destination", &at("")]).await.expect_success("helm package");
    let repository = format!("oci://{}/kinds", source.host());
    let config = login.folder().join("config.json").display().to_string();
    let push = ["push", &at("demo-chart-0.1.0.tgz"), &repository, "--plain-http", "--registry-config", &config];
    login.run("helm", &push).await.expect_success("helm push");
}

async fn push_with_oras(source: &TestRegistry) {
    let file = new_folder("oras").join("notes.txt");
    std::fs::write(&file, "an artifact of no image").unwrap();
    let (image, file) = (source.image("kinds/oras:v1"), format!("{}:text/plain", file.display()));
    let push = [
        "push",
        "--plain-http",
        "--disable-path-validation",
        "--artifact-type",
        "application/vnd.example.notes",
        &image,
        &file,
    ];
    source.login().run("oras", &push).await.expect_success("oras push");
}

/// Compares the digests as crane reports them, and every manifest and blob below.
pub async fn arrived(source: &TestRegistry, destination: &TestRegistry, images: &[&str]) {
    for image in images {
        let digest = async |registry: &TestRegistry| {
            let answer = registry.login().run("crane", &["digest", "--insecure", &registry.image(image)]).await;
            answer.expect_success("crane digest")
        };
        assert_eq!(digest(source).await, digest(destination).await, "{image}");
        let (repository, tag) = image.split_once(':').unwrap();
        let whole = source.pusher().copy_tree_digests(repository, tag).await;
        assert_eq!(whole, destination.pusher().copy_tree_digests(repository, tag).await, "{image}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_images_arrive_with_equal_digests() {
    let source = TestRegistry::distribution("kinds-source").user("reader", PASSWORD).start().await;
    let new = TestRegistry::distribution("kinds-new").user("writer", PASSWORD).start().await;
    let old = TestRegistry::docker_2_8("kinds-old").user("writer", PASSWORD).start().await;
    let images = push_one_of_each(&source).await;
    let mut scene = Scene::new("kinds").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "new", &new, Some("writer")).await;
    scene.registry(&namespace, "old", &old, Some("writer")).await;
    scene.configure("kinds", "source", &[to("new"), to("old")], None, "10m").await;
    scene.start_operator().await;
    for destination in ["new", "old"] {
        for image in &images {
            scene.image_becomes(&format!("{destination}/{image}"), ReplicationState::Complete, SOON).await;
        }
    }
    arrived(&source, &new, &images).await;
    arrived(&source, &old, &images).await;
    assert!(!scene.operator_log().await.contains(PASSWORD), "no secret is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_with_tokens_and_tls_are_at_home() {
    use crate::support::tls::TestAuthority;
    use crate::support::token_server::TokenServer;
    let tokens = TokenServer::start("registry.example.test");
    tokens.set_user("robot", PASSWORD, &["repository:*:pull,push", "registry:catalog:*"]);
    tokens.set_lifetime(Duration::from_secs(60));
    let source = TestRegistry::distribution("tls-source").user("robot", PASSWORD).tls().start().await;
    let destination =
        TestRegistry::distribution("token-destination").user("robot", PASSWORD).token_server(&tokens).start().await;
    source.pusher().push("app", "v1", &Image::multi_platform(11, 5_000)).await;
    let mut scene = Scene::new("tokens").await;
    let namespace = scene.namespace.name.clone();
    let realm = tokens.realm();
    let realm = realm.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    scene.allow(&realm);
    for (name, registry) in [("source", &source), ("destination", &destination)] {
        scene.allow(&registry.host());
        scene.secret(&namespace, name, &registry.host(), "robot", PASSWORD).await;
    }
    let ca = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": TestAuthority::shared().pem()}});
    let maps = scene.api::<k8s_openapi::api::core::v1::ConfigMap>(&namespace);
    maps.create(&Default::default(), &serde_json::from_value(ca).unwrap()).await.unwrap();
    let credentials = |name: &str| serde_json::json!({"secretRef": {"name": name}});
    let spec = serde_json::json!({"url": source.url(), "credentials": credentials("source"), "tls": {"caConfigMapRef": {"name": "ca"}}});
    scene.registry_object(&namespace, "source", spec).await;
    let spec = serde_json::json!({"url": destination.url(), "allowHTTP": true, "credentials": credentials("destination"), "trustedHosts": [realm]});
    scene.registry_object(&namespace, "destination", spec).await;
    scene.configure("tokens", "source", &[to("destination")], None, "10m").await;
    scene.start_operator().await;
    scene.image_becomes("destination/app:v1", ReplicationState::Complete, SOON).await;
    let name = scene.statuses().await[0].metadata.name.clone().unwrap();
    scene.condition::<ReplicationStatus>(&namespace, &name, "Replicated", "True", "Replicated", SOON).await;
}

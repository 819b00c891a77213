//! One image goes to two destinations: the operator, where it copies by itself, reads it once.

use std::time::Duration;

use transship::terms::ReplicationState;

use super::scene::{PASSWORD, Scene, to};
use crate::support::eventually::eventually;
use crate::support::image::{Blob, Image};
use crate::support::registry::TestRegistry;

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_two_destinations_is_read_once_in_process() {
    let source = TestRegistry::distribution("both-source").user("reader", PASSWORD).start().await;
    let one = TestRegistry::distribution("both-one").user("writer", PASSWORD).start().await;
    let other = TestRegistry::distribution("both-other").user("writer", PASSWORD).start().await;
    let layers = vec![Blob::layer(1, 6 << 20), Blob::layer(2, 50_000)];
    let image = Image::with_layers(41, "linux/amd64", layers.clone());
    source.pusher().push("app", "v1", &image).await;
    let mut scene = Scene::new("both").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "one", &one, Some("writer")).await;
    scene.registry(&namespace, "other", &other, Some("writer")).await;
    scene.configure("app", "source", &[to("one"), to("other")], None, "24h").await;
    scene.start_operator().await;
    for (destination, registry) in [("one", &one), ("other", &other)] {
        scene.image_becomes(&format!("{destination}/app:v1"), ReplicationState::Complete, SOON).await;
        assert_eq!(registry.pusher().copy_tree_digests("app", "v1").await, image.tree_digests());
    }
    for layer in &layers {
        let reads = || {
            let log = source.access_log();
            log.iter().filter(|access| access.method == "GET" && access.path.ends_with(&layer.digest)).count()
        };
        eventually(SOON, "the log is written", async || reads() > 0).await;
        assert_eq!(reads(), 1, "of {} bytes", layer.bytes.len());
    }
}

const SOON: Duration = Duration::from_secs(30);

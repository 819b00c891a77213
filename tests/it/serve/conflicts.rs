//! Two configurations that want one destination repository.

use serde_json::json;
use transship::terms::ReplicationState;

use super::{Serve, becomes, images};
use crate::standalone::Files;
use crate::support::eventually::throughout;
use crate::support::image::Image;
use crate::tag_filters::registry;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_configuration_has_a_repository_until_it_is_removed() {
    let (first_source, second_source, destination) = (registry(), registry(), registry());
    let first = first_source.push("app", "v1", &Image::single(1, 1, 1_000));
    let second = second_source.push("app", "v1", &Image::single(2, 1, 1_000));
    let mut files = Files::new("serve-conflict");
    for (name, registry) in [("source", &first_source), ("other", &second_source), ("d", &destination)] {
        let spec = json!({"url": registry.url(), "allowHTTP": true});
        files.add("Registry", json!({"namespace": "team-a", "name": name}), spec);
    }
    // By name and by the path of its source the second one would come first.
    files.configuration("z-first", "app", &[json!({"name": "d"})]);
    files.configuration("a-second", "app", &[json!({"name": "d"})]);
    files.documents.last_mut().unwrap()["spec"]["source"]["registryRef"]["name"] = json!("other");
    let serve = Serve::start(&files).await;
    becomes(&files, "z-first: d/app:v1", ReplicationState::Complete).await;
    serve.logs("DestinationConflict not ready: ", 0).await;
    serve.logs("Replicated ready: ", 0).await;
    let has_first = async || destination.tags("app").get("v1") == Some(&first);
    throughout(std::time::Duration::from_secs(1), "the first has it", has_first).await;
    assert_eq!(images(&files).await.keys().collect::<Vec<_>>(), ["z-first: d/app:v1"]);

    let ready = serve.count("Replicated ready: ");
    files.documents.retain(|document| document["metadata"]["name"] != "z-first");
    files.write();
    let complete = becomes(&files, "a-second: d/app:v1", ReplicationState::Complete).await;
    assert_eq!(complete.digest, second);
    assert_eq!(destination.tags("app")["v1"], second);
    assert_eq!(images(&files).await.keys().collect::<Vec<_>>(), ["a-second: d/app:v1"]);
    serve.logs("Replicated ready: ", ready).await;
    serve.end().await;
}

//! Registries at addresses of the cluster itself: the operator's Services, and API servers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use serde_json::json;
use transship::api::Registry;

use super::scene::Scene;

/// A Registry that fails is checked every 15 s.
const SOON: Duration = Duration::from_secs(60);
const OWN_NAMESPACE: &str = "transship";
const ADDRESS: &str = "10.96.0.29";
const REPLICA: &str = "10.96.3.30:8081";

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_never_asks_its_own_services_and_api_servers() {
    let mut scene = Scene::new("addresses").await;
    let namespace = scene.namespace.name.clone();
    let client = scene.namespace.client.clone();
    // The test server keeps no endpoints of its own.
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 6443}], "endpoints": [{"addresses": ["10.96.0.28"]}],
        "metadata": {"name": "kubernetes-story", "labels": {"kubernetes.io/service-name": "kubernetes"}}});
    slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
    let api_server = "10.96.0.28:6443";

    // Neither is refused for being private, nor saved by the administrator's list.
    scene.allow(api_server);
    scene.allow(&format!("{ADDRESS}:5000"));
    scene.registry_object(&namespace, "api", json!({"url": format!("https://{api_server}")})).await;
    let url = format!("http://{ADDRESS}:5000");
    scene.registry_object(&namespace, "own", json!({"url": url, "allowHTTP": true})).await;
    scene.allow(REPLICA);
    let replica = json!({"url": format!("http://{REPLICA}"), "allowHTTP": true});
    scene.registry_object(&namespace, "replica", replica).await;
    scene.start_operator().await;
    let refused = scene.condition::<Registry>(&namespace, "api", "Ready", "False", "EgressRefused", SOON).await;
    assert!(refused.contains("an address of the cluster"), "{refused}");
    scene.condition::<Registry>(&namespace, "own", "Ready", "False", "Unreachable", SOON).await;

    scene.condition::<Registry>(&namespace, "replica", "Ready", "False", "Unreachable", SOON).await;

    // The address becomes one of the operator's Services while the operator runs.
    let own = json!({"metadata": {"name": OWN_NAMESPACE}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let _ = namespaces.create(&PostParams::default(), &serde_json::from_value(own).unwrap()).await;
    let labels = json!({"app.kubernetes.io/name": "transship"});
    let service = json!({"metadata": {"name": "story", "labels": labels},
        "spec": {"clusterIP": ADDRESS, "ports": [{"port": 5000}]}});
    let services: Api<Service> = Api::namespaced(client.clone(), OWN_NAMESPACE);
    services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let refused = scene.condition::<Registry>(&namespace, "own", "Ready", "False", "EgressRefused", SOON).await;
    assert!(refused.contains("an address of the cluster"), "{refused}");
    // Another replica starts.
    let slices: Api<EndpointSlice> = Api::namespaced(client, OWN_NAMESPACE);
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 8443}], "endpoints": [{"addresses": ["10.96.3.30"]}],
        "metadata": {"name": "story", "labels": {"app.kubernetes.io/name": "transship"}}});
    slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
    let refused = scene.condition::<Registry>(&namespace, "replica", "Ready", "False", "EgressRefused", SOON).await;
    assert!(refused.contains("an address of the cluster"), "{refused}");
}

//! Situations from the field, in the operator: two accounts on one host, damaged transfers, and sides of failures.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use transship::terms::{FailureCode, ReplicationState};

use super::scene::{Scene, to};
use crate::standalone::basic;
use crate::support::image::{Blob, Image};
use crate::support::scripted::{Login, PASSWORD, Personality, ScriptedFault, ScriptedRegistry, USER, When};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_uses_the_login_of_a_path_and_outlasts_damaged_transfers() {
    let source = ScriptedRegistry::start(Personality { login: Login::Basic, ..Personality::plain() });
    let destination = ScriptedRegistry::start(Personality::plain());
    let layer = Blob::layer(7, 100_000);
    let image = Image::with_layers(1, "linux/amd64", vec![layer.clone()]);
    source.push("team/app", "v1", &image);
    source.push("team/refused", "v1", &Image::single(2, 1, 500));
    source.fault(When::asked("GET", &layer.digest), ScriptedFault::Flip(50_000));
    let location = vec![("location", "http://store.example/x".to_owned())];
    let elsewhere = ScriptedFault::Answer { status: 307, headers: location, body: "".into() };
    source.fault(When::asked("GET", "team/refused/blobs/").always(), elsewhere);

    let mut scene = Scene::new("field").await;
    let namespace = scene.namespace.name.clone();
    scene.open_registry("destination", &destination).await;
    scene.allow(&source.host());
    let host = source.host();
    let auths = json!({"auths": {
        host.clone(): {"auth": basic(USER, "wrong")},
        format!("{host}/team"): {"auth": basic(USER, PASSWORD)},
        "elsewhere.example": {"auth": "%"},
    }});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "two-accounts"}, "stringData": {".dockerconfigjson": auths.to_string()}});
    let secrets = scene.api::<Secret>(&namespace);
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    let spec = json!({"url": source.url(), "allowHTTP": true, "credentials": {"secretRef": {"name": "two-accounts"}},
        "trustedHosts": ["[::1]:5000", "::1"]});
    scene.registry_object(&namespace, "source", spec).await;
    let filters = ["team/app", "team/refused"].map(|name| json!({"filter": name, "filterType": "EXACT_MATCH"}));
    scene.configure("all", "source", &[to("destination")], Some(json!(filters)), "10m").await;
    scene.start_operator().await;

    scene.image_becomes("destination/team/app:v1", ReplicationState::Complete, SOON).await;
    assert_eq!(destination.tree("team/app", "v1"), image.tree_digests());
    let refused = scene.image_becomes("destination/team/refused:v1", ReplicationState::Failed, SOON).await;
    assert_eq!(refused.failure_code, Some(FailureCode::SourceRejected), "{refused:?}");
}

//! The words that people type: kubectl get, wait, explain; and objects that are accepted but cannot be carried out say
//! so.

use std::time::Duration;

use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;

use super::scene::{PASSWORD, Scene, to};
use crate::standalone::{Files, text};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::registry::TestRegistry;
use crate::support::token_server::TokenServer;

const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_waits_for_an_image_and_reads_at_a_glance() {
    let source = TestRegistry::distribution("glance-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("glance-destination").user("writer", PASSWORD).start().await;
    source.pusher().push("mservice", "42", &Image::single(81, 2, 5_000)).await;
    let mut scene = Scene::new("glance").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "us-west-2", &source, Some("reader")).await;
    scene.registry(&namespace, "eu-west-1", &destination, Some("writer")).await;
    scene.configure("services", "us-west-2", &[to("eu-west-1")], None, "10m").await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "services", "Ready", "True", "Replicated", SOON).await;
    let kubectl = async |arguments: &[&str]| {
        let arguments = [&["-n", &namespace], arguments].concat();
        scene.plane.kubectl(&arguments).await.expect_success("kubectl")
    };
    kubectl(&["wait", "replicationstatus", "--all", "--for=condition=Replicated", "--timeout=10s"]).await;
    let events = kubectl(&["get", "events", "--field-selector", "reason=Replicated"]).await;
    assert!(events.contains("replicationconfiguration/services"), "{events}");
    let of_tag = "--for=jsonpath={.status.images[?(@.tag==\"42\")].status}=COMPLETE";
    kubectl(&["wait", "replicationstatus", "--all", of_tag, "--timeout=10s"]).await;
    let shown = kubectl(&["get", "repstat"]).await;
    for word in ["SOURCE", "us-west-2/mservice", "eu-west-1/mservice", "COMPLETE", "REASON", "LATEST", "PENDING SINCE"]
    {
        assert!(shown.contains(word), "{word} is shown: {shown}");
    }
    let selected = ["get", "repstat", "-o", "name", "--field-selector"];
    let of_repository = kubectl(&[&selected[..], &["spec.source.repository=mservice"]].concat()).await;
    assert_eq!(of_repository.lines().count(), 1, "{of_repository}");
    assert_eq!(kubectl(&[&selected[..], &["spec.source.repository=other"]].concat()).await.trim(), "");
    let of_configuration =
        kubectl(&["get", "repstat", "-o", "name", "-l", "transship.dev/configuration=services"]).await;
    assert_eq!(of_configuration, of_repository);
    assert!(kubectl(&["get", "repconf"]).await.contains("services"), "the short name");
    let category = kubectl(&["get", "transship", "-o", "name"]).await;
    assert_eq!(category.lines().count(), 4, "two registries, a configuration, a status: {category}");

    let registry: Value =
        serde_json::from_str(&kubectl(&["get", "registry", "eu-west-1", "-o", "json"]).await).unwrap();
    assert_eq!(registry["spec"]["createRepositories"], "Auto", "defaults are written out");
    assert_eq!(registry["spec"]["limits"]["concurrency"], 8);
    let moved = json!({"spec": {"url": "https://elsewhere.example.com"}}).to_string();
    let patch = ["-n", &namespace, "patch", "registry", "eu-west-1", "--type=merge", "-p", &moved];
    let refused = scene.plane.kubectl(&patch).await;
    assert!(!refused.success && refused.stderr.contains("create another Registry"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_every_field() {
    let plane = crate::support::control_plane::ControlPlane::shared().await;
    // Discovery follows the definitions a moment later.
    let explains = async || plane.kubectl(&["explain", "replicationstatus"]).await.success;
    eventually(SOON, "kubectl explains the last kind", explains).await;
    for (field, word) in [
        ("registry.spec.url", "Immutable"),
        ("registry.spec.credentials.secretRef", "registry-host"),
        ("replicationconfiguration.spec.rules.repositoryFilters.filterType", "PREFIX_MATCH"),
        ("replicationconfiguration.spec.interval", "Default: 10m"),
        ("registrypermissionpolicy.spec.statements.resources", "as in ECR"),
        ("replicationstatus.status.images.failureCode", "a closed set"),
    ] {
        let explained = plane.kubectl(&["explain", field]).await.expect_success("kubectl explain");
        let words = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(word), "{field} is explained with {word:?}: {explained}");
    }
    for (file, yaml) in transship::api::custom_resource_definition_files() {
        let definition: Value = serde_saphyr::from_str(&yaml).unwrap();
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            undocumented(&schema[part]["properties"], &format!("{file} {part}"));
        }
    }
}

fn undocumented(properties: &Value, path: &str) {
    for (name, property) in properties.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let is_condition = path.contains(".conditions");
        assert!(is_condition || property["description"].is_string(), "{path} has no documentation");
        undocumented(&property["properties"], &path);
        undocumented(&property["items"]["properties"], &path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_list_asks_for_exact_names() {
    let tokens = TokenServer::start("registry.example.test");
    tokens.set_user("robot", PASSWORD, &["repository:*:pull,push"]);
    let source = TestRegistry::distribution("unlisted").user("robot", PASSWORD).token_server(&tokens).start().await;
    let destination = TestRegistry::distribution("unlisted-destination").user("writer", PASSWORD).start().await;
    let mut scene = Scene::new("unlisted").await;
    let namespace = scene.namespace.name.clone();
    let realm = tokens.realm().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    scene.allow(&realm);
    scene.secret(&namespace, "source", &source.host(), "robot", PASSWORD).await;
    let spec = json!({"url": source.url(), "allowHTTP": true, "trustedHosts": [realm], "credentials": {"secretRef": {"name": "source"}}});
    scene.allow(&source.host());
    scene.registry_object(&namespace, "source", spec).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("all", "source", &[to("destination")], None, "10m").await;
    scene.start_operator().await;
    let reason = "RepositoryListingUnsupported";
    let message = scene.condition::<ReplicationConfiguration>(&namespace, "all", "Stalled", "True", reason, SOON).await;
    assert!(message.contains("EXACT_MATCH"), "the remedy: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_but_cannot_be_carried_out_is_stalled_with_a_reason() {
    let source = TestRegistry::distribution("stalled").user("reader", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(82, 1, 1_000)).await;
    let mut scene = Scene::new("stalled").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "alias", &source, Some("reader")).await;
    let filter = |name: &str| Some(json!([{"filter": name, "filterType": "EXACT_MATCH"}]));
    scene.configure("itself", "source", &[to("source")], None, "10m").await;
    let twice = json!({"registryRef": {"name": "alias", "namespace": namespace}});
    scene.configure("twice", "source", &[to("alias"), twice], None, "10m").await;
    scene.configure("by-another-name", "source", &[to("alias")], None, "10m").await;
    scene.configure("no-source", "nowhere", &[to("alias")], None, "10m").await;
    scene.configure("no-destination", "source", &[to("nowhere")], None, "10m").await;
    scene.configure("no-repository", "source", &[to("alias")], filter("absent"), "10m").await;
    scene.start_operator().await;
    for (name, reason, words) in [
        ("itself", "SelfReplication", "remove it"),
        ("twice", "InvalidSpec", "once with its defaults and once without"),
        ("by-another-name", "SelfReplication", "is the source itself"),
        ("no-source", "RegistryNotFound", "nowhere"),
        ("no-destination", "RegistryNotFound", "nowhere"),
        ("no-repository", "RepositoryNotFound", "correct the filter"),
    ] {
        let message =
            scene.condition::<ReplicationConfiguration>(&namespace, name, "Stalled", "True", reason, SOON).await;
        assert!(message.contains(words), "{name}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_sync_read_what_kubectl_prints() {
    let source = TestRegistry::distribution("printed-source").user("reader", PASSWORD).start().await;
    let destination = TestRegistry::distribution("printed-destination").user("writer", PASSWORD).start().await;
    source.pusher().push("app", "v1", &Image::single(83, 1, 1_000)).await;
    let mut scene = Scene::new("printed").await;
    let namespace = scene.namespace.name.clone();
    scene.registry(&namespace, "source", &source, Some("reader")).await;
    scene.registry(&namespace, "destination", &destination, Some("writer")).await;
    scene.configure("all", "source", &[to("destination")], None, "10m").await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "all", "Ready", "True", "Replicated", SOON).await;

    let kinds = "registries,repconf,replicationstatuses,serviceaccounts,configmaps";
    let get = ["-n", &namespace, "get", kinds, "--show-managed-fields", "-o"];
    let mut files = Files::new("printed");
    files.login_at(&source.host(), "reader", PASSWORD);
    files.login_at(&destination.host(), "writer", PASSWORD);
    for format in ["yaml", "json"] {
        let printed = scene.plane.kubectl(&[&get[..], &[format]].concat()).await.expect_success("kubectl");
        assert!(printed.contains("managedFields") && printed.contains("conditions"), "{printed}");
        let list = files.replace(&format!("list.{format}"), &printed).display().to_string();
        for subcommand in ["plan", "sync"] {
            let output = files.run(subcommand, &["-f", &list]).await;
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            let expected = "nothing to do: 1 of 1 images are at their destinations";
            assert!(text(&output).contains(expected), "{}", text(&output));
        }
    }
}

//! Objects as `kubectl` prints them, folders, and objects of other programs.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{Files, text};
use crate::support::image::Image;
use crate::support::scripted::ScriptedRegistry;
use crate::tag_filters::{files, registry, rule};

fn scene(name: &str) -> (ScriptedRegistry, ScriptedRegistry, Files) {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let files = files(name, &source, &[&destination]);
    (source, destination, files)
}

/// Returns an object as an API server gives it.
fn as_stored(document: &Value) -> Value {
    let mut stored = document.clone();
    let entry = json!({"manager": "kubectl", "operation": "Apply", "fieldsType": "FieldsV1", "apiVersion":
        "transship.dev/v1alpha1", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:url": {}}}});
    stored["metadata"]["managedFields"] = json!([entry]);
    stored["metadata"]["uid"] = json!("0f4b7f2e-1c6e-4b52-9e0a-6ad0ad3f6b11");
    stored["metadata"]["resourceVersion"] = json!("4711");
    stored["metadata"]["generation"] = json!(2);
    stored["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    stored["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}\n"});
    stored["status"] = json!({"observedGeneration": 2, "ofALaterVersion": {"some": ["thing"]}, "conditions": [{
        "type": "Ready", "status": "True", "reason": "Reachable", "message": "m", "lastTransitionTime":
        "2026-01-01T00:00:00Z"}]});
    stored
}

fn others() -> [Value; 3] {
    let long = "a-name-of-another-program-that-is-longer-than-sixty-three-characters-are";
    let deployment =
        |name: &str| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {}});
    let status =
        json!({"apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationStatus", "metadata": {"name": "s"}});
    [deployment("web"), deployment(long), status]
}

/// Runs a subcommand on `input`, and returns its exit code and everything it printed.
async fn piped(files: &Files, subcommand: &str, input: &str) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_transship"));
    command.args([subcommand, "-f", "-"]).env("DOCKER_CONFIG", &files.folder).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    files.write();
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    (output.status.code(), text(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_kubectl_is_read_as_it_is() {
    let (source, destination, files) = scene("kubectl-list");
    let items: Vec<Value> = files.documents.iter().map(as_stored).chain(others()).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items});
    let yaml = serde_saphyr::to_string(&list).unwrap();
    for subcommand in ["plan", "sync"] {
        let (code, printed) = piped(&files, subcommand, &yaml).await;
        assert_eq!(code, Some(0), "{printed}");
        assert_eq!(
            printed.matches("skipped, as they are of other programs: 2 Deployment (apps/v1)").count(),
            1,
            "{printed}"
        );
    }
    assert_eq!(destination.tags("app"), source.tags("app"));

    let of_kind = |kind: &str| {
        let of_kind = files.documents.iter().filter(|document| document["kind"] == kind).cloned();
        let items: Vec<Value> = of_kind
            .map(|mut document| {
                let fields = document.as_object_mut().unwrap();
                fields.remove("kind");
                fields.remove("apiVersion");
                document
            })
            .collect();
        json!({"apiVersion": "transship.dev/v1alpha1", "kind": format!("{kind}List"), "items": items}).to_string()
    };
    let typed = format!("{}\n---\n{}", of_kind("Registry"), of_kind("ReplicationConfiguration"));
    let (code, printed) = piped(&files, "plan", &typed).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("nothing to do: 1 of 1 images are at their destinations"), "{printed}");

    let misspelt = typed.replace("\"source\":{\"registryRef\"", "\"sorce\":{\"registryRef\"");
    let (code, printed) = piped(&files, "plan", &misspelt).await;
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("ReplicationConfiguration team-a/app: "), "the object is named: {printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_several_files_are_read_together() {
    let (source, destination, files) = scene("folders");
    let folder = files.folder.join("objects");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("1.yaml"), files.documents[0].to_string()).unwrap();
    std::fs::write(folder.join("2.json"), files.documents[1].to_string()).unwrap();
    std::fs::write(folder.join("notes.txt"), "no object").unwrap();
    std::fs::write(folder.join("3.yml"), format!("{}\n---\n# nothing\n", others()[0])).unwrap();
    let apart = files.replace("configuration.yaml", &files.documents[2].to_string());
    files.write();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_transship"));
    command.arg("sync").arg("-f").arg(&folder).arg("-f").arg(&apart).env("DOCKER_CONFIG", &files.folder);
    let synced = command.output().await.unwrap();
    assert_eq!(synced.status.code(), Some(0), "{}", text(&synced));
    assert!(text(&synced).contains("1 Deployment (apps/v1)"), "{}", text(&synced));
    assert_eq!(destination.tags("app"), source.tags("app"));

    let empty = files.folder.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_transship"));
    let refused = command.arg("sync").arg("-f").arg(&empty).arg("-").stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(text(&refused).contains("has no *.yaml, *.yml or *.json"), "{}", text(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_for_a_registry_that_is_in_no_file_is_named() {
    let (_source, _destination, mut files) = scene("idle-policy");
    let statement = json!({"sid": "a", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["ReplicateImage"], "resources": ["*"]});
    let spec = json!({"registryRef": {"name": "nowhere"}, "statements": [statement]});
    files.add("RegistryPermissionPolicy", json!({"namespace": "team-b", "name": "idle"}), spec);
    let planned = files.run("plan", &[]).await;
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned));
    assert!(text(&planned).contains("RegistryPermissionPolicy team-b/idle has no effect"), "{}", text(&planned));
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_and_filters_that_match_nothing_are_named_and_fail_nothing() {
    let (source, destination) = (registry(), registry());
    source.push("team/app", "v1", &Image::single(1, 1, 500));
    let mut files = files("match-nothing", &source, &[&destination]);
    let filter = |filter_type: &str, filter: &str| json!({"filter": filter, "filterType": filter_type});
    rule(&mut files)["repositoryFilters"] =
        json!([filter("PREFIX_MATCH", "team/"), filter("PREFIX_MATCH", "teem/"), filter("GLOB_MATCH", "*/web")]);
    rule(&mut files)["tagFilters"] = json!([filter("GLOB_MATCH", "v*"), filter("REGEX_MATCH", "nightly-.*")]);
    let lines = [
        "rule all: PREFIX_MATCH teem/ matches no repository",
        "rule all: GLOB_MATCH */web matches no repository",
        "rule all: REGEX_MATCH nightly-.* matches no tag",
    ];
    let own = source.host();
    for subcommand in ["plan", "sync"] {
        let more = ["--egress-allow", "127.0.0.1:9", "--egress-allow", &own];
        let output = files.run(subcommand, &more).await;
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(0), "{printed}");
        assert!(lines.iter().all(|line| printed.matches(line).count() == 1), "{printed}");
        assert_eq!(printed.matches("has no effect").count(), 1, "{printed}");
        assert!(printed.contains("--egress-allow 127.0.0.1:9 has no effect: no Registry"), "{printed}");
        let document = files.run(subcommand, &["--output", "json"]).await;
        let document: serde_json::Value = serde_json::from_slice(&document.stdout).unwrap();
        assert_eq!(document["unusedFilters"].as_array().map(Vec::len), Some(3), "{document}");
    }
}

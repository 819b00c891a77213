//! Generated files, examples and pages agree with the program: `crds/`, every YAML block, every reason and failure
//! code.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::control_plane::ControlPlane;
use crate::support::pages::{pages, yaml_blocks};
use crate::support::run_folder::{new_folder, repository};

/// The README, the pages and the examples make namespaces of the same names: one test after another does.
static NAMES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[test]
fn the_definitions_in_crds_are_those_of_the_code() {
    for (file, yaml) in transship::api::custom_resource_definition_files() {
        let kept = std::fs::read_to_string(repository().join("crds").join(&file)).unwrap_or_default();
        assert_eq!(kept, yaml, "crds/{file} differs from src/terms and src/api: run `make generate`");
    }
}

#[test]
fn the_definitions_have_exactly_the_rules_of_the_table() {
    let definitions = serde_json::to_value(transship::api::custom_resource_definitions()).unwrap();
    let mut defined = BTreeSet::new();
    collect_rules(&definitions, &mut defined);
    let table: BTreeSet<_> =
        transship::terms::all_rules().into_iter().map(|(cel, message)| (cel.to_owned(), message.to_owned())).collect();
    assert_eq!(defined, table);
}

/// Collects expression and message of every rule, except that a value is immutable: no single value breaks that.
fn collect_rules(value: &Value, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                let text = |field: &str| rule[field].as_str().unwrap_or_default().to_owned();
                if text("rule") != "self == oldSelf" {
                    found.insert((text("rule"), text("message")));
                }
            }
            fields.values().for_each(|value| collect_rules(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_rules(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definitions_apply_without_a_warning() {
    let plane = ControlPlane::shared().await;
    let folder = new_folder("definitions");
    for (file, yaml) in transship::api::custom_resource_definition_files() {
        // The API server warns when a definition is new: so it is one of another group.
        std::fs::write(folder.join(file), yaml.replace("transship.dev", "warnings.example.com")).unwrap();
    }
    let created = plane.kubectl(&["create", "--dry-run=server", "-f", &folder.display().to_string()]).await;
    assert!(created.success && !created.stderr.contains("Warning"), "{}", created.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_yaml_block_of_the_readme_applies() {
    let plane = ControlPlane::shared().await;
    let _turn = NAMES.lock().await;
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let folder = new_folder("readme");
    assert!(!yaml_blocks(&readme).is_empty());
    for (number, block) in yaml_blocks(&readme).iter().enumerate() {
        let file = folder.join(format!("{number}.yaml"));
        std::fs::write(&file, block).unwrap();
        plane.kubectl(&["apply", "-f", &file.display().to_string()]).await.expect_success("kubectl apply");
    }
}

/// Without storing anything: pages use the same names for different objects.
#[tokio::test(flavor = "multi_thread")]
async fn every_yaml_block_of_the_pages_would_apply() {
    let plane = ControlPlane::shared().await;
    let _turn = NAMES.lock().await;
    let folder = new_folder("pages");
    let namespaces = folder.join("namespaces.yaml");
    let namespace = |name: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}\n---\n");
    std::fs::write(&namespaces, ["team-a", "team-b"].map(namespace).concat()).unwrap();
    plane.kubectl(&["apply", "-f", &namespaces.display().to_string()]).await.expect_success("kubectl apply");
    let mut blocks = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in yaml_blocks(&text) {
            blocks += 1;
            let file = folder.join(format!("{blocks}.yaml"));
            std::fs::write(&file, block).unwrap();
            let arguments = ["apply", "--dry-run=server", "-f", &file.display().to_string()];
            plane.kubectl(&arguments).await.expect_success(&page.display().to_string());
        }
    }
    assert!(blocks >= 10, "{blocks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_applies() {
    let plane = ControlPlane::shared().await;
    let _turn = NAMES.lock().await;
    let examples: Vec<_> =
        std::fs::read_dir(repository().join("examples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        let file = example.display().to_string();
        plane.kubectl(&["apply", "-f", &file]).await.expect_success(&file);
    }
}

#[test]
fn every_reason_and_failure_code_is_in_the_reference() {
    let reference = std::fs::read_to_string(repository().join("docs/reference/conditions.md")).unwrap();
    let reasons = std::fs::read_to_string(repository().join("src/terms/reason.rs")).unwrap();
    let mut names: Vec<&str> =
        reasons.split(": &str = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(names.len() > 20, "{names:?}");
    let schema = serde_json::to_value(schemars::schema_for!(transship::terms::FailureCode)).unwrap();
    let codes: Vec<&str> =
        schema["oneOf"].as_array().unwrap().iter().map(|code| code["const"].as_str().unwrap()).collect();
    names.extend(codes);
    for name in names {
        assert!(reference.contains(&format!("| `{name}` |")), "docs/reference/conditions.md lacks {name}");
    }
}

#[test]
fn every_reason_is_used() {
    let mut sources = Vec::new();
    collect_sources(&repository().join("src"), &mut sources);
    let reasons = std::fs::read_to_string(repository().join("src/terms/reason.rs")).unwrap();
    for name in reasons.split("pub const ").skip(1).map(|rest| rest.split(':').next().unwrap()) {
        let used = format!("reason::{name}");
        let is_used = |text: &String| {
            text.match_indices(&used)
                .any(|(at, _)| !text[at + used.len()..].starts_with(|c: char| c == '_' || c.is_ascii_uppercase()))
        };
        assert!(sources.iter().any(is_used), "no code sets the reason {name}: delete it");
    }
}

/// Collects the production code of every file under `folder`.
fn collect_sources(folder: &std::path::Path, sources: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(path).unwrap();
            sources.push(text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned());
        }
    }
}

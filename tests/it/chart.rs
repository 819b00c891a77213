//! The chart renders what it should: lint, snapshots, the schemas of a real API server, and refusals of wrong values.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::run_folder::{new_folder, repository};
use crate::support::tools::{Output, go_tool, run};

async fn helm(arguments: &[&str]) -> Output {
    let mut helm = Command::new(go_tool("helm"));
    helm.args(arguments).env("HOME", new_folder("helm")).current_dir(repository());
    run(helm).await
}

/// Returns the chart, rendered with a file of values and further settings.
async fn rendered(values: &Path, settings: &[&str]) -> String {
    let values = values.display().to_string();
    let mut arguments = vec!["template", "transship", "charts/transship", "--namespace", "transship", "-f", &values];
    arguments.extend(settings);
    helm(&arguments).await.expect_success("helm template")
}

fn values() -> [PathBuf; 2] {
    ["default", "everything"].map(|name| repository().join(format!("charts/transship/ci/{name}-values.yaml")))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_is_free_of_lint_and_renders_as_it_did() {
    for values in values() {
        let lint = ["lint", "--strict", "charts/transship", "-f", &values.display().to_string()];
        helm(&lint).await.expect_success("helm lint");
        // The definitions have a test of their own.
        let text = rendered(&values, &["--set", "crds.install=false"]).await + "\n";
        let golden = PathBuf::from(values.display().to_string().replace("-values.yaml", ".golden.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        let changed = text.lines().zip(expected.lines()).find(|(now, then)| now != then);
        assert!(text == expected, "{} has changed (UPDATE=1 writes it anew): {changed:?}", golden.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_carries_the_definitions_as_they_are_and_has_them_kept() {
    let text = rendered(&values()[0], &["--show-only", "templates/crds.yaml"]).await;
    for file in std::fs::read_dir(repository().join("crds")).unwrap().flatten() {
        let definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
        let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
        let found =
            documents.into_iter().find(|document| document["metadata"]["name"] == definition["metadata"]["name"]);
        let mut found = found.unwrap_or_else(|| panic!("{} is not in the chart", file.path().display()));
        let annotations = found["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
        assert_eq!(annotations, json!({"helm.sh/resource-policy": "keep"}));
        assert_eq!(found, definition);
    }
}

/// The kinds that the chart has.
const KINDS: [&str; 12] = [
    "clusterrole",
    "clusterrolebinding",
    "configmap",
    "deployment",
    "networkpolicy",
    "poddisruptionbudget",
    "role",
    "rolebinding",
    "service",
    "serviceaccount",
    "validatingadmissionpolicy",
    "validatingadmissionpolicybinding",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_object_of_the_chart_satisfies_the_schemas_of_kubernetes() {
    let plane = ControlPlane::shared().await;
    let openapi = plane.kubectl(&["get", "--raw", "/openapi/v2"]).await.expect_success("kubectl get --raw");
    let mut openapi: Value = serde_json::from_str(&openapi).unwrap();
    // OpenAPI 2 cannot say that a port is a number or a name.
    openapi["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = json!({"type": ["integer", "string"]});
    let folder = new_folder("schemas");
    let definitions = openapi["definitions"].as_object().unwrap();
    for definition in definitions.values() {
        for kind in definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
            if !KINDS.contains(&text("kind").as_str()) {
                continue; // Each schema carries all definitions: few are enough.
            }
            let mut schema = definition.clone();
            schema["definitions"] = openapi["definitions"].clone();
            // Fields that are not there are refused, too.
            schema["additionalProperties"] = false.into();
            // kubeconform takes the version for the group of those that have none.
            let group = if text("group").is_empty() { text("version") } else { text("group") };
            let name = format!("{group}_{}_{}.json", text("version"), text("kind"));
            std::fs::write(folder.join(name), schema.to_string()).unwrap();
        }
    }
    for values in values() {
        let file = folder.join("rendered.yaml");
        // Kinds of other projects have no schema here.
        let others = ["serviceMonitor", "prometheusRule"].map(|kind| format!("metrics.{kind}.enabled=false"));
        let own = ["--set", "crds.install=false", "--set", &others[0], "--set", &others[1]];
        std::fs::write(&file, rendered(&values, &own).await).unwrap();
        let mut kubeconform = Command::new(go_tool("kubeconform"));
        let location =
            format!("{}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json", folder.display());
        kubeconform.args(["-summary", "-output", "json", "-schema-location", &location]).arg(&file);
        let answer = run(kubeconform).await;
        assert!(answer.success, "{}{}", answer.stdout, answer.stderr);
        let summary: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert!(summary["summary"]["valid"].as_u64() > Some(10), "{}", answer.stdout);
        assert_eq!(summary["summary"]["skipped"], 0, "{}", answer.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_are_refused_by_name() {
    for (setting, named) in [
        ("execution.default=Pod", "/execution/default"),
        ("operator.copies=0", "/operator/copies"),
        ("execution.classes.large.copise=4", "copise"),
        ("egress.allow={registry}", "/egress/allow"),
        ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"),
        ("imagetag=1", "imagetag"),
    ] {
        let arguments = ["template", "transship", "charts/transship", "--set", setting];
        let answer = helm(&arguments).await;
        assert!(!answer.success && answer.stderr.contains(named), "{setting}: {}", answer.stderr);
    }
}

/// Returns the rights that the operator's roles of a rendered chart grant: namespace (empty: everywhere), group,
/// resource and verb.
fn rights(text: &str) -> BTreeSet<(String, String)> {
    let mut rights = BTreeSet::new();
    for document in text.split("\n---\n") {
        let role: Value = serde_saphyr::from_str(document).unwrap();
        if !role["metadata"]["name"].as_str().is_some_and(|name| name.ends_with("-operator")) {
            continue;
        }
        let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
        for rule in role["rules"].as_array().into_iter().flatten() {
            let words = |key: &str| rule[key].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
            for group in words("apiGroups") {
                for resource in words("resources") {
                    rights.extend(
                        words("verbs").map(|verb| (namespace.to_owned(), format!("{group}/{resource} {verb}"))),
                    );
                }
            }
        }
    }
    rights
}

#[tokio::test(flavor = "multi_thread")]
async fn watched_namespaces_narrow_the_operators_rights_and_take_none_away() {
    let only = ["--show-only", "templates/rbac.yaml"];
    let everywhere = rights(&rendered(&values()[0], &only).await);
    let narrow = rights(&rendered(&values()[0], &[&only[..], &["--set", "watchNamespaces={a,b}"]].concat()).await);
    let of = |namespace: &str| -> BTreeSet<&String> {
        narrow.iter().filter(|(granted, _)| granted == namespace).map(|(_, right)| right).collect()
    };
    assert!(everywhere.iter().all(|(namespace, _)| namespace.is_empty()));
    assert!(of("a").contains(&"/secrets get".to_owned()), "{narrow:?}");
    assert_eq!(of("a"), of("b"));
    assert_eq!(everywhere.iter().map(|(_, right)| right).collect::<BTreeSet<_>>(), &of("") | &of("a"));
    let is_view = |right: &&String| {
        right.starts_with("transship.dev/") && [" list", " watch"].iter().any(|verb| right.ends_with(verb))
    };
    assert!(of("").iter().all(is_view), "elsewhere the operator sees its own kinds alone: {:?}", of(""));
}

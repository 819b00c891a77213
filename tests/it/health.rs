//! Tools that wait for an object get the right answer: kstatus, by which Flux and Helm wait, and Argo CD.

use std::path::PathBuf;

use jiff::Timestamp;
use kube::api::{Api, PostParams};
use mlua::{Lua, LuaOptions, StdLib, Table};
use serde_json::{Value, json};
use transship::api::{Registry, RegistryPermissionPolicy, ReplicationConfiguration, ReplicationStatus};
use transship::plan::{
    ComparisonPhase, ConfigurationReport, Counts, DestinationTotals, FailedAttempt, Health, Ledger, NamespacedName,
    Problem, Replica, configuration_status, pair_status, policy_status, registry_status,
};
use transship::terms::{FailureCode, ReplicationConfigurationStatus, reason};

use crate::support::control_plane::ControlPlane;
use crate::support::run_folder::repository;

/// The rules of kstatus for a custom resource: deletion, then the generation, then `Reconciling` and `Stalled` in the
/// order of the list, then `Ready`. An object of which nothing is known is current.
fn kstatus(object: &Value) -> &'static str {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    if metadata["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    if status["observedGeneration"].is_i64() && status["observedGeneration"] != metadata["generation"] {
        return "InProgress";
    }
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return "InProgress",
            Some("Stalled") => return "Failed",
            _ => {}
        }
    }
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    if ready.is_none_or(|ready| ready["status"] == "True") { "Current" } else { "InProgress" }
}

/// Runs the health check as Argo CD does: Lua 5.1 with the object in the global `obj`. Returns status and message.
fn argo_health(object: &Value) -> (String, String) {
    let lua = Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default()).unwrap();
    lua.globals().set("obj", to_lua(&lua, object)).unwrap();
    let script = std::fs::read_to_string(argo_folder().join("health.lua")).unwrap();
    let health: Table = lua.load(script).eval().unwrap();
    (health.get("status").unwrap(), health.get("message").unwrap())
}

fn to_lua(lua: &Lua, value: &Value) -> mlua::Value {
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(value) => mlua::Value::Boolean(*value),
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text).unwrap()),
        Value::Array(items) => {
            let items = items.iter().map(|item| to_lua(lua, item));
            mlua::Value::Table(lua.create_sequence_from(items).unwrap())
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.as_str(), to_lua(lua, value)));
            mlua::Value::Table(lua.create_table_from(fields).unwrap())
        }
    }
}

fn argo_folder() -> PathBuf {
    repository().join("docs/argo-cd/transship.dev/_")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn object(kind: &str, generation: i64, status: impl serde::Serialize) -> Value {
    json!({"kind": kind, "metadata": {"namespace": "team-a", "name": "o", "generation": generation}, "status": status})
}

/// The status that the API server gives a new object.
fn fresh(kind: &str) -> Value {
    let definitions = json!(transship::api::custom_resource_definitions());
    let definition = definitions.as_array().unwrap().iter().find(|it| it["spec"]["names"]["kind"] == kind).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    object(kind, 1, &schema["properties"]["status"]["default"])
}

fn report(phase: ComparisonPhase, counts: Counts) -> ConfigurationReport {
    let destination = NamespacedName { namespace: "team-a".to_owned(), name: "eu".to_owned() };
    let totals = DestinationTotals { counts, ..DestinationTotals::default() };
    ConfigurationReport {
        generation: Some(1),
        phase,
        destinations: [(destination, totals)].into_iter().collect(),
        ..ConfigurationReport::default()
    }
}

fn status_of(report: &ConfigurationReport) -> ReplicationConfigurationStatus {
    configuration_status("team-a", report, &ReplicationConfigurationStatus::default(), at(0))
}

fn configuration(report: &ConfigurationReport) -> Value {
    object("ReplicationConfiguration", 1, status_of(report))
}

/// A configuration that is suspended after its status was that of `before`.
fn suspended_after(before: &ReplicationConfigurationStatus) -> Value {
    let report = ConfigurationReport { generation: Some(2), ..report(ComparisonPhase::Suspended, Counts::default()) };
    object("ReplicationConfiguration", 2, configuration_status("team-a", &report, before, at(9)))
}

fn registry(health: &Health) -> Value {
    object("Registry", 1, registry_status(&Default::default(), Some(1), health, at(0)))
}

/// A pair of one image, which fails for `code` or is complete, or waits.
fn pair(outcome: Option<Result<(), FailureCode>>) -> Value {
    let (tag, digest) = ("v1".parse().unwrap(), format!("sha256:{}", "a".repeat(64)).parse().unwrap());
    let mut ledger = Ledger::default();
    ledger.observe(&tag, &digest, at(0), at(0));
    ledger.progress(&tag, &digest, 0);
    match outcome {
        Some(Ok(())) => drop(ledger.complete(&tag, &digest, Replica::default(), at(0), at(1))),
        Some(Err(code)) => {
            let failed = FailedAttempt { code, message: "m".to_owned(), retry_after: None, jitter: 0.0 };
            ledger.fail(&tag, &digest, failed, at(1));
        }
        None => {}
    }
    object("ReplicationStatus", 1, pair_status("us/m", "eu/m", &ledger, None, &[], at(2)))
}

/// A situation, an object in it, and the answers of kstatus and of Argo CD.
fn situations() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    use ComparisonPhase::{Compared, Comparing};
    let counts = |complete, failed, stuck| {
        let images = complete + failed;
        Counts { images, complete, failed, stuck, owed: failed, ..Counts::default() }
    };
    let waiting = Counts { images: 2, complete: 1, pending: 1, owed: 1, untried: 1, ..Counts::default() };
    let complete = report(Compared, counts(2, 0, 0));
    let problem = |stalled, reason| Some(Problem { stalled, reason, message: "m".to_owned() });
    let down = ConfigurationReport { problem: problem(false, reason::SOURCE_UNREADABLE), ..complete.clone() };
    let absent = ConfigurationReport { problem: problem(true, reason::REGISTRY_NOT_FOUND), ..complete.clone() };
    let failing = |stalled, reason| Health::Failing { stalled, reason, message: "m".to_owned() };
    let policy = |exists| policy_status(&Default::default(), Some(1), "eu", exists, at(0));
    let changed = object("ReplicationConfiguration", 2, status_of(&complete));
    vec![
        ("a fresh Registry", fresh("Registry"), "InProgress", "Progressing"),
        ("a fresh policy", fresh("RegistryPermissionPolicy"), "InProgress", "Progressing"),
        ("a fresh configuration", fresh("ReplicationConfiguration"), "InProgress", "Progressing"),
        ("a fresh pair", fresh("ReplicationStatus"), "InProgress", "Progressing"),
        ("working", configuration(&report(Comparing, waiting)), "InProgress", "Progressing"),
        ("complete", configuration(&complete), "Current", "Healthy"),
        ("changed since", changed, "InProgress", "Progressing"),
        ("failed, tried again", configuration(&report(Compared, counts(1, 1, 0))), "InProgress", "Progressing"),
        ("denied", configuration(&report(Compared, counts(1, 1, 1))), "Failed", "Degraded"),
        ("suspended after it was complete", suspended_after(&status_of(&complete)), "Current", "Suspended"),
        ("suspended at work", suspended_after(&status_of(&report(Comparing, waiting))), "Current", "Suspended"),
        ("suspended at birth", suspended_after(&Default::default()), "Current", "Suspended"),
        ("the source is down", configuration(&down), "InProgress", "Progressing"),
        ("a Registry is missing", configuration(&absent), "Failed", "Degraded"),
        ("a Registry works", registry(&Health::Ready { is_anonymous: false }), "Current", "Healthy"),
        ("a Registry is down", registry(&failing(false, reason::UNREACHABLE)), "InProgress", "Progressing"),
        ("a Registry refuses", registry(&failing(true, reason::AUTHENTICATION_FAILED)), "Failed", "Degraded"),
        ("a policy in force", object("RegistryPermissionPolicy", 1, policy(true)), "Current", "Healthy"),
        ("a policy without Registry", object("RegistryPermissionPolicy", 1, policy(false)), "Failed", "Degraded"),
        ("a pair at work", pair(None), "InProgress", "Progressing"),
        ("a complete pair", pair(Some(Ok(()))), "Current", "Healthy"),
        ("a failed pair", pair(Some(Err(FailureCode::DestinationUnavailable))), "InProgress", "Progressing"),
        ("a denied pair", pair(Some(Err(FailureCode::RegistryPermissionDenied))), "Failed", "Degraded"),
        ("a pair whose tag is kept", pair(Some(Err(FailureCode::TagImmutable))), "Current", "Healthy"),
    ]
}

#[test]
fn kstatus_and_argo_cd_answer_right_in_every_situation() {
    for (situation, object, expected, health) in situations() {
        assert_eq!(kstatus(&object), expected, "{situation}: {object:#}");
        assert_eq!(argo_health(&object).0, health, "{situation}: {object:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_no_operator_has_seen_is_in_progress() {
    let namespace = ControlPlane::shared().await.namespace("unseen").await;
    let api: Api<Registry> = Api::namespaced(namespace.client.clone(), &namespace.name);
    let spec = json!({"apiVersion": "transship.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "r"},
        "spec": {"url": "https://r.example.com"}});
    let created = api.create(&PostParams::default(), &serde_json::from_value(spec).unwrap()).await.unwrap();
    assert_eq!(created.status.as_ref().and_then(|status| status.observed_generation), Some(-1), "{created:?}");
    assert_eq!(kstatus(&json!(created)), "InProgress");
    assert_eq!(argo_health(&json!(created)).0, "Progressing");
}

#[test]
fn an_object_that_is_not_ready_is_either_reconciling_or_stalled() {
    for (situation, object, ..) in situations() {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is = |kind: &str, status: &str| conditions.iter().any(|c| c["type"] == kind && c["status"] == status);
        let causes = [is("Reconciling", "True"), is("Stalled", "True")];
        let expected = usize::from(is("Ready", "False"));
        assert_eq!(causes.into_iter().filter(|cause| *cause).count(), expected, "{situation}");
    }
}

#[test]
fn the_fixtures_of_the_health_check_pass_as_argo_cd_reads_them() {
    let read = |file: &str| -> Value {
        let text = std::fs::read_to_string(argo_folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        serde_saphyr::from_str(&text).unwrap()
    };
    let tests = read("health_test.yaml")["tests"].as_array().unwrap().clone();
    assert!(tests.len() >= 9);
    for test in tests {
        let file = test["inputPath"].as_str().unwrap();
        let object = read(file);
        let (status, message) = argo_health(&object);
        assert_eq!(json!({"status": status, "message": message}), test["healthStatus"], "{file}");
        let decoded = match object["kind"].as_str().unwrap() {
            "Registry" => serde_json::from_value::<Registry>(object).map(drop),
            "RegistryPermissionPolicy" => serde_json::from_value::<RegistryPermissionPolicy>(object).map(drop),
            "ReplicationConfiguration" => serde_json::from_value::<ReplicationConfiguration>(object).map(drop),
            _ => serde_json::from_value::<ReplicationStatus>(object).map(drop),
        };
        decoded.unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

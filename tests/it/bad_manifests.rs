//! Bad manifests: the API server refuses each with words that name the field and the remedy.

use std::collections::BTreeSet;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use transship::plan::{check_policy, check_registry, parse_configuration};
use transship::terms::{NAME_RULES, all_rules, broken};

use crate::support::control_plane::{ControlPlane, TestNamespace};

/// A kind, a change to a good spec (`pointer` set to `value`; null removes it), and the words of the answer.
type Bad = (&'static str, &'static str, Value, &'static [&'static str]);

fn good(kind: &str) -> Value {
    match kind {
        "Registry" => json!({"url": "https://r.example.com", "limits": {"concurrency": 8}}),
        "ReplicationConfiguration" => json!({
            "source": {"registryRef": {"name": "s"}},
            "rules": [{
                "name": "r", "repositoryFilters": [{"filter": "prod", "filterType": "PREFIX_MATCH"}],
                "destinations": [{"registryRef": {"name": "d"}}],
            }],
        }),
        "RegistryPermissionPolicy" => json!({"registryRef": {"name": "r"}, "statements": [statement("s")]}),
        other => panic!("{other}"),
    }
}

fn statement(sid: &str) -> Value {
    json!({"sid": sid, "effect": "Allow", "principals": [{"namespace": "a"}], "actions": ["ReplicateImage"], "resources": ["*"]})
}

fn rules(count: usize, name: impl Fn(usize) -> String) -> Value {
    (0..count).map(|n| json!({"name": name(n), "destinations": [{"registryRef": {"name": "d"}}]})).collect()
}

fn elsewhere(name: &str, namespace: &str) -> Value {
    json!([{"registryRef": {"name": name, "namespace": namespace}}])
}

fn exact(filter: &str) -> Value {
    json!([{"filter": filter, "filterType": "EXACT_MATCH"}])
}

fn prefix(filter: &str) -> Value {
    json!([{"filter": filter, "filterType": "PREFIX_MATCH"}])
}

fn glob(filter: &str) -> Value {
    json!([{"filter": filter, "filterType": "GLOB_MATCH"}])
}

fn bad_registries() -> Vec<Bad> {
    let kind = "Registry";
    let ca = json!({"name": "ca", "key": "ca.crt"});
    let path = "../../other/secrets/x";
    vec![
        (kind, "/url", Value::Null, &["spec.url", "Required"]),
        (kind, "/url", json!("https://user:password@r.example.com"), &["spec.url", "without user"]),
        (kind, "/url", json!("https://r.example.com/v2/"), &["spec.url", "without user, path"]),
        (kind, "/url", json!("https://r.example.com?x=1"), &["spec.url", "query"]),
        (kind, "/url", json!("r.example.com"), &["spec.url", "https://host[:port]"]),
        (kind, "/url", json!("http://r.example.com"), &["spec.url: Invalid", "plain http", "spec.allowHTTP: true"]),
        (
            kind,
            "",
            json!({"url": "http://r.example.com", "allowHTTP": true, "tls": {"caSecretRef": ca}}),
            &["spec.tls has no effect on a plain http spec.url"],
        ),
        (
            kind,
            "/credentials",
            json!({"secretRef": {"name": path}}),
            &["spec.credentials.secretRef.name", "should match"],
        ),
        (
            kind,
            "/credentials",
            json!({"secretRef": {"name": ".."}}),
            &["spec.credentials.secretRef.name", "should match"],
        ),
        (
            kind,
            "/credentials",
            json!({"secretRef": {"name": "A"}}),
            &["spec.credentials.secretRef.name", "should match"],
        ),
        (kind, "/tls", json!({"caSecretRef": {"name": path}}), &["spec.tls.caSecretRef.name", "should match"]),
        (kind, "/tls", json!({"caConfigMapRef": {"name": path}}), &["spec.tls.caConfigMapRef.name", "should match"]),
        (
            kind,
            "/notifications",
            json!({"type": "Distribution", "auth": {"type": "Bearer", "secretRef": {"name": path}}}),
            &["spec.notifications.auth.secretRef.name", "should match"],
        ),
        (kind, "/tls", json!({}), &["spec.tls", "exactly one of caSecretRef and caConfigMapRef"]),
        (kind, "/tls", json!({"caSecretRef": ca, "caConfigMapRef": ca}), &["spec.tls", "exactly one of"]),
        (kind, "/limits/concurrency", json!(0), &["spec.limits.concurrency", "greater than or equal to 1"]),
        (kind, "/limits/concurrency", json!(65), &["spec.limits.concurrency", "less than or equal to 64"]),
        (
            kind,
            "/limits/requestsPerSecond",
            json!(10_001),
            &["spec.limits.requestsPerSecond", "less than or equal to 10000"],
        ),
        (
            kind,
            "/limits/requestsPerSecond",
            json!(-1),
            &["spec.limits.requestsPerSecond", "greater than or equal to 0"],
        ),
        (kind, "/limits/requestsPerSecond", json!(0.5), &["spec.limits.requestsPerSecond", "must be of type integer"]),
        (
            kind,
            "/limits/sweepRequestsPerSecond",
            json!(10_001),
            &["spec.limits.sweepRequestsPerSecond", "less than or equal to 10000"],
        ),
        (
            kind,
            "/limits/sweepRequestsPerSecond",
            json!(-1),
            &["spec.limits.sweepRequestsPerSecond", "greater than or equal to 0"],
        ),
        (kind, "/limits/bandwidth", json!(65_535), &["spec.limits.bandwidth is in bytes a second", "65536 or more"]),
        (kind, "/limits/bandwidth", json!("1MiB"), &["spec.limits.bandwidth", "expected numeric"]),
        (kind, "/limits/rate", json!(1), &["spec.limits.rate", "not declared in schema"]),
        (kind, "/repositoryTemplates", json!([{}]), &["spec.repositoryTemplates", "omits all key fields", "prefix"]),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "prod/"}]),
            &["spec.repositoryTemplates[0].prefix", "should match"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "prod"}, {"prefix": "prod"}]),
            &["spec.repositoryTemplates", "duplicate entries for key [prefix=\"prod\"]"],
        ),
        (
            kind,
            "/repositoryTemplates",
            (0..21).map(|n| json!({"prefix": format!("p{n}")})).collect(),
            &["spec.repositoryTemplates", "at most 20"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "imageTagMutability": "Immutable"}]),
            &["imageTagMutability", "\"MUTABLE\", \"IMMUTABLE\""],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "encryptionConfiguration": {"kmsKey": "k"}}]),
            &["encryptionConfiguration.encryptionType", "Required"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "encryptionConfiguration": {"encryptionType": "AES256", "kmsKey": "k"}}]),
            &["encryptionConfiguration.kmsKey", "has no effect with encryptionType: AES256"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "lifecyclePolicy": "rules: []"}]),
            &["lifecyclePolicy", "must be the text of a JSON document"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "repositoryPolicy": format!("{{{}", " ".repeat(10_240))}]),
            &["repositoryPolicy", "may not be more than 10240"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "projectVisibility": "Internal"}]),
            &["projectVisibility", "\"Public\", \"Private\""],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "projectVisibility": "Public", "scanOnPush": true}]),
            &["projectVisibility is of Harbor and the other settings are of Amazon ECR"],
        ),
        (
            kind,
            "/repositoryTemplates",
            json!([{"prefix": "", "tagMutability": "IMMUTABLE"}]),
            &["spec.repositoryTemplates[prefix=\"\"].tagMutability", "not declared in schema"],
        ),
        (kind, "/createRepositories", json!("Sometimes"), &["spec.createRepositories", "\"Auto\", \"Never\""]),
        (kind, "/trustedHosts", json!(["https://auth.example.com"]), &["spec.trustedHosts[0]", "should match"]),
        (kind, "/trustedHosts", json!(["a.example.com", "a.example.com"]), &["spec.trustedHosts", "duplicate"]),
        (kind, "/trustedHosts", (0..17).map(|n| format!("h{n}")).collect(), &["spec.trustedHosts", "at most 16"]),
        (kind, "/allowHtpp", json!(true), &["spec.allowHtpp", "not declared in schema"]),
        (kind, "/credentials", json!({"secretRef": {}}), &["spec.credentials.secretRef.name", "Required"]),
        (
            kind,
            "/notifications",
            json!({"type": "Harbor", "auth": {"type": "Bearer", "secretRef": {"name": "n"}}}),
            &["spec.notifications.type", "\"Distribution\""],
        ),
    ]
}

fn bad_configurations() -> Vec<Bad> {
    let kind = "ReplicationConfiguration";
    let destination = json!({"registryRef": {"name": "d"}});
    let key = json!({"publicKey": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"});
    let long_key = format!("-----BEGIN PUBLIC KEY-----\n{}", "k".repeat(8192));
    let many = (0..26).map(|n| json!({"registryRef": {"name": format!("d{n}")}})).collect();
    vec![
        (kind, "/source", Value::Null, &["spec.source", "Required"]),
        (kind, "/source/registryRef/name", json!("../r"), &["spec.source.registryRef.name", "should match"]),
        (kind, "/rules/0/destinations", elsewhere("d/e", "b"), &["destinations[0].registryRef.name", "should match"]),
        (kind, "/rules/0/destinations", elsewhere("d", "b/.."), &["registryRef.namespace", "should match"]),
        (kind, "/rules/0/destinations", elsewhere("d", "b.c"), &["registryRef.namespace", "should match"]),
        (kind, "/rules", rules(26, |n| format!("r{n}")), &["spec.rules", "at most 25"]),
        (kind, "/rules", rules(2, |_| "same".to_owned()), &["spec.rules", "duplicate"]),
        (kind, "/rules/0/name", json!("Not A Name"), &["spec.rules[0].name", "should match"]),
        (kind, "/rules/0/repositoryFilters", json!([]), &["spec.rules[0].repositoryFilters", "at least 1"]),
        (
            kind,
            "/rules/0/repositoryFilters",
            prefix("prod-*"),
            &["repositoryFilters[0]", "for wildcards use filterType: GLOB_MATCH"],
        ),
        (kind, "/rules/0/repositoryFilters", prefix("team//"), &["repositoryFilters[0]", "beginning of a repository"]),
        (
            kind,
            "/rules/0/platformIndex",
            json!("Rewrite"),
            &["spec.rules[0].platformIndex: Invalid", "has no effect without platforms"],
        ),
        (kind, "/rules/0/verification", json!({}), &["spec.rules[0].verification.cosign", "Required"]),
        (
            kind,
            "/rules/0/verification",
            json!({"notation": {}, "cosign": key}),
            &["notation", "not declared in schema"],
        ),
        (kind, "/rules/0/verification", json!({"cosign": {}}), &["exactly one of publicKey and publicKeySecretRef"]),
        (
            kind,
            "/rules/0/verification",
            json!({"cosign": {"publicKey": key["publicKey"], "publicKeySecretRef": {"name": "keys"}}}),
            &["exactly one of publicKey and publicKeySecretRef"],
        ),
        (
            kind,
            "/rules/0/verification",
            json!({"cosign": {"publicKey": "AAAA"}}),
            &["must be PEM with BEGIN PUBLIC KEY"],
        ),
        (kind, "/rules/0/verification", json!({"cosign": {"publicKey": long_key}}), &["publicKey", "8192"]),
        (
            kind,
            "/rules/0/verification",
            json!({"cosign": {"publicKeySecretRef": {"name": "../keys"}}}),
            &["publicKeySecretRef.name", "should match"],
        ),
        (
            kind,
            "/rules/0/verification",
            json!({"cosign": {"publicKeySecretRef": {"name": "keys", "key": "a/b"}}}),
            &["publicKeySecretRef.key", "should match"],
        ),
        (
            kind,
            "/rules/0/verification",
            json!({"cosign": {"publicKey": key["publicKey"], "keyless": {"issuer": "https://issuer.example"}}}),
            &["keyless", "not declared in schema"],
        ),
        (
            kind,
            "/rules",
            json!([{"name": "r", "destinations": [destination], "referrers": "Ignore", "referrerArtifactTypes": ["a/b"]}]),
            &["spec.rules[0].referrerArtifactTypes: Invalid", "has no effect with referrers: Ignore"],
        ),
        (kind, "/rules/0/tagFilters", json!([tag_filter("GLOB_MATCH", "-*")]), &["tagFilters[0]", "not beginning"]),
        (kind, "/rules/0/repositoryFilters", exact("Prod"), &["repositoryFilters[0]", "lower-case letters"]),
        (kind, "/rules/0/repositoryFilters", exact("prod/"), &["repositoryFilters[0]", "whole repository name"]),
        (kind, "/rules/0/repositoryFilters", prefix("p"), &["repositoryFilters[0]", "at least 2"]),
        (kind, "/rules/0/repositoryFilters", prefix(""), &["repositoryFilters[0].filter", "at least 1"]),
        (kind, "/rules/0/repositoryFilters", glob("Team/*"), &["repositoryFilters[0]", "pattern of repository names"]),
        (kind, "/rules/0/excludeRepositoryFilters", glob("[ab]"), &["excludeRepositoryFilters[0]", "{a,b}"]),
        (kind, "/rules/0/excludeRepositoryFilters", prefix("p"), &["excludeRepositoryFilters[0]", "at least 2"]),
        (
            kind,
            "/rules/0/repositoryFilters",
            json!([{"filter": "prod", "filterType": "REGEX"}]),
            &["repositoryFilters[0].filterType", "\"EXACT_MATCH\", \"PREFIX_MATCH\""],
        ),
        (kind, "/rules/0/destinations", json!([]), &["spec.rules[0].destinations", "at least 1"]),
        (kind, "/rules/0/destinations", many, &["spec.rules[0].destinations", "at most 25"]),
        (kind, "/rules/0/destinations", json!([destination, destination]), &["destinations", "remove the repeated"]),
        (kind, "/rules/0/destinations/0/repository", json!(""), &["destinations[0].repository", "at least 1"]),
        (kind, "/rules/0/destinations/0/repository", json!("/{repository}"), &["destinations[0]", "placeholders"]),
        (kind, "/rules/0/destinations/0/repository", json!("../{basename}"), &["destinations[0]", "placeholders"]),
        (kind, "/rules/0/destinations/0/repository", json!("m//{basename}"), &["destinations[0]", "placeholders"]),
        (kind, "/rules/0/destinations/0/repository", json!("Mirror/{basename}"), &["destinations[0]", "placeholders"]),
        (kind, "/rules/0/destinations/0/repository", json!("m/{name}"), &["destinations[0]", "{basename}"]),
        (kind, "/rules/0/destinations/0/repository", json!("{segment:0}"), &["destinations[0]", "{segment:1}"]),
        (kind, "/rules/0/destinations/0/repository", json!("{repository}:v1"), &["destinations[0]", "placeholders"]),
        (kind, "/rules/0/destinations/0/repository", json!("a".repeat(256)), &["repository", "more than 255"]),
        (kind, "/rules/0/destinations/0/repository", json!(7), &["destinations[0].repository", "string"]),
        (kind, "/rules/0/platforms", json!(["linux"]), &["spec.rules[0].platforms[0]", "should match"]),
        (kind, "/rules/0/platforms", json!(["Linux/AMD64"]), &["spec.rules[0].platforms[0]", "should match"]),
        (kind, "/rules/0/platforms", json!(["linux/arm/v7/x"]), &["spec.rules[0].platforms[0]", "should match"]),
        (
            kind,
            "/rules/0/platforms",
            (0..21).map(|n| format!("linux/a{n}")).collect(),
            &["spec.rules[0].platforms", "at most 20"],
        ),
        (kind, "/rules/0/platformIndex", json!("Sparse"), &["spec.rules[0].platformIndex", "\"Keep\", \"Rewrite\""]),
        (kind, "/rules/0/immutableTags", json!(["v1/*"]), &["spec.rules[0].immutableTags[0]", "should match"]),
        (kind, "/rules/0/immutableTags", json!([""]), &["spec.rules[0].immutableTags[0]", "at least 1"]),
        (
            kind,
            "/rules/0/immutableTags",
            (0..101).map(|n| format!("v{n}")).collect(),
            &["spec.rules[0].immutableTags", "at most 100"],
        ),
        (kind, "/rules/0/tagFilters", json!([]), &["spec.rules[0].tagFilters", "at least 1"]),
        (
            kind,
            "/rules/0/tagFilters",
            (0..101).map(|n| tag_filter("EXACT_MATCH", &format!("v{n}"))).collect(),
            &["spec.rules[0].tagFilters", "at most 100"],
        ),
        (kind, "/rules/0/tagFilters", json!([tag_filter("EXACT_MATCH", "")]), &["tagFilters[0].filter", "at least 1"]),
        (
            kind,
            "/rules/0/tagFilters",
            json!([tag_filter("REGEX_MATCH", &"v".repeat(257))]),
            &["tagFilters[0].filter", "may not be more than 256"],
        ),
        (
            kind,
            "/rules/0/tagFilters",
            json!([tag_filter("PREFIX_MATCH", "v")]),
            &["tagFilters[0].filterType", "\"EXACT_MATCH\", \"GLOB_MATCH\", \"REGEX_MATCH\", \"SEMVER_MATCH\""],
        ),
        (
            kind,
            "/rules/0/tagFilters",
            json!([tag_filter("EXACT_MATCH", "v*")]),
            &["tagFilters[0]", "must be a whole tag", "use filterType: GLOB_MATCH"],
        ),
        (
            kind,
            "/rules/0/excludeTagFilters",
            json!([tag_filter("GLOB_MATCH", "v1/*")]),
            &["excludeTagFilters[0]", "must be a pattern of tags"],
        ),
        (
            kind,
            "/rules/0/excludeTagFilters",
            json!([tag_filter("SEMVER_MATCH", ">=1.2 & <1")]),
            &["excludeTagFilters[0]", "range of versions such as '>=1.2 <2'"],
        ),
        (
            kind,
            "/rules/0/tagFilters",
            json!([{"filter": "v*", "filterType": "GLOB_MATCH", "versionSyntax": "Strict"}]),
            &["tagFilters[0]", "versionSyntax has an effect only with filterType: SEMVER_MATCH"],
        ),
        (kind, "/rules/0/newest", json!(10), &["newest", "expected map"]),
        (kind, "/rules/0/newest", json!({"count": 10}), &["spec.rules[0].newest.by", "Required"]),
        (kind, "/rules/0/newest", json!({"by": "Semver"}), &["spec.rules[0].newest.count", "Required"]),
        (
            kind,
            "/rules/0/newest",
            json!({"count": 10, "by": "Date"}),
            &["spec.rules[0].newest.by", "\"Semver\", \"Name\", \"Created\""],
        ),
        (
            kind,
            "/rules/0/newest",
            json!({"count": 0, "by": "Name"}),
            &["spec.rules[0].newest.count", "greater than or equal to 1"],
        ),
        (
            kind,
            "/rules/0/newest",
            json!({"count": 10_001, "by": "Name"}),
            &["spec.rules[0].newest.count", "less than or equal to 10000"],
        ),
        (kind, "/rules/0/newest", json!({"count": 1.5, "by": "Name"}), &["spec.rules[0].newest.count", "integer"]),
        (
            kind,
            "/rules/0/newest",
            json!({"count": 10, "by": "Name", "keep": true}),
            &["newest.keep", "not declared in schema"],
        ),
        (kind, "/rules/0/onTagConflict", json!("Ask"), &["spec.rules[0].onTagConflict", "\"Overwrite\", \"Keep\""]),
        (kind, "/rules/0/onTagConflict", json!(true), &["onTagConflict", "string"]),
        (kind, "/priority", json!(101), &["spec.priority", "less than or equal to 100"]),
        (kind, "/priority", json!(-101), &["spec.priority", "greater than or equal to -100"]),
        (kind, "/priority", json!("high"), &["spec.priority", "expected numeric"]),
        (kind, "/rules/0/deleteReplication", json!(true), &["deleteReplication", "expected map"]),
        (kind, "/rules/0/deleteReplication", json!({}), &["spec.rules[0].deleteReplication.enabled", "Required"]),
        (kind, "/rules/0/deleteReplication", json!({"enabled": "yes"}), &["deleteReplication.enabled", "boolean"]),
        (
            kind,
            "/rules/0/deleteReplication",
            json!({"enabled": true, "maxPercent": 101}),
            &["spec.rules[0].deleteReplication.maxPercent", "less than or equal to 100"],
        ),
        (
            kind,
            "/rules/0/deleteReplication",
            json!({"enabled": true, "maxPercent": -1}),
            &["spec.rules[0].deleteReplication.maxPercent", "greater than or equal to 0"],
        ),
        (
            kind,
            "/rules/0/deleteReplication",
            json!({"enabled": true, "maxPercent": "10%"}),
            &["deleteReplication.maxPercent", "expected numeric"],
        ),
        (
            kind,
            "/rules/0/deleteReplication",
            json!({"enabled": true, "minAllowed": 100_001}),
            &["spec.rules[0].deleteReplication.minAllowed", "less than or equal to 100000"],
        ),
        (
            kind,
            "/rules/0/deleteReplication",
            json!({"enabled": true, "minAllowed": 1.5}),
            &["spec.rules[0].deleteReplication.minAllowed", "integer"],
        ),
        (
            kind,
            "/rules/0/deleteReplication",
            json!({"enabled": true, "maximum": 5}),
            &["deleteReplication.maximum", "not declared in schema"],
        ),
        (kind, "/interval", json!("5s"), &["spec.interval must be from 10s to 24h"]),
        (kind, "/interval", json!("25h"), &["spec.interval must be from 10s to 24h"]),
        (kind, "/interval", json!("soon"), &["spec.interval", "should match"]),
        (
            kind,
            "",
            json!({"source": {"registryRef": {"name": "s"}}, "interval": "10m", "schedule": {"cron": "0 2 * * *"}}),
            &["spec.interval and spec.schedule exclude each other"],
        ),
        (kind, "/lagObjective", json!("500ms"), &["spec.lagObjective", "should match"]),
        (kind, "/lagObjective", json!("0s"), &["spec.lagObjective must be from 1s to 168h"]),
        (kind, "/lagObjective", json!("169h"), &["spec.lagObjective must be from 1s to 168h"]),
        (kind, "/lagObjective", json!(60), &["spec.lagObjective", "string"]),
        (kind, "/schedule", json!({"timeZone": "UTC"}), &["spec.schedule.cron", "Required"]),
        (kind, "/schedule", json!({"cron": "0 2 * *"}), &["spec.schedule.cron", "should match"]),
        (
            kind,
            "/schedule",
            json!({"cron": "@daily", "timeZone": "+02:00"}),
            &["spec.schedule.timeZone", "should match"],
        ),
        (kind, "/schedule", json!({"cron": "@daily", "timezone": "UTC"}), &["spec.schedule.timezone", "not declared"]),
        (kind, "/allowedWindows", json!([{"cron": "@daily"}]), &["spec.allowedWindows[0].duration", "Required"]),
        (kind, "/allowedWindows", json!([{"duration": "8h"}]), &["spec.allowedWindows[0].cron", "Required"]),
        (
            kind,
            "/allowedWindows",
            json!([{"cron": "@daily", "duration": "30s"}]),
            &["spec.allowedWindows[0].duration", "from 1m to 168h"],
        ),
        (
            kind,
            "/allowedWindows",
            json!([{"cron": "@daily", "duration": "8 hours"}]),
            &["spec.allowedWindows[0].duration", "should match"],
        ),
        (
            kind,
            "/allowedWindows",
            (0..11).map(|_| json!({"cron": "@daily", "duration": "1h"})).collect(),
            &["spec.allowedWindows", "at most 10"],
        ),
        (kind, "/suspend", json!("yes"), &["suspend", "boolean"]),
        (kind, "/tagFilters", json!([]), &["tagFilters", "not declared in schema"]),
    ]
}

fn tag_filter(filter_type: &str, filter: &str) -> Value {
    json!({"filter": filter, "filterType": filter_type})
}

fn bad_policies() -> Vec<Bad> {
    let kind = "RegistryPermissionPolicy";
    vec![
        (kind, "/registryRef", Value::Null, &["spec.registryRef", "Required"]),
        (kind, "/registryRef/name", json!("../r"), &["spec.registryRef.name", "should match"]),
        (
            kind,
            "/statements/0/principals",
            json!([{"namespace": "a", "configuration": "c/d"}]),
            &["principals[0].configuration", "should match"],
        ),
        (kind, "/statements", json!([]), &["spec.statements", "at least 1"]),
        (kind, "/statements", json!([statement("s"), statement("s")]), &["spec.statements", "duplicate"]),
        (kind, "/statements/0/effect", json!("Maybe"), &["spec.statements[0].effect", "\"Allow\", \"Deny\""]),
        (kind, "/statements/0/principals", json!([]), &["spec.statements[0].principals", "at least 1"]),
        (kind, "/statements/0/principals", json!([{"namespace": ""}]), &["principals[0].namespace"]),
        (kind, "/statements/0/principals", json!([{"namespace": "a*"}]), &["principals[0].namespace", "should match"]),
        (
            kind,
            "/statements/0/actions",
            json!(["DeleteEverything"]),
            &["spec.statements[0].actions[0]", "\"DeleteImage\"", "\"ReplicateImage\""],
        ),
        (
            kind,
            "/statements/0/actions",
            json!(["OverwriteTag"]),
            &["spec.statements[0].actions: Invalid", "can only be denied"],
        ),
        (kind, "/statements/0/actions", json!(["ReplicateImage", "ReplicateImage"]), &["actions", "duplicate"]),
        (kind, "/statements/0/resources", json!(["Prod-*"]), &["spec.statements[0].resources[0]", "should match"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_manifest_is_refused_with_its_field_and_the_remedy() {
    let namespace = ControlPlane::shared().await.namespace("bad").await;
    let table = bad_manifests();
    assert!(table.len() >= 25);
    let mut wrong = Vec::new();
    for kind in ["Registry", "ReplicationConfiguration", "RegistryPermissionPolicy"] {
        dry_run(&namespace, kind, good(kind)).await.expect("what the bad ones were made of is good");
    }
    for (kind, pointer, value, words) in table {
        match dry_run(&namespace, kind, bad(kind, pointer, value.clone())).await {
            Ok(()) => wrong.push(format!("{kind} {pointer} {value} is taken")),
            Err(message) if !words.iter().all(|word| message.contains(word)) => {
                wrong.push(format!("{kind} {pointer} {value} lacks {words:?}: {message}"));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn api_server_and_program_refuse_alike_by_each_rule() {
    let namespace = ControlPlane::shared().await.namespace("rules").await;
    let long_name = "n".repeat(64);
    let refused = dry_run_named(&namespace, "Registry", &long_name, good("Registry")).await.unwrap_err();
    let name_rule = broken(&NAME_RULES, &long_name).unwrap();
    assert!(refused.contains(name_rule) && broken(&NAME_RULES, &long_name[1..]).is_none(), "{refused}");
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::from([name_rule]));
    for (kind, pointer, value, _) in bad_manifests() {
        let spec = bad(kind, pointer, value.clone());
        let server = dry_run(&namespace, kind, spec.clone()).await.unwrap_err();
        let own = check(kind, spec);
        // The API server names every cause, the program the first.
        let has_other_cause = own.is_some() && server.contains("is invalid: [");
        for (_, message) in all_rules() {
            match (server.contains(message), own.as_ref().is_some_and(|own| own.contains(message))) {
                (true, true) => {
                    seen.insert(message);
                }
                (true, false) if has_other_cause => {}
                (false, false) => {}
                _ => wrong.push(format!("{kind} {pointer} {value}: {own:?}, but the API server says {server}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let without: Vec<_> = all_rules().into_iter().filter(|(_, message)| !seen.contains(message)).collect();
    assert!(without.is_empty(), "no manifest breaks {without:#?}");
    for kind in ["Registry", "ReplicationConfiguration", "RegistryPermissionPolicy"] {
        assert_eq!(check(kind, good(kind)), None, "{kind}");
    }
}

fn bad_manifests() -> Vec<Bad> {
    [bad_registries(), bad_configurations(), bad_policies()].concat()
}

fn bad(kind: &str, pointer: &str, value: Value) -> Value {
    let mut spec = good(kind);
    match pointer {
        "" => spec = value,
        _ => set(&mut spec, pointer, value),
    }
    spec
}

/// Checks a spec as `transship sync` does; a spec of another form has no message.
fn check(kind: &str, spec: Value) -> Option<String> {
    match kind {
        "Registry" => check_registry(&serde_json::from_value(spec).ok()?).err(),
        "ReplicationConfiguration" => parse_configuration("n", "c", &serde_json::from_value(spec).ok()?).err(),
        _ => check_policy(&serde_json::from_value(spec).ok()?).err(),
    }
    .map(|error| error.message)
}

async fn dry_run(namespace: &TestNamespace, kind: &str, spec: Value) -> Result<(), String> {
    dry_run_named(namespace, kind, "bad", spec).await
}

async fn dry_run_named(namespace: &TestNamespace, kind: &str, name: &str, spec: Value) -> Result<(), String> {
    let plural = match kind {
        "Registry" => "registries",
        "ReplicationConfiguration" => "replicationconfigurations",
        _ => "registrypermissionpolicies",
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("transship.dev", "v1alpha1", kind), plural);
    let api: Api<DynamicObject> = Api::namespaced_with(namespace.client.clone(), &namespace.name, &resource);
    let object =
        json!({"apiVersion": "transship.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let apply = PatchParams { dry_run: true, ..PatchParams::apply("story").validation_strict() };
    api.patch(name, &apply, &Patch::Apply(object)).await.map(|_| ()).map_err(|error| error.to_string())
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = spec.pointer_mut(parent).expect("the parent of what is set").as_object_mut().expect("an object");
    match value {
        Value::Null => parent.remove(field),
        value => parent.insert(field.to_owned(), value),
    };
}

//! Repositories that are created with the settings of their owner, at ECR and at Harbor.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::pair::{RegistryPair, client_with_templates};
use crate::standalone::{Files, text};
use crate::support::image::Image;
use crate::support::scripted::{PASSWORD, Personality, ScriptedDigestApi, ScriptedFault, ScriptedRegistry, USER, When};
use crate::tag_filters::registry;

const POLICY: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;
const LIFECYCLE: &str = r#"{"rules":[]}"#;

/// Returns a pair whose destination is ECR, written to with an access key and these templates.
fn to_ecr(templates: Value) -> RegistryPair {
    let ecr = Personality {
        digest_api: Some(ScriptedDigestApi::Ecr { page: 1000 }),
        tags_are_immutable: false,
        ..Personality::ecr()
    };
    let pair = RegistryPair::start(Personality::plain(), ecr);
    let to = client_with_templates(&pair.destination, templates);
    RegistryPair { to, ..pair }
}

/// Returns the calls of the API that change repositories.
fn changes(registry: &ScriptedRegistry) -> Vec<String> {
    let log = registry.log();
    let actions = log.iter().filter_map(|seen| Some(seen.path.split_once('#')?.1.to_owned()));
    let is_change = |action: &String| ["Create", "Set", "Put", "Delete"].iter().any(|word| action.starts_with(word));
    actions.filter(is_change).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ecr_creates_a_repository_with_the_settings_of_the_longest_prefix() {
    let pair = to_ecr(json!([
        {"prefix": "", "scanOnPush": false},
        {"prefix": "prod", "imageTagMutability": "IMMUTABLE", "scanOnPush": true, "repositoryPolicy": POLICY,
         "lifecyclePolicy": LIFECYCLE, "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/prod"}},
    ]));
    let image = Image::single(1, 2, 500);
    for repository in ["prod/api", "production/api", "app"] {
        pair.source.push(repository, "1", &image);
        pair.copy_of(repository, "1", &image.digest()).await.unwrap();
        assert_eq!(pair.destination.tree(repository, "1"), image.tree_digests());
    }
    let expected = json!({
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": true},
        "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "alias/prod"},
        "policyText": {"Version": "2012-10-17", "Statement": []},
        "lifecyclePolicyText": {"rules": []},
    });
    assert_eq!(pair.destination.settings("prod/api"), Some(expected));
    let others = json!({"imageScanningConfiguration": {"scanOnPush": false}});
    assert_eq!(pair.destination.settings("production/api"), Some(others), "prefixes end at a segment");
    assert_eq!(pair.destination.settings("app"), None, "it was there before");
    let mut made = changes(&pair.destination);
    made.dedup(); // A call whose connection breaks is repeated.
    assert_eq!(made, ["CreateRepository", "SetRepositoryPolicy", "PutLifecyclePolicy", "CreateRepository"]);
    let before = changes(&pair.destination).len();
    // A repository that exists is never changed.
    pair.source.push("prod/api", "2", &Image::single(2, 1, 500));
    pair.copy_of("prod/api", "2", &Image::single(2, 1, 500).digest()).await.unwrap();
    assert_eq!(changes(&pair.destination).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_policy_ecr_refuses_is_taken_back() {
    let image = Image::single(1, 1, 500);
    let refused = to_ecr(json!([{"prefix": "prod", "repositoryPolicy": "{\"Version\":\"2012-10-17\"}"}]));
    refused.source.push("prod/api", "1", &image);
    let error = refused.copy_of("prod/api", "1", &image.digest()).await.unwrap_err().to_string();
    assert!(error.contains("InvalidParameterException") && error.contains("and deleted again"), "{error}");
    assert_eq!(refused.destination.settings("prod/api"), None);
    assert_eq!(changes(&refused.destination), ["CreateRepository", "SetRepositoryPolicy", "DeleteRepository"]);
    assert_eq!(refused.destination.count("POST", "/blobs/uploads/"), 0, "nothing is pushed");
    // Where it cannot be deleted, the message says what is there.
    let stuck = to_ecr(json!([{"prefix": "", "lifecyclePolicy": "{]"}]));
    let denied = br#"{"__type":"AccessDeniedException","message":"no"}"#;
    let denied = ScriptedFault::Answer { status: 400, headers: Vec::new(), body: denied.as_slice().into() };
    stuck.destination.fault(When::asked("POST", "#DeleteRepository").always(), denied);
    stuck.source.push("prod/api", "1", &image);
    let error = stuck.copy_of("prod/api", "1", &image.digest()).await.unwrap_err().to_string();
    assert!(error.contains("the repository is there without it"), "{error}");
    // The answer is lost: the repository is there by then, and gets its policy all the same.
    let lost = to_ecr(json!([{"prefix": "", "lifecyclePolicy": LIFECYCLE}]));
    lost.destination.fault(When::asked("POST", "#CreateRepository"), ScriptedFault::LoseAnswer);
    lost.source.push("prod/api", "1", &image);
    lost.copy_of("prod/api", "1", &image.digest()).await.unwrap();
    assert_eq!(lost.destination.settings("prod/api"), Some(json!({"lifecyclePolicyText": {"rules": []}})));
    // Another copy was faster.
    let raced = to_ecr(json!([{"prefix": "", "scanOnPush": true}]));
    let exists = br#"{"__type":"RepositoryAlreadyExistsException","message":"it is there"}"#;
    let exists = ScriptedFault::Answer { status: 400, headers: Vec::new(), body: exists.as_slice().into() };
    raced.destination.fault(When::asked("POST", "#CreateRepository"), exists);
    raced.source.push("prod/api", "1", &image);
    let error = raced.copy_of("prod/api", "1", &image.digest()).await.unwrap_err().to_string();
    assert!(error.contains("does not exist"), "it goes on to push, which fails as nothing is there: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_registry_does_not_have_are_refused_at_first() {
    let pair = to_ecr(json!([{"prefix": "prod", "projectVisibility": "Private"}]));
    assert!(pair.to.unsupported_template().unwrap().contains("setting of Harbor, and this is Amazon ECR"));
    let image = Image::single(1, 1, 500);
    pair.source.push("prod/api", "1", &image);
    let error = pair.copy_of("prod/api", "1", &image.digest()).await.unwrap_err().to_string();
    assert!(error.contains("spec.repositoryTemplates[\"prod\"].projectVisibility"), "{error}");
    assert_eq!(changes(&pair.destination), Vec::<String>::new());

    let (source, plain) = (registry(), registry());
    source.push("app", "1", &image);
    let mut files = crate::tag_filters::files("templates-plain", &source, &[&plain]);
    for (template, words) in [
        (json!({"prefix": "", "scanOnPush": true}), "scanOnPush is a setting of Amazon ECR, and this registry is none"),
        (json!({"prefix": "", "projectVisibility": "Public"}), "projectVisibility is a setting of Harbor"),
    ] {
        files.documents[1]["spec"]["repositoryTemplates"] = json!([template]);
        let output = files.run("sync", &[]).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
        assert!(plain.tags("app").is_empty());
    }
    // Of another prefix it is no matter.
    files.documents[1]["spec"]["repositoryTemplates"] = json!([{"prefix": "prod", "scanOnPush": true}]);
    assert_eq!(files.run("sync", &[]).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn harbor_creates_the_project_with_its_visibility_once() {
    let (source, harbor) = (registry(), ScriptedRegistry::start(Personality::harbor()));
    for repository in ["open/app", "closed/app", "closed/web", "there/app", "other/app"] {
        source.push(repository, "1", &Image::single(1, 1, 500));
    }
    harbor.create_repository("there/earlier");
    let mut files = Files::new("templates-harbor");
    files.add(
        "Registry",
        json!({"namespace": "team-a", "name": "source"}),
        json!({"url": source.url(), "allowHTTP": true}),
    );
    let templates = json!([
        {"prefix": "open", "projectVisibility": "Public"},
        {"prefix": "closed", "projectVisibility": "Private"},
        {"prefix": "there", "projectVisibility": "Public"},
    ]);
    let spec = json!({"url": harbor.url(), "allowHTTP": true, "trustedHosts": [harbor.other_host()], "repositoryTemplates": templates});
    files.add("Registry", json!({"namespace": "team-a", "name": "d"}), spec);
    files.configuration("all", "", &[json!({"name": "d"})]);
    crate::tag_filters::rule(&mut files).as_object_mut().unwrap().remove("repositoryFilters");
    files.login_at(&harbor.host(), USER, PASSWORD);
    let output = files.run("sync", &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(harbor.settings("open"), Some(json!({"public": "true"})));
    assert_eq!(harbor.settings("closed"), Some(json!({"public": "false"})));
    assert_eq!([harbor.settings("there"), harbor.settings("other")], [None, None]);
    let created =
        harbor.log().iter().filter(|seen| seen.is("POST", "/api/v2.0/projects") && seen.status == 201).count();
    assert_eq!(created, 2, "a project that exists stays as it is");
    assert_eq!(files.run("sync", &[]).await.status.code(), Some(0));
    let heads = harbor.count("HEAD", "/api/v2.0/projects");
    assert!(heads <= 4, "{heads}: only where a repository was absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_templates_no_setting_policy_or_finding_crosses() {
    let pair = to_ecr(json!([]));
    let image = Image::single(1, 2, 500);
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    let log = pair.destination.log();
    let called: BTreeSet<&str> = log.iter().filter_map(|seen| Some(seen.path.split_once('#')?.1)).collect();
    let reads = ["BatchCheckLayerAvailability", "GetAuthorizationToken", "ListImages"];
    assert!(called.iter().all(|action| reads.contains(action)), "{called:?}");
    let log = pair.source.log();
    assert!(log.iter().all(|seen| seen.path.starts_with("/v2/")), "the source is asked for content alone");
}

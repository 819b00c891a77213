//! Tags and repositories that a source lists and does not give: each is named, and none ends another.

use serde_json::{Value, json};

use crate::standalone::{Files, text};
use crate::support::image::{Image, sha256};
use crate::support::scripted::{ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry, rule, sync};

/// The tags of the source that are read.
pub const GOOD: [&str; 3] = ["a-good", "m-good", "z-good"];

/// Returns a source with good tags in `app`.
pub fn source() -> ScriptedRegistry {
    let source = registry();
    for (seed, tag) in (0..).zip(GOOD) {
        source.push("app", tag, &Image::single(seed, 1, 1_000));
    }
    source
}

/// Adds a tag to `app` that is listed and answered by `fault`.
pub fn add_bad(source: &ScriptedRegistry, tag: &str, fault: ScriptedFault) {
    source.push("app", tag, &Image::single(90, 1, 1_000));
    source.fault(When::asked("", format!("/manifests/{tag}")).always(), fault);
}

fn answer(status: u16, media_type: &str, body: &'static str) -> ScriptedFault {
    ScriptedFault::Answer { status, headers: vec![("content-type", media_type.to_owned())], body: body.into() }
}

async fn document(files: &Files, subcommand: &str) -> Value {
    let output = files.run(subcommand, &["--output", "json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

/// Runs `plan` and `sync`: the good tags arrive, and each bad one is named with its failure code.
async fn good_arrives_and_bad_is_named(files: &Files, destination: &ScriptedRegistry, bad: &[(&str, &str)]) {
    let planned = document(files, "plan").await;
    let of = |document: &Value, tag: &str| {
        let images = document["images"].as_array().unwrap().iter();
        images.filter(|image| image["tag"] == tag).cloned().collect::<Vec<_>>()
    };
    for (tag, code) in bad {
        let planned = of(&planned, tag);
        let is_named = planned.iter().any(|image| image["reason"].as_str().unwrap_or_default().contains(code));
        let is_copied = planned.iter().any(|image| image["action"] == "COPY");
        assert!(planned.len() == 1 && (is_named || is_copied), "{tag}: {planned:?}");
    }
    let images = bad.len() + GOOD.len();
    for run in ["first", "second"] {
        let synced = document(files, "sync").await;
        let counts = ["images", "complete", "failed"].map(|count| &synced["summary"][count]);
        let expected = [images, GOOD.len(), bad.len()].map(|count| json!(count));
        assert_eq!(counts, expected.each_ref(), "{run}: {synced:#}");
        for (tag, code) in bad {
            let image = of(&synced, tag);
            assert_eq!(image.len(), 1, "{tag}: {image:?}");
            assert_eq!((&image[0]["status"], &image[0]["failureCode"]), (&json!("FAILED"), &json!(code)), "{image:?}");
        }
    }
    assert_eq!(destination.tags("app").into_keys().collect::<Vec<_>>(), GOOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_tag_without_a_manifest_is_named_and_ends_no_other() {
    let (source, destination) = (source(), registry());
    add_bad(&source, "gone", ScriptedFault::error(404, "MANIFEST_UNKNOWN"));
    let (first, more) = (r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":""#, "for ever ");
    add_bad(&source, "endless", ScriptedFault::Endless { status: 404, headers: Vec::new(), first, more });
    let files = files("dangling", &source, &[&destination]);
    let bad = [("gone", "ImageNotFound"), ("endless", "ImageNotFound")];
    good_arrives_and_bad_is_named(&files, &destination, &bad).await;
    let named = sync(&files, 1).await;
    assert!(named.contains("FAILED    source/app:gone -> d0/app:gone  ImageNotFound: "), "{named}");
    assert!(named.contains("lists the tag app:gone and has no manifest for it (404): push the tag again"), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_deleted_between_its_list_and_its_look_is_no_failure() {
    let (source, destination) = (source(), registry());
    let listed = r#"{"name":"app","tags":["a-good","deleted","m-good","z-good"]}"#;
    source.fault(When::asked("GET", "/app/tags/list"), answer(200, "application/json", listed));
    let files = files("deleted-meanwhile", &source, &[&destination]);
    let synced = sync(&files, 0).await;
    assert!(!synced.contains("deleted") && source.count("GET", "/app/tags/list") == 2, "{synced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_cannot_be_read_has_its_own_failure_and_ends_no_other() {
    let (source, destination) = (source(), registry());
    add_bad(&source, "denied", ScriptedFault::error(403, "DENIED"));
    add_bad(&source, "vulnerable", ScriptedFault::error(412, "PROJECTPOLICYVIOLATION"));
    add_bad(&source, "law", ScriptedFault::error(451, "DENIED"));
    add_bad(&source, "broken", ScriptedFault::error(500, "UNKNOWN"));
    add_bad(&source, "page", answer(200, "text/html", "<html>Please log in</html>"));
    let schema_1 = r#"{"schemaVersion":1,"name":"app","tag":"old","architecture":"amd64","fsLayers":[],"history":[]}"#;
    add_bad(&source, "old", answer(200, "application/vnd.docker.distribution.manifest.v1+prettyjws", schema_1));
    let files = files("unreadable", &source, &[&destination]);
    let bad = [
        ("denied", "SourceDenied"),
        ("vulnerable", REJECTED),
        ("law", REJECTED),
        ("broken", "SourceUnavailable"),
        ("page", "InvalidContent"),
        ("old", "InvalidContent"),
    ];
    good_arrives_and_bad_is_named(&files, &destination, &bad).await;
}

/// The failure code of a tag that the source refuses to give.
const REJECTED: &str = "SourceRejected";

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_whose_list_fails_is_named_and_ends_no_other() {
    let (source, destination) = (source(), registry());
    for repository in ["blobs-only", "kept-back", "z-last"] {
        source.push(repository, "v1", &Image::single(50, 1, 1_000));
    }
    source.fault(When::asked("GET", "/blobs-only/tags/list").always(), ScriptedFault::error(404, "NAME_UNKNOWN"));
    let mut files = files("lists", &source, &[&destination]);
    rule(&mut files).as_object_mut().unwrap().remove("repositoryFilters");
    let synced = sync(&files, 0).await;
    assert!(!synced.contains("blobs-only"), "it has no tags: {synced}");
    source.fault(When::asked("GET", "/kept-back/tags/list").always(), ScriptedFault::error(403, "DENIED"));
    source.push("z-last", "v2", &Image::single(51, 1, 1_000));
    let synced = sync(&files, 1).await;
    assert!(synced.contains("listing the tags of kept-back: answered 403"), "{synced}");
    assert!(destination.tags("z-last").contains_key("v2"), "{synced}");
    let exact = |name: &str| json!({"filter": name, "filterType": "EXACT_MATCH"});
    rule(&mut files)["repositoryFilters"] = json!([exact("app"), exact("blobs-only")]);
    let synced = sync(&files, 1).await;
    assert!(synced.contains("has no repository blobs-only: push to it, or correct the filter"), "{synced}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_what_is_no_image_as_sync_does() {
    let (source, destination) = (source(), registry());
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let body = r#"{"schemaVersion":1,"name":"app","tag":"old","architecture":"amd64","fsLayers":[],"history":[],"x":"0123456789"}"#;
    for (tag, media_type, body) in [("list", manifest, "[]"), ("none", manifest, "{}"), ("old", schema_1, body)] {
        let digest = sha256(body.as_bytes());
        source.put_manifest("app", &digest, media_type, body.as_bytes().to_vec());
        source.tag("app", tag, &digest);
    }
    let files = files("no-images", &source, &[&destination]);
    let planned = document(&files, "plan").await;
    for tag in ["list", "none", "old"] {
        let image = planned["images"].as_array().unwrap().iter().find(|image| image["tag"] == tag).unwrap();
        assert_eq!(image["action"], "FAILED", "{image}");
    }
    let bad = [("list", "InvalidContent"), ("none", "InvalidContent"), ("old", "InvalidContent")];
    good_arrives_and_bad_is_named(&files, &destination, &bad).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_referrer_without_a_manifest_is_named_and_ends_no_other() {
    let (source, destination) = (source(), registry());
    let subject = Image::single(0, 1, 1_000);
    let artifact = Image::artifact(70, "application/vnd.example.signature", 300, Some(&subject));
    let digest = source.push_untagged("app", &artifact);
    let missing = When::asked("", format!("/manifests/{digest}")).always();
    source.fault(missing, ScriptedFault::error(404, "MANIFEST_UNKNOWN"));
    let tag = format!("{}.sig", source.tags("app")["m-good"].replace(':', "-"));
    source.tag("app", &tag, &format!("sha256:{}", "0".repeat(64)));
    let files = files("dangling-referrers", &source, &[&destination]);
    for _ in 0..2 {
        let synced = sync(&files, 1).await;
        assert!(synced.contains("FAILED    source/app:a-good -> d0/app:a-good  ImageNotFound: "), "{synced}");
        assert!(synced.contains(&digest) && synced.contains(&format!("lists the tag {tag} in app")), "{synced}");
        assert!(synced.contains("COMPLETE  source/app:z-good"), "{synced}");
    }
    assert_eq!(destination.tags("app").into_keys().collect::<Vec<_>>(), GOOD);
}

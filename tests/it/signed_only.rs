//! Only what is signed: an image is copied if the source has a valid signature for its very digest.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use transship::api::ReplicationConfiguration;
use transship::terms::{FailureCode, ReplicationState};

use crate::measured::limits::run_workers;
use crate::standalone::text;
use crate::stories::core::between;
use crate::stories::execution::with_jobs;
use crate::support::cosign::{CosignSigner, push_made_by_cosign, signature_tag};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::scripted::{Login, Personality, ScriptedFault, ScriptedRegistry, When};
use crate::tag_filters::{files, registry, rule};

const SOON: Duration = Duration::from_secs(60);

/// An image of each kind, by its tag: what becomes of it, and words of the reason.
const CASES: [(&str, &str, &str); 9] = [
    ("signed", "COMPLETE", ""),
    ("bundled", "COMPLETE", ""),
    ("several", "COMPLETE", ""),
    ("unsigned", "SKIPPED", "has no signature of cosign"),
    ("wrong-key", "FAILED", "another key"),
    ("of-other", "FAILED", "another image"),
    ("bundle-of-other", "FAILED", "another image"),
    ("many", "FAILED", "and 50 are looked at"),
    ("no-list", "FAILED", "no list of signatures"),
];

/// Returns a source with the images of [`CASES`] in `app`.
fn source(signer: &CosignSigner) -> ScriptedRegistry {
    let (source, other) = (registry(), CosignSigner::new());
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    for (seed, (tag, ..)) in (0..).zip(CASES) {
        let image = Image::single(seed, 1, 1_000);
        let digest = source.push("app", tag, &image);
        let own = [digest.as_str()];
        let signatures = match tag {
            "signed" => signer.simple_signatures(&own),
            "several" => signer.simple_signatures(&[&elsewhere, &digest]),
            "wrong-key" => other.simple_signatures(&own),
            "of-other" => signer.simple_signatures(&[&elsewhere]),
            // The valid one is behind more others than are looked at.
            "many" => other.simple_signatures(&own.repeat(60)),
            "no-list" => Image::index(vec![Image::single(90, 1, 100)]),
            "bundled" => {
                source.push_untagged("app", &signer.bundle(&image, &digest));
                continue;
            }
            "bundle-of-other" => {
                source.push_untagged("app", &signer.bundle(&image, &elsewhere));
                continue;
            }
            _ => continue,
        };
        source.push("app", &signature_tag(&digest), &signatures);
    }
    source
}

fn verified_by(signer: &CosignSigner) -> Value {
    json!({"cosign": {"publicKey": signer.public_key()}})
}

fn images(registry: &ScriptedRegistry) -> Vec<String> {
    registry.tags("app").into_keys().filter(|tag| !tag.starts_with("sha256-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_copies_what_is_signed_and_says_of_the_rest_what_is_wrong() {
    let signer = CosignSigner::new();
    let (source, destination) = (source(&signer), registry());
    let mut files = files("signed-only", &source, &[&destination]);
    rule(&mut files)["verification"] = verified_by(&signer);
    let output = files.run("plan", &["--output", "json"]).await;
    let planned: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    for (tag, status, words) in CASES {
        let action = match status {
            "COMPLETE" => "COPY",
            "SKIPPED" => "SKIP",
            _ => "FAILED",
        };
        let image = planned["images"].as_array().unwrap().iter().find(|image| image["tag"] == tag).unwrap();
        assert_eq!(image["action"], action, "{image:#}");
        assert!(image["reason"].as_str().unwrap_or_default().contains(words), "{image:#}");
    }
    let output = files.run("sync", &["--output", "json"]).await;
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    for (tag, status, words) in CASES {
        let image = document["images"].as_array().unwrap().iter().find(|image| image["tag"] == tag);
        let image = image.unwrap_or_else(|| panic!("{tag}: {document:#}"));
        assert_eq!(image["status"], status, "{image:#}");
        assert!(image["message"].as_str().unwrap_or_default().contains(words), "{image:#}");
        let code = match status {
            "SKIPPED" => json!("SignatureMissing"),
            "FAILED" => json!("SignatureInvalid"),
            _ => Value::Null,
        };
        assert_eq!(image["failureCode"], code, "{image:#}");
    }
    assert_eq!(images(&destination), ["bundled", "several", "signed"]);
    let signed = destination.tags("app")["signed"].clone();
    assert!(destination.tags("app").contains_key(&signature_tag(&signed)), "its signature goes with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_cannot_be_read_prove_nothing_and_no_image_goes() {
    let signer = CosignSigner::new();
    let (source, destination) = (registry(), registry());
    let digest = source.push("app", "v1", &Image::single(1, 1, 1_000));
    source.push("app", &signature_tag(&digest), &signer.simple_signatures(&[&digest]));
    source.fault(
        When::asked("GET", format!("/manifests/{}", signature_tag(&digest))).always(),
        ScriptedFault::error(500, "UNKNOWN"),
    );
    let mut files = files("unreadable-signatures", &source, &[&destination]);
    rule(&mut files)["verification"] = verified_by(&signer);
    let printed = text(&files.run("sync", &[]).await);
    assert!(printed.contains("SourceUnavailable") && images(&destination).is_empty(), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_real_cosign_has_signed_is_copied_in_both_forms() {
    for (story, referrers) in [("cosign-api", Personality::plain().referrers), ("cosign-fallback", None)] {
        let personality = Personality { login: Login::Anonymous, referrers, ..Personality::plain() };
        let (source, destination) = (ScriptedRegistry::start(personality), registry());
        let key = push_made_by_cosign(&source);
        source.push("app", "unsigned", &Image::single(7, 1, 1_000));
        let mut files = files(story, &source, &[&destination]);
        for (key, expected) in [(CosignSigner::new().public_key(), vec![]), (key, vec!["bundle", "legacy"])] {
            rule(&mut files)["verification"] = json!({"cosign": {"publicKey": key}});
            let printed = text(&files.run("sync", &[]).await);
            assert_eq!(images(&destination), expected, "{story}: {printed}");
            assert_eq!(printed.contains("SignatureInvalid"), expected.is_empty(), "{story}: {printed}");
        }
    }
}

/// Returns the only image of a sync, and the requests that it took at the source.
async fn outcome(story: &str, source: &ScriptedRegistry, signer: &CosignSigner) -> (Value, usize) {
    let destination = registry();
    let mut files = files(story, source, &[&destination]);
    rule(&mut files)["verification"] = verified_by(signer);
    let output = files.run("sync", &["--output", "json"]).await;
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert!(images(&destination).is_empty(), "{document:#}");
    (document["images"][0].clone(), source.log().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_signatures_cost_a_bounded_number_of_requests() {
    let (signer, other) = (CosignSigner::new(), CosignSigner::new());
    // Under the tag of cosign: as many as a manifest may name, and more.
    for (count, code) in [(9_000, "SignatureInvalid"), (100_000, "LimitExceeded")] {
        let source = registry();
        let digest = source.push("app", "v1", &Image::single(1, 1, 1_000));
        source.push("app", &signature_tag(&digest), &other.repeated_signature(&digest, count));
        let (image, requests) = outcome(&format!("signatures-{count}"), &source, &signer).await;
        assert_eq!((&image["status"], &image["failureCode"]), (&json!("FAILED"), &json!(code)), "{image:#}");
        assert!(requests < 100, "{requests} requests for {count} signatures");
    }
    // As referrers.
    let source = registry();
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let bundle = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 700,
        "digest": format!("sha256:{}", "1".repeat(64)), "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json"});
    let list = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": vec![bundle; 100_000]});
    let answer = ScriptedFault::Answer {
        status: 200,
        headers: vec![("content-type", "application/vnd.oci.image.index.v1+json".to_owned())],
        body: list.to_string().into(),
    };
    source.fault(When::asked("GET", "/referrers/").always(), answer);
    let (image, requests) = outcome("signatures-referrers", &source, &signer).await;
    assert_ne!(image["status"], "COMPLETE", "{image:#}");
    println!("{requests} requests: {image}");
    assert!(requests < 200, "{requests} requests: {image:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_a_gibibyte_is_not_read() {
    let (signer, source) = (CosignSigner::new(), registry());
    let digest = source.push("app", "v1", &Image::single(1, 1, 1_000));
    let signed = signer.simple_signatures(&[&digest]);
    let mut manifest: Value = serde_json::from_slice(&signed.bytes).unwrap();
    let payload = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    manifest["layers"][0]["size"] = json!(1_u64 << 30);
    source.push("app", &signature_tag(&digest), &Image::of_manifest(&manifest, signed.blobs));
    let endless = ScriptedFault::Endless { status: 200, headers: Vec::new(), first: "{", more: "        " };
    source.fault(When::asked("GET", format!("/blobs/{payload}")).always(), endless);
    let (image, requests) = outcome("signature-gibibyte", &source, &signer).await;
    assert_eq!(image["status"], "FAILED", "{image:#}");
    assert!(requests < 50, "{requests} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_after_it_was_verified_is_copied_as_it_was_signed() {
    let (signer, source, destination) = (CosignSigner::new(), registry(), registry());
    let image = Image::single(1, 1, 1_000);
    let digest = source.push("app", "v1", &image);
    source.push("app", &signature_tag(&digest), &signer.simple_signatures(&[&digest]));
    let mut files = files("signed-moved", &source, &[&destination]);
    rule(&mut files)["verification"] = verified_by(&signer);
    // The layers are read after the signature: the tag moves while they are on their way.
    let late = ScriptedFault::AnswerLate(Duration::from_secs(3));
    image.blobs.iter().for_each(|blob| {
        source.fault(When::asked("GET", format!("/blobs/{}", blob.digest)).always(), late.clone());
    });
    let moves = async {
        let is_read =
            async || image.blobs.iter().any(|blob| source.count("GET", &format!("/blobs/{}", blob.digest)) > 0);
        eventually(SOON, "a layer is read", is_read).await;
        source.push("app", "v1", &Image::single(2, 1, 1_000))
    };
    let (output, unsigned) = tokio::join!(files.run("sync", &[]), moves);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(destination.tags("app")["v1"], digest);
    let output = files.run("sync", &[]).await;
    assert!(text(&output).contains("SignatureMissing"), "{}", text(&output));
    assert_eq!(destination.tags("app")["v1"], digest, "the unsigned {unsigned} does not follow");
}

/// Sets what `app` needs for a copy in the configuration `all`.
async fn require(scene: &crate::stories::scene::Scene, verification: Value) {
    let configurations = scene.configurations();
    let mut object = configurations.get("all").await.unwrap();
    object.spec.rules[0].verification = serde_json::from_value(verification).unwrap();
    // The operator may write its status meanwhile: a patch does not mind.
    let patch = Patch::Merge(json!({"spec": {"rules": object.spec.rules}}));
    configurations.patch("all", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_takes_the_key_from_a_secret_and_waits_for_a_signature() {
    let signer = CosignSigner::new();
    let (source, destination) = (source(&signer), registry());
    let mut scene = between("signed-only", &source, &destination, None).await;
    require(&scene, json!({"cosign": {"publicKeySecretRef": {"name": "cosign"}}})).await;
    scene.start_operator().await;
    let namespace = scene.namespace.name.clone();
    let stalled =
        scene.condition::<ReplicationConfiguration>(&namespace, "all", "Stalled", "True", "SecretNotFound", SOON).await;
    assert!(stalled.contains("publicKeySecretRef") && images(&destination).is_empty(), "{stalled}");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cosign"},
        "stringData": {"cosign.pub": signer.public_key()}});
    let secrets = scene.api::<Secret>(&namespace);
    secrets.patch("cosign", &PatchParams::apply("story").force(), &Patch::Apply(secret)).await.unwrap();
    for (tag, status, words) in CASES {
        let state = serde_json::from_value(json!(status)).unwrap();
        let image = scene.image_becomes(&format!("destination/app:{tag}"), state, SOON).await;
        assert!(image.message.unwrap_or_default().contains(words), "{tag}");
    }
    assert_eq!(images(&destination), ["bundled", "several", "signed"]);
    let missing = &scene.images().await["destination/app:unsigned"];
    assert_eq!(missing.failure_code, Some(FailureCode::SignatureMissing));
    // It is signed after all: the notification of the signature has it copied at once.
    let digest = source.tags("app")["unsigned"].clone();
    let tag = signature_tag(&digest);
    let signature = source.push("app", &tag, &signer.simple_signatures(&[&digest]));
    scene.notify("source", "app", &tag, &signature).await;
    scene.image_becomes("destination/app:unsigned", ReplicationState::Complete, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_verifies_before_it_copies() {
    let signer = CosignSigner::new();
    let (source, destination) = (source(&signer), registry());
    let mut scene = between("signed-jobs", &source, &destination, None).await;
    require(&scene, verified_by(&signer)).await;
    let patch = Patch::Merge(json!({"spec": {"execution": {"mode": "Job", "class": "default"}}}));
    scene.configurations().patch("all", &PatchParams::default(), &patch).await.unwrap();
    let (system, _channel) = with_jobs(&mut scene, "signed-jobs").await;
    scene.start_operator().await;
    let _workers = run_workers(&scene, &system, 1).await;
    let expected: BTreeMap<String, &str> =
        CASES.map(|(tag, status, _)| (format!("destination/app:{tag}"), status)).into();
    eventually(SOON, "every image has its outcome", async || {
        let images = scene.images().await;
        let found: BTreeMap<String, String> = images
            .iter()
            .map(|(name, image)| (name.clone(), json!(image.status).as_str().unwrap().to_owned()))
            .collect();
        let is_so = found
            .iter()
            .map(|(name, status)| (name, status.as_str()))
            .eq(expected.iter().map(|(name, status)| (name, *status)));
        if is_so { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    assert_eq!(images(&destination), ["bundled", "several", "signed"]);
}

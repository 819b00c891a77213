//! Digests that are stated wrongly, twice, or by another algorithm.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA512, digest};
use serde_json::json;
use transship::copy::CopyError;
use transship::registry::{Client, Credentials, EgressPolicy, ErrorKind, RegistryOptions, RequestLimits};

use super::document;
use crate::registries::pair::RegistryPair;
use crate::support::image::{Blob, Image, OCI_INDEX, OCI_MANIFEST};
use crate::support::scripted::{Personality, ScriptedFault, When};
use crate::support::tls::install_crypto_provider;

/// Returns an anonymous client that may reach these hosts.
pub(super) fn client_to(url: &str, hosts: &[String]) -> Client {
    install_crypto_provider();
    let options = RegistryOptions {
        url: url.parse().unwrap(),
        logins: Credentials::Anonymous.into(),
        ca_bundle: None,
        trusted_hosts: Vec::new(),
        limits: RequestLimits::of_concurrency(8),
        templates: Vec::new(),
    };
    let allow = hosts.iter().map(|host| host.parse().unwrap()).collect();
    Client::new(options, Arc::new(EgressPolicy { allow, ..EgressPolicy::default() })).unwrap()
}

const STATED: &str = "docker-content-digest";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_states_wrongly_of_a_digest_is_not_believed() {
    let image = Image::multi_platform(1, 2_000);
    let (own, other) = (image.digest(), Image::single(9, 1, 500).digest());
    let upper = format!("sha256:{}", own.trim_start_matches("sha256:").to_uppercase());
    let long = format!("sha256:{}", "a".repeat(10_000));
    let table: Vec<Vec<String>> = vec![
        vec![],
        vec![upper],
        vec![long],
        vec!["sha256:../../x".to_owned()],
        vec!["sha256+b64u:abc".to_owned()],
        vec![own.clone(), other],
        vec![own.clone(), own.clone()],
    ];
    for stated in table {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        pair.source.push("app", "1", &image);
        let mut headers = vec![(STATED, String::new())];
        headers.extend(stated.iter().map(|value| (STATED, value.clone())));
        for registry in [&pair.source, &pair.destination] {
            // Of the tag only: by its own digest each manifest is known anyway.
            registry.fault(When::asked("", "/manifests/1").always(), ScriptedFault::Headers(headers.clone()));
        }
        pair.copy("1", &own).await.unwrap_or_else(|error| panic!("{stated:?}: {error}"));
        assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
        assert!(pair.copy("1", &own).await.unwrap().already_there, "{stated:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_digests_are_never_requested() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 1, 500);
    let layer = &image.blobs[1].digest;
    let hex = layer.trim_start_matches("sha256:");
    let far = hex.replace(|c: char| c.is_ascii_digit(), "\u{ff11}");
    let wrong = [
        "sha256:../../../../etc/passwd".to_owned(),
        "sha256:%2e%2e".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{}z", &hex[1..]),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{far}"),
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564".to_owned(),
        "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        format!("sha256:{}", "a".repeat(10_000)),
    ];
    for wrong in wrong {
        let text = String::from_utf8(image.bytes.clone()).unwrap().replace(layer, &wrong);
        let before = pair.source.log().len();
        let copied = super::copy_of_served(&pair, OCI_MANIFEST, text).await;
        super::refused(&pair, copied, ErrorKind::InvalidContent);
        assert_eq!(pair.source.log().len(), before + 1, "{wrong}");
    }
}

fn sha512(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA512, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}")
}

/// Returns an image whose parts are all named by SHA-512, in an index that names it so, too; and that index's digest.
fn image_of_sha512(pair: &RegistryPair) -> (String, Vec<String>) {
    let parts: Vec<Blob> =
        [Blob::new("application/vnd.oci.image.config.v1+json", b"{}".to_vec()), Blob::layer(1, 3_000)]
            .into_iter()
            .map(|blob| Blob { digest: sha512(&blob.bytes), ..blob })
            .collect();
    let named = |blob: &Blob| json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.bytes.len()});
    let text = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named(&parts[0]), "layers": [named(&parts[1])]});
    let image = document(OCI_MANIFEST, text.to_string());
    let child = json!({"mediaType": OCI_MANIFEST, "digest": sha512(&image.bytes), "size": image.bytes.len()});
    let text = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]});
    let index = document(OCI_INDEX, text.to_string());
    for blob in &parts {
        pair.source.put_blob("app", &blob.digest, blob.bytes.clone());
    }
    for one in [&image, &index] {
        pair.source.put_manifest("app", &sha512(&one.bytes), &one.media_type, one.bytes.clone());
    }
    let digests = parts.iter().map(|blob| blob.digest.clone()).chain([sha512(&image.bytes)]);
    (sha512(&index.bytes), digests.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_sha512_digests_is_copied_and_found_there() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let (root, below) = image_of_sha512(&pair);
    pair.source.tag("app", "1", &root);
    let copied = pair.copy("1", &root).await.unwrap();
    assert!(!copied.already_there && copied.destination_digest.is_none());
    let there = pair.destination.contents("app");
    assert!(below.iter().all(|digest| there.contains(digest)), "{there:?}");
    assert!(
        pair.destination.tags("app")["1"].starts_with("sha256:"),
        "a registry may name by SHA-256 what has another name"
    );
    assert!(pair.copy("1", &root).await.unwrap().already_there, "which is the same content");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_does_not_have_its_sha512_digest_never_arrives() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let (root, below) = image_of_sha512(&pair);
    pair.source.corrupt(&below[1]);
    let copied = pair.copy("1", &root).await;
    assert!(matches!(&copied, Err(CopyError::Source(error)) if error.kind == ErrorKind::InvalidContent), "{copied:?}");
    assert!(pair.destination.tags("app").is_empty() && !pair.destination.contents("app").contains(&below[1]));
}

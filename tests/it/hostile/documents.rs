//! Manifests and indexes that are not what they seem, or too much.

use serde_json::{Value, json};
use transship::copy::CopyError;
use transship::image::MAX_MANIFEST_BYTES;
use transship::registry::ErrorKind;

use super::{copy_of_served, document, manifest, refused};
use crate::registries::pair::RegistryPair;
use crate::support::image::{Image, OCI_INDEX, OCI_MANIFEST, sha256};
use crate::support::scripted::{Personality, ScriptedFault, When};

const FOREIGN_DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

fn pair() -> RegistryPair {
    RegistryPair::start(Personality::plain(), Personality::plain())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_programs_read_differently_is_never_replicated() {
    let pair = pair();
    let image = Image::single(1, 1, 500);
    let whole = |more: &str| manifest(&image, &format!(r#","layers":[]{more}"#));
    let table = [
        (whole(r#","manifests":[]"#), "has both manifests and layers"),
        (whole(r#","Manifests":[]"#), r#"spelled like "manifests" in another case"#),
        (whole(r#","layer\u017f":[]"#), r#"spelled like "layers" in another case"#),
        (whole(r#","layers":[]"#), r#"the field "layers" is there twice"#),
        (whole("").replace(r#""digest":"#, r#""Digest":"#), r#"spelled like "digest" in another case"#),
        (whole("").replace(r#""size":"#, r#""size":1,"size":"#), r#"the field "size" is there twice"#),
        (whole("").replace(OCI_MANIFEST, OCI_INDEX), "but the document says"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "Docker schema 1"),
        ("<html><body>Welcome to the registry</body></html>".to_owned(), "not a manifest"),
        (r#"{"a":"b"}"#.to_owned(), "neither an image manifest nor an index"),
        ("[]".to_owned(), "not a manifest"),
    ];
    for (text, reason) in table {
        let error = refused(&pair, copy_of_served(&pair, OCI_MANIFEST, text).await, ErrorKind::InvalidContent);
        assert!(error.message.contains(reason), "{reason}: {error}");
    }
    assert!(pair.destination.contents("app").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bytes_that_mean_one_thing_arrive_as_they_are() {
    let pair = pair();
    let image = Image::single(1, 1, 500);
    let text = manifest(
        &image,
        ",\r\n \"layers\" : [ ],\t\"x\":1.50e1,\"x\":2, \"annotations\":{\"\\u0061\":\"\\u00e9\",\"A\":\"b\"}",
    ) + "\n\n";
    let odd = Image { bytes: text.into_bytes(), blobs: image.blobs[..1].to_vec(), ..image };
    pair.source.push("app", "1", &odd);
    pair.copy("1", &odd.digest()).await.unwrap();
    assert_eq!(pair.destination.manifest("app", "1"), Some(odd.bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_are_no_sizes_or_lies_end_the_copy_and_nothing_is_tagged() {
    let image = Image::single(1, 1, 20_000);
    let text = String::from_utf8(image.bytes.clone()).unwrap();
    for size in ["19999", "20001", "0", "-1", "9223372036854775808", "18446744073709551616", "2e4", "\"20000\"", "null"]
    {
        let pair = pair();
        let lying = Image { bytes: text.replace(":20000", &format!(":{size}")).into_bytes(), ..image.clone() };
        assert_ne!(lying.digest(), image.digest());
        pair.source.push("app", "1", &lying);
        refused(&pair, pair.copy("1", &lying.digest()).await, ErrorKind::InvalidContent);
        assert!(!pair.destination.contents("app").contains(&image.blobs[1].digest), "{size}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_lies_about_the_size_of_an_image_is_refused() {
    let pair = pair();
    let image = Image::single(1, 1, 500);
    let index = Image::index(vec![image.clone()]);
    let text = String::from_utf8(index.bytes.clone()).unwrap();
    let lying = text.replace(&format!("\"size\":{}", image.bytes.len()), "\"size\":7");
    let lying = Image { bytes: lying.into_bytes(), ..index };
    pair.source.push("app", "1", &lying);
    let error = refused(&pair, pair.copy("1", &lying.digest()).await, ErrorKind::InvalidContent);
    assert!(error.message.contains("has 7 bytes, but it has"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nesting_without_end_is_refused_or_passed_and_never_followed() {
    let pair = pair();
    let (image, deep) = (Image::single(1, 1, 500), 500_000);
    let nested = |open: &str, close: &str| open.repeat(deep) + &close.repeat(deep);
    for text in [
        nested("[", "]"),
        "[".repeat(deep),
        r#"{"a":"#.repeat(deep),
        format!(r#"{{"config":{}}}"#, nested("[", "]")),
        manifest(&image, &format!(r#","layers":[{}]"#, nested(r#"{"digest":"#, "}"))),
    ] {
        refused(&pair, copy_of_served(&pair, OCI_MANIFEST, text).await, ErrorKind::InvalidContent);
    }
    // Where nothing is read of it, it does not matter here; the registry of this test does not take it.
    let ignored = manifest(&image, &format!(r#","x":{}"#, nested("[", "]")));
    pair.source.push("app", "0", &image);
    let copied = copy_of_served(&pair, OCI_MANIFEST, ignored).await;
    assert!(
        matches!(&copied, Err(CopyError::Destination(error)) if error.kind == ErrorKind::ManifestInvalid),
        "{copied:?}"
    );

    let other = Image::single(2, 1, 500);
    pair.source.push("app", "0", &other);
    for (part, status, kind) in [("/blobs/", 400, ErrorKind::Rejected), ("/referrers/", 200, ErrorKind::InvalidContent)]
    {
        pair.source.clear_faults();
        let answer = ScriptedFault::Answer { status, headers: Vec::new(), body: nested(r#"{"errors":["#, "]}").into() };
        pair.source.fault(When::asked("GET", part).always(), answer);
        let copied = pair.copy("0", &other.digest()).await;
        assert!(matches!(&copied, Err(CopyError::Source(error)) if error.kind == kind), "{part}: {copied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_exactly_the_cap_is_copied_and_one_byte_more_is_refused() {
    let image = Image::single(1, 1, 500);
    let of_length = |length: usize| {
        let frame = manifest(&image, r#","annotations":{"a":""}"#).len();
        let padding = "x".repeat(length - frame);
        let bytes = manifest(&image, &format!(r#","annotations":{{"a":"{padding}"}}"#)).into_bytes();
        assert_eq!(bytes.len(), length);
        Image { bytes, blobs: image.blobs[..1].to_vec(), ..image.clone() }
    };
    let pair =
        RegistryPair::start(Personality::plain(), Personality { manifest_limit: 16 << 20, ..Personality::plain() });
    let over = of_length(MAX_MANIFEST_BYTES + 1);
    pair.source.push("app", "1", &over);
    let error = refused(&pair, pair.copy("1", &over.digest()).await, ErrorKind::TooLarge);
    assert!(error.message.contains("over 8388608 bytes"), "{error}");
    let largest = of_length(MAX_MANIFEST_BYTES);
    pair.source.push("app", "1", &largest);
    pair.copy("1", &largest.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), largest.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_layers_children_or_levels_than_any_image_has_are_refused_unread() {
    let pair = pair();
    let descriptor = |number: u32| {
        format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1}}"#, sha256(&number.to_le_bytes()))
    };
    let list = |length: u32| (0..length).map(descriptor).collect::<Vec<_>>().join(",");
    let image = Image::single(1, 1, 500);
    let many = manifest(&image, &format!(r#","layers":[{}]"#, list(50_000)));
    refused(&pair, copy_of_served(&pair, OCI_MANIFEST, many).await, ErrorKind::TooLarge);
    let before = pair.source.log().len();
    let wide = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, list(1_000));
    let copied = copy_of_served(&pair, OCI_INDEX, wide).await;
    assert!(
        matches!(&copied, Err(CopyError::LimitExceeded(message)) if message.contains("1000 manifests")),
        "{copied:?}"
    );
    assert_eq!(pair.source.log().len(), before + 1, "no child is asked for");

    pair.source.clear_faults();
    let nested = |levels: usize| (1..levels).fold(image.clone(), |inner, _| Image::index(vec![inner]));
    let (deepest, too_deep) = (nested(8), nested(9));
    pair.source.push("app", "1", &too_deep);
    let copied = pair.copy("1", &too_deep.digest()).await;
    assert!(
        matches!(&copied, Err(CopyError::LimitExceeded(message)) if message.contains("deeper than 8")),
        "{copied:?}"
    );
    pair.source.push("app", "1", &deepest);
    pair.copy("1", &deepest.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), deepest.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_served_as_its_own_child_is_no_circle() {
    let pair = pair();
    let child = Image::single(1, 1, 500);
    let index = Image::index(vec![child.clone(), Image::single(2, 1, 500)]);
    pair.source.push("app", "1", &index);
    let headers = vec![("content-type", OCI_INDEX.to_owned()), ("docker-content-digest", child.digest())];
    let answer = ScriptedFault::Answer { status: 200, headers, body: index.bytes.clone().into() };
    pair.source.fault(When::asked("GET", child.digest()).always(), answer);
    let error = refused(&pair, pair.copy("1", &index.digest()).await, ErrorKind::InvalidContent);
    assert!(error.message.contains("does not have the digest"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_indexes_name_is_read_and_sent_once() {
    let pair = pair();
    let image = Image::single(1, 1, 5_000);
    let indexes: Vec<Image> = (0..60)
        .map(|number| {
            let text = String::from_utf8(Image::index(vec![image.clone()]).bytes).unwrap();
            let text = text.replacen('{', &format!(r#"{{"annotations":{{"n":"{number}"}},"#), 1);
            Image { children: vec![image.clone()], ..document(OCI_INDEX, text) }
        })
        .collect();
    let root = Image::index(indexes);
    pair.source.push("app", "1", &root);
    pair.copy("1", &root.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), root.tree_digests());
    assert_eq!(pair.source.count("GET", &format!("/manifests/{}", image.digest())), 1);
    for blob in &image.blobs {
        assert_eq!(pair.source.count("GET", &format!("/blobs/{}", blob.digest)), 1);
    }
    assert_eq!(pair.destination.count("PUT", &format!("/manifests/{}", image.digest())), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_in_a_manifest_are_never_requested() {
    let pair = pair();
    let canary = crate::support::scripted::ScriptedRegistry::start(Personality::plain());
    let allow = [pair.source.host(), pair.destination.host(), canary.host(), canary.other_host()];
    let client = |url: String| super::digests::client_to(&url, &allow);
    let pair = RegistryPair { from: client(pair.source.url()), to: client(pair.destination.url()), ..pair };
    let image = Image::single(1, 2, 500);
    let urls = json!([format!("{}/x", canary.url()), format!("http://{}/y", canary.other_host())]);
    let mut manifest: Value = serde_json::from_slice(&image.bytes).unwrap();
    manifest["config"]["urls"] = urls.clone();
    manifest["layers"][0]["urls"] = urls.clone();
    let foreign = ["application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", FOREIGN_DOCKER_LAYER];
    let foreign =
        foreign.map(|kind| json!({"mediaType": kind, "digest": sha256(kind.as_bytes()), "size": 9, "urls": urls}));
    manifest["layers"].as_array_mut().unwrap().extend(foreign);
    let image = Image { bytes: manifest.to_string().into_bytes(), ..image };
    pair.source.push("app", "1", &image);
    let copied = pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(copied.foreign_layers, 2);
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
    assert!(canary.log().is_empty(), "{:?}", canary.log());
}

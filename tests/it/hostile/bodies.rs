//! Bodies that do not end, come compressed, or never come.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use transship::copy::CopyError;
use transship::registry::ErrorKind;

use super::refused;
use crate::registries::pair::{RegistryPair, client};
use crate::support::image::{Image, OCI_INDEX, OCI_MANIFEST};
use crate::support::scripted::{Bearer, Login, Personality, ScriptedFault, ScriptedRegistry, When, gzipped};

fn with_tokens() -> Personality {
    Personality { login: Login::Bearer(Bearer::plain()), ..Personality::plain() }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_end_are_cut_off_and_are_failures_of_the_source() {
    let json = |text: &'static str, more: &'static str| ScriptedFault::Endless {
        status: 200,
        headers: Vec::new(),
        first: text,
        more,
    };
    let spaces = |status| ScriptedFault::Endless { status, headers: Vec::new(), first: "", more: "        " };
    const MIB: u64 = 1 << 20;
    // What is asked, what it is answered, with what that ends, and how much of it is read at most.
    let table = [
        ("/manifests/", spaces(200), ErrorKind::TooLarge, 8 * MIB),
        ("/manifests/", json(r#"{"layers":["#, r#"{"digest":"sha256:","size":1},"#), ErrorKind::TooLarge, 8 * MIB),
        ("/manifests/", spaces(403), ErrorKind::Denied, MIB / 16),
        ("/token", json(r#"{"token":""#, "xxxx"), ErrorKind::TooLarge, MIB),
        ("/token", spaces(401), ErrorKind::Unauthorized, MIB / 16),
        ("/tags/list", json(r#"{"tags":["#, r#""v1","#), ErrorKind::TooLarge, 8 * MIB),
        ("/referrers/", json(r#"{"manifests":["#, "{},"), ErrorKind::TooLarge, 8 * MIB),
        ("/blobs/", spaces(200), ErrorKind::InvalidContent, MIB),
        ("/blobs/", spaces(403), ErrorKind::Denied, MIB / 16),
    ];
    let image = Image::single(1, 1, 500);
    for (part, fault, kind, most) in table {
        let pair = RegistryPair::start(with_tokens(), Personality::plain());
        pair.source.push("app", "1", &image);
        pair.source.fault(When::asked("GET", part).always(), fault);
        let copied = pair.copy("1", &image.digest()).await;
        assert!(matches!(&copied, Err(CopyError::Source(error)) if error.kind == kind), "{part} {kind:?}: {copied:?}");
        let log = pair.source.log();
        let sent = log.iter().filter(|seen| seen.is("GET", part)).map(|seen| seen.sent).max().unwrap();
        assert!(sent <= most + IN_SOCKETS, "{part}: {sent} bytes were taken");
    }
}

/// Bytes that a server may have written and that are not read: they lie in the buffers of both ends.
const IN_SOCKETS: u64 = 16 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_destination_answers_without_end_is_cut_off_too() {
    let image = Image::single(1, 1, 500);
    for (method, part) in [("POST", "/blobs/uploads/"), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")] {
        let pair = RegistryPair::start(Personality::plain(), Personality::plain());
        pair.source.push("app", "1", &image);
        let endless = ScriptedFault::Endless { status: 403, headers: Vec::new(), first: "", more: "        " };
        pair.destination.fault(When::asked(method, part).always(), endless);
        let copied = pair.copy("1", &image.digest()).await;
        assert!(matches!(&copied, Err(CopyError::Destination(error)) if error.kind == ErrorKind::Denied), "{copied:?}");
        assert!(pair.destination.tags("app").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_documents_are_unpacked_within_their_bound_and_blobs_never() {
    let image = Image::single(1, 1, 500);
    let gzip = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        let headers = vec![("content-encoding", "gzip".to_owned()), ("content-type", OCI_MANIFEST.to_owned())];
        ScriptedFault::Answer { status: 200, headers, body: encoder.finish().unwrap().into() }
    };
    let zeros = vec![b' '; (8 << 20) + 1];
    let referrers = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
    let table: [(&str, &[u8], Option<ErrorKind>); 9] = [
        ("/manifests/", &image.bytes, None),
        ("/tags/list", br#"{"tags":["1"]}"#, None),
        ("/referrers/", referrers.as_bytes(), None),
        // Unpacked, it would be right.
        ("/blobs/", &image.blobs[0].bytes, Some(ErrorKind::InvalidContent)),
        ("/token", br#"{"token":"not one of its own"}"#, Some(ErrorKind::Unauthorized)),
        ("/manifests/", &zeros, Some(ErrorKind::TooLarge)),
        ("/tags/list", &zeros, Some(ErrorKind::TooLarge)),
        ("/referrers/", &zeros, Some(ErrorKind::TooLarge)),
        ("/token", &zeros, Some(ErrorKind::TooLarge)),
    ];
    for (part, body, expected) in table {
        let pair = RegistryPair::start(with_tokens(), Personality::plain());
        pair.source.push("app", "1", &image);
        pair.source.fault(When::asked("GET", part).always(), gzip(body));
        let copied = pair.copy("1", &image.digest()).await;
        match (&copied, expected) {
            (Ok(_), None) => assert_eq!(pair.destination.tree("app", "1"), image.tree_digests(), "{part}"),
            (Err(CopyError::Source(error)), Some(kind)) => assert_eq!(error.kind, kind, "{part}: {error}"),
            _ => panic!("{part} {expected:?}: {copied:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_only_said_to_be_compressed_passes_as_it_is() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let image = Image::single(1, 2, 5_000);
    pair.source.push("app", "1", &image);
    let said = ScriptedFault::Headers(vec![("content-encoding", "gzip".to_owned())]);
    pair.source.fault(When::asked("GET", "").always(), said);
    pair.copy("1", &image.digest()).await.unwrap();
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_compressed_for_good_is_no_manifest() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let copied = super::copy_of_served(&pair, OCI_MANIFEST, gzipped(&Image::single(1, 1, 500).bytes)).await;
    refused(&pair, copied, ErrorKind::InvalidContent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_answers_holds_up_no_copy_from_another() {
    let pair = RegistryPair::start(Personality::plain(), Personality::plain());
    let (good, from) = {
        let registry = ScriptedRegistry::start(Personality::plain());
        let from = client(&registry);
        (registry, from)
    };
    let image = Image::single(1, 2, 2_000_000);
    good.push("app", "good", &image);
    let held: Vec<Image> = (10..34).map(|seed| Image::single(seed, 1, 2_000_000)).collect();
    for image in &held {
        pair.source.push("app", "held", image);
    }
    // Twenty whose manifests never come, and four whose layers never do.
    for image in &held[..20] {
        pair.source.fault(When::asked("GET", image.digest()).always(), ScriptedFault::Hold);
    }
    pair.source.fault(When::asked("GET", "/blobs/").always(), ScriptedFault::Hold);
    let waiting = held.iter().map(|image| {
        let digest = image.digest();
        let pair = &pair;
        async move { pair.copy("held", &digest).await }
    });
    let good_copy = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        pair.copy_from(&from, "app", "good", &image.digest()).await.unwrap();
        began.elapsed()
    };
    let took = tokio::select! {
        took = good_copy => took,
        ended = futures::future::join_all(waiting) => panic!("they cannot end: {ended:?}"),
    };
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(pair.destination.tree("app", "good"), image.tree_digests());
}

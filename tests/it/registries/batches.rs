//! Blobs are read back by few calls where a registry has a call for many.

use transship::registry::Credentials;

use super::pair::{RegistryPair, client_of_ecr};
use crate::support::image::Image;
use crate::support::scripted::ecr::{KEY_ID, SECRET_KEY};
use crate::support::scripted::{Personality, ScriptedDigestApi, ScriptedFault, When};

/// Returns a pair whose destination is ECR, written to with an access key.
fn to_ecr() -> RegistryPair {
    let ecr = Personality { digest_api: Some(ScriptedDigestApi::Ecr { page: 1000 }), ..Personality::ecr() };
    let pair = RegistryPair::start(Personality::plain(), ecr);
    let key = Credentials::Basic { username: KEY_ID.to_owned(), password: SECRET_KEY.to_owned().into() };
    let to = client_of_ecr(&pair.destination, key);
    RegistryPair { to, ..pair }
}

const CALL: &str = "#BatchCheckLayerAvailability";

#[tokio::test(flavor = "multi_thread")]
async fn ecr_lists_all_blobs_of_an_image_in_one_call() {
    let pair = to_ecr();
    let image = Image::single(1, 120, 500);
    let blobs = image.blobs.len();
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    let looks = || (pair.destination.count("POST", CALL), pair.destination.count("HEAD", "/blobs/"));
    assert_eq!(looks(), (2, blobs), "each is looked for before it is sent, and they are read back by the hundred");

    assert!(pair.copy("1", &image.digest()).await.unwrap().already_there);
    assert_eq!(looks(), (4, blobs));
    pair.destination.lose_blob("app", &image.blobs[7].digest);
    assert!(!pair.copy("1", &image.digest()).await.unwrap().already_there);
    let (lost, pushed, read_back) = (1, blobs, 1);
    assert_eq!(looks(), (6, blobs + lost + pushed + read_back), "what is not there is looked for once more");
    assert_eq!(pair.destination.tree("app", "1"), image.tree_digests());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_ecr_does_not_list_them_blobs_are_requested_one_by_one() {
    let answer = |status, body: &'static str| ScriptedFault::Answer {
        status,
        headers: Vec::new(),
        body: body.as_bytes().into(),
    };
    let image = Image::single(1, 5, 500);
    for (what, fault) in [
        ("a key without the right", answer(400, r#"{"__type":"AccessDeniedException","message":"no"}"#)),
        ("something else", answer(200, "<html>")),
        ("no list", answer(200, "{}")),
    ] {
        let pair = to_ecr();
        pair.source.push("app", "1", &image);
        pair.destination.fault(When::asked("POST", CALL).always(), fault);
        pair.copy("1", &image.digest()).await.unwrap();
        assert!(pair.copy("1", &image.digest()).await.unwrap().already_there, "{what}");
        assert_eq!(pair.destination.count("POST", CALL), 1, "{what}: it is not asked in vain again");
        assert_eq!(pair.destination.count("HEAD", "/blobs/"), 3 * image.blobs.len(), "{what}");
    }
    // A layer of another size than is stated is none that was asked for.
    let pair = to_ecr();
    pair.source.push("app", "1", &image);
    pair.copy("1", &image.digest()).await.unwrap();
    let digest = &image.blobs[1].digest;
    let lie = format!(
        r#"{{"layers":[{{"layerDigest":"{digest}","layerAvailability":"AVAILABLE","layerSize":1}}],"failures":[]}}"#
    );
    pair.destination.fault(
        When::asked("POST", CALL).always(),
        ScriptedFault::Answer { status: 200, headers: Vec::new(), body: lie.into() },
    );
    let before = pair.destination.count("HEAD", "/blobs/");
    assert!(pair.copy("1", &image.digest()).await.unwrap().already_there);
    assert_eq!(pair.destination.count("HEAD", "/blobs/") - before, image.blobs.len());
}

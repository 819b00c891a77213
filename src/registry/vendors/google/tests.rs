//! Digests in lists of tags, complete and doubtful ones.

use serde_json::json;

use crate::image::{RepositoryName, Tag};
use crate::registry::Listing;
use crate::registry::testing::{Reply, Server};

fn repository() -> RepositoryName {
    "team/app".parse().unwrap()
}

async fn listing_of(pages: Vec<String>) -> Listing {
    let server = Server::start(move |seen, _| {
        let number: usize = seen.target.split_once("p=").map_or(0, |(_, number)| number.parse().unwrap());
        let page = Reply::new(200, &pages[number]);
        if number + 1 < pages.len() { page.header("Link", format!("<?p={}>; rel=next", number + 1)) } else { page }
    })
    .await;
    server.client().tags_and_digests(&repository(), &|_| true).await.unwrap().unwrap()
}

/// As Google's Artifact Registry answers: `manifests` as digest letter and tags.
fn google_page(tags: &[&str], manifests: &[(char, &[&str])]) -> String {
    let manifests = manifests.iter().map(|(letter, tags)| {
        let about = json!({"imageSizeBytes": "7023", "layerId": "", "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "tag": tags, "timeCreatedMs": "0", "timeUploadedMs": "1700000000000"});
        (digest(*letter), about)
    });
    let manifests: serde_json::Map<_, _> = manifests.collect();
    json!({"child": [], "manifest": manifests, "name": "team/app", "tags": tags}).to_string()
}

fn digest(letter: char) -> String {
    format!("sha256:{}", letter.to_string().repeat(64))
}

#[tokio::test]
async fn digests_that_come_with_the_list_are_taken() {
    let first = google_page(&["v1", "latest"], &[('a', &["v1"]), ('b', &["latest"]), ('c', &[])]);
    let second = google_page(&["v2"], &[('b', &["latest", "v2"])]);
    let listing = listing_of(vec![first, second]).await;
    let found: Vec<_> =
        listing.digests.iter().map(|(tag, digest)| format!("{tag} {}", &digest.encoded()[..1])).collect();
    assert_eq!(found, ["latest b", "v1 a", "v2 b"]);
    assert_eq!(listing.tags.len(), 3);
}

#[tokio::test]
async fn digests_of_tags_that_are_not_kept_are_ignored() {
    let page = google_page(&["v1", "old"], &[('a', &["v1"]), ('b', &["old"]), ('c', &["old"])]);
    let server = Server::start(move |_, _| Reply::new(200, &page)).await;
    let keep = |tag: &Tag| tag.as_str() == "v1";
    let listing = server.client().tags_and_digests(&repository(), &keep).await.unwrap().unwrap();
    assert_eq!((listing.tags.len(), listing.digests.len()), (1, 1));
}

#[tokio::test]
async fn digests_that_are_doubtful_or_missing_are_asked_for_one_by_one() {
    let good = google_page(&["v1", "v2"], &[('a', &["v1"]), ('b', &["v2"])]);
    assert_eq!(listing_of(vec![good.clone()]).await.digests.len(), 2, "what the wrong ones are made of");
    let wrong = [
        ("no digests at all", r#"{"tags":["v1","v2"]}"#.to_owned()),
        ("a tag under two digests", google_page(&["v1", "v2"], &[('a', &["v1", "v2"]), ('b', &["v2"])])),
        ("a tag under none", google_page(&["v1", "v2"], &[('a', &["v1"])])),
        ("a digest that is none", good.replace(&digest('b'), "sha256:../../etc")),
        ("digests in upper case", good.replace(&digest('b'), &digest('b').to_uppercase())),
        ("no tags of a digest", good.replace("\"tag\"", "\"tags\"")),
        ("no object", r#"{"tags":["v1","v2"],"manifest":["sha256"]}"#.to_owned()),
        ("nothing", r#"{"tags":["v1","v2"],"manifest":null}"#.to_owned()),
    ];
    for (what, page) in wrong {
        let listing = listing_of(vec![page]).await;
        assert_eq!((listing.tags.len(), listing.digests.len()), (2, 0), "{what}");
    }
    let contradiction = google_page(&["v3"], &[('c', &["v1", "v3"])]);
    let listing = listing_of(vec![good.clone(), contradiction]).await;
    assert_eq!((listing.tags.len(), listing.digests.len()), (3, 0), "pages that contradict each other");
    let listing = listing_of(vec![google_page(&["v1"], &[]), good]).await;
    assert_eq!((listing.tags.len(), listing.digests.len()), (2, 2), "a page may state digests of the tags of another");
}

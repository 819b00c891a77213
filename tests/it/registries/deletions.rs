//! Deletions of tags by the APIs of registries that do not delete them by that of the specification.

use std::collections::BTreeSet;

use transship::image::{Digest, RepositoryName, Tag};
use transship::registry::{Client, Credentials, DeletionAnswer, ErrorKind};

use super::pair::{client, client_of_ecr};
use crate::support::image::Image;
use crate::support::scripted::ecr::{KEY_ID, SECRET_KEY};
use crate::support::scripted::{Personality, ScriptedFault, ScriptedRegistry, When};

const REPOSITORY: &str = "team/apps/web";

/// Returns a registry in which `one` and `two` are one image, `child` is a part of `index`, and `other` stands alone.
fn registry(personality: Personality) -> ScriptedRegistry {
    let registry = ScriptedRegistry::start(personality);
    registry.push(REPOSITORY, "one", &Image::single(1, 1, 100));
    registry.push(REPOSITORY, "two", &Image::single(1, 1, 100));
    registry.push(REPOSITORY, "other", &Image::single(2, 1, 100));
    let index = Image::multi_platform(3, 100);
    registry.push(REPOSITORY, "index", &index);
    registry.tag(REPOSITORY, "child", &index.children[0].digest());
    registry
}

/// Deletes a tag, and returns the answer in a word.
async fn delete(client: &Client, registry: &ScriptedRegistry, tag: &str) -> Result<&'static str, ErrorKind> {
    let repository: RepositoryName = REPOSITORY.parse().unwrap();
    let there = registry.tags(REPOSITORY).get(tag).cloned();
    let digest: Digest = there.unwrap_or_else(|| Image::single(9, 1, 100).digest()).parse().unwrap();
    let tag: Tag = tag.parse().unwrap();
    match client.delete_tag(&repository, &tag, &digest).await {
        Ok(DeletionAnswer::Done) => Ok("done"),
        Ok(DeletionAnswer::Absent) => Ok("absent"),
        Ok(DeletionAnswer::Unsupported(_)) => Ok("unsupported"),
        Err(error) => Err(error.kind),
    }
}

fn left(registry: &ScriptedRegistry) -> BTreeSet<String> {
    registry.tags(REPOSITORY).into_keys().collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn harbor_deletes_tags_alone_by_its_own_api() {
    let registry = registry(Personality::harbor());
    let client = client(&registry);
    assert_eq!(delete(&client, &registry, "one").await, Ok("done"));
    assert_eq!(delete(&client, &registry, "one").await, Ok("absent"));
    assert_eq!(delete(&client, &registry, "child").await, Ok("done"), "its manifest stays");
    assert_eq!(left(&registry), names(&["index", "other", "two"]));
    let paths: Vec<String> = registry.log().into_iter().map(|seen| seen.path).collect();
    let digest = Image::single(1, 1, 100).digest();
    let path = format!("/api/v2.0/projects/team/repositories/apps%252Fweb/artifacts/{digest}/tags/one");
    assert!(paths.contains(&path), "{paths:#?}");
    registry.fault(When::asked("DELETE", "/api/v2.0/"), ScriptedFault::error(412, "PRECONDITION"));
    assert_eq!(delete(&client, &registry, "two").await, Err(ErrorKind::Rejected), "an immutable tag");
    registry.fault(When::asked("DELETE", "/api/v2.0/"), ScriptedFault::error(403, "FORBIDDEN"));
    assert_eq!(delete(&client, &registry, "two").await, Err(ErrorKind::Denied));
}

#[tokio::test]
async fn ecr_deletes_tags_by_batch_delete_image_and_keeps_what_an_index_needs() {
    let registry = registry(Personality::ecr());
    let key = Credentials::Basic { username: KEY_ID.to_owned(), password: SECRET_KEY.to_owned().into() };
    let client = client_of_ecr(&registry, key);
    assert_eq!(delete(&client, &registry, "one").await, Ok("done"));
    assert_eq!(delete(&client, &registry, "one").await, Ok("absent"));
    assert_eq!(delete(&client, &registry, "child").await, Err(ErrorKind::Rejected), "the index needs it");
    assert_eq!(delete(&client, &registry, "other").await, Ok("done"));
    assert_eq!(left(&registry), names(&["child", "index", "two"]));
    assert_eq!(registry.count("POST", "#BatchDeleteImage"), 4);
}

#[tokio::test]
async fn a_registry_without_such_an_api_says_that_it_deletes_no_tags() {
    let registry = registry(Personality { delete_tag: 405, ..Personality::plain() });
    let client = client(&registry);
    assert_eq!(delete(&client, &registry, "one").await, Ok("unsupported"));
    assert_eq!(left(&registry).len(), 5);
}

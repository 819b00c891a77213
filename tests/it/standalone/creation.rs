//! Repositories that are absent at a destination and may not be created: `plan` says what `sync` meets.

use serde_json::json;

use super::text;
use crate::support::image::Image;
use crate::tag_filters::{files, registry};

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_refuses_images_whose_repository_may_not_be_created() {
    let statement = json!({"sid": "images", "effect": "Allow", "principals": [{"namespace": "team-a"}],
        "actions": ["ReplicateImage"], "resources": ["*"]});
    let policy = json!({"registryRef": {"name": "d0"}, "statements": [statement]});
    for (name, planned, reason) in [
        ("never", "failed", "has createRepositories: Never"),
        ("without-consent", "denied", "no statement allows CreateRepository"),
    ] {
        let (source, destination) = (registry(), registry());
        source.push("app", "v1", &Image::single(1, 1, 500));
        let mut files = files(&format!("create-{name}"), &source, &[&destination]);
        let d0 = files.documents.iter_mut().find(|document| document["metadata"]["name"] == "d0").unwrap();
        if name == "never" {
            d0["spec"]["createRepositories"] = json!("Never");
        } else {
            d0["metadata"]["namespace"] = json!("team-b");
            let rule = &mut files.documents.last_mut().unwrap()["spec"]["rules"][0];
            rule["destinations"][0]["registryRef"]["namespace"] = json!("team-b");
            files.add("RegistryPermissionPolicy", json!({"namespace": "team-b", "name": "images"}), policy.clone());
        }
        for subcommand in ["plan", "sync"] {
            let ran = files.run(subcommand, &[]).await;
            assert_eq!(ran.status.code(), Some(1), "{subcommand}: {}", text(&ran));
            assert!(text(&ran).contains(reason), "{subcommand}: {}", text(&ran));
            assert!(subcommand == "sync" || text(&ran).contains(&format!("1 {planned}")), "{}", text(&ran));
        }
        destination.push("app", "other", &Image::single(2, 1, 500));
        let ran = files.run("plan", &[]).await;
        assert_eq!(ran.status.code(), Some(0), "the repository is there: {}", text(&ran));
    }
}

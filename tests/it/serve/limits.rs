//! Limits of a `serve`, as it says them: settings that a registry lacks, and statuses beyond its flags.

use serde_json::json;
use transship::api::ReplicationStatus;

use super::{SOON, Serve, objects};
use crate::standalone::{Files, text};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::Port;
use crate::tag_filters::{files, registry, rule};

const WORDS: &str = "is a setting of Amazon ECR, and this registry is none";

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_a_registry_lacks_is_said_by_plan_sync_and_serve() {
    let (source, destination) = (registry(), registry());
    source.push("app", "v1", &Image::single(1, 1, 1_000));
    let mut files: Files = files("templates-said", &source, &[&destination]);
    let template = |prefix: &str| json!([{"prefix": prefix, "scanOnPush": true}]);
    files.documents[1]["spec"]["repositoryTemplates"] = template("");
    let planned = files.run("plan", &[]).await;
    assert_eq!(planned.status.code(), Some(1), "{}", text(&planned));
    let lines = text(&planned);
    let of_image = lines.lines().find(|line| line.contains("failed") && line.contains(WORDS));
    assert!(of_image.is_some() && lines.contains("Registry team-a/d0: spec.repositoryTemplates"), "{lines}");
    let synced = files.run("sync", &["-o", "json"]).await;
    assert_eq!(synced.status.code(), Some(1), "{}", text(&synced));
    let document: serde_json::Value = serde_json::from_slice(&synced.stdout).unwrap();
    let (refused, image) = (&document["refusedRegistries"][0], &document["images"][0]["message"]);
    for said in [refused, image] {
        assert!(said.as_str().is_some_and(|said| said.contains(WORDS)), "{document}");
    }
    // Where it is about other repositories, images arrive, and it is said all the same.
    files.documents[1]["spec"]["repositoryTemplates"] = template("prod");
    for (command, code) in [("plan", 0), ("sync", 0)] {
        let output = files.run(command, &[]).await;
        assert_eq!((output.status.code(), text(&output).contains(WORDS)), (Some(code), true), "{}", text(&output));
    }
    let serve = Serve::start(&files).await;
    serve
        .logs(&format!("RegistryNotReady not ready: destination Registry team-a/d0: {}", "spec.repositoryTemplates"), 0)
        .await;
    files.documents[1]["spec"].as_object_mut().unwrap().remove("repositoryTemplates");
    let ready = serve.count("Replicated ready: ");
    files.write();
    serve.logs("Replicated ready: ", ready).await;
    serve.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serve_writes_no_more_statuses_than_its_flags_allow() {
    let (source, destination) = (registry(), registry());
    for repository in 0..12 {
        source.push(&format!("app-{repository}"), "v1", &Image::single(repository, 1, 100));
    }
    let mut files = files("serve-envelope", &source, &[&destination]);
    rule(&mut files).as_object_mut().unwrap().remove("repositoryFilters");
    for (life, bound) in ["5", "5", "9", "5"].into_iter().enumerate() {
        let tag = format!("v{life}");
        for repository in 0..12 {
            source.push(&format!("app-{repository}"), &tag, &Image::single(repository, 1, 100));
        }
        let serve = Serve::on(Port::claim(), &files, &["--max-statuses-per-configuration", bound]).await;
        eventually(SOON, "all arrive", async || {
            (0..12).all(|n| destination.tags(&format!("app-{n}")).contains_key(&tag))
        })
        .await;
        serve.logs(&format!("{bound} of a configuration"), 0).await;
        serve.logs("Replicated ready: ", 0).await;
        // A bound that was lowered takes statuses away; those that are left are up to date.
        eventually(SOON, "there are as many as the bound allows", async || {
            let left = objects(&files).await;
            let shows = |object: &&ReplicationStatus| {
                object.status.iter().flat_map(|status| &status.images).any(|image| image.tag == tag)
            };
            let (count, up_to_date) = (left.len(), left.iter().filter(shows).count());
            if [count.to_string(), up_to_date.to_string()] == [bound, bound] {
                Ok(())
            } else {
                Err(format!("{up_to_date} of {count} are up to date"))
            }
        })
        .await;
        serve.end().await;
    }
}

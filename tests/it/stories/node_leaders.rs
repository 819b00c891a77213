//! Two replicas on a node: the workers of Jobs find the new leader, also while a release is upgraded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::node::{SLOW, Story, names, story};
use crate::support::image::Image;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_the_new_leader_once_the_pod_of_the_former_is_gone() {
    let mut story = story("replicas").await;
    story.scene.operator.chart().values.push("operator.replicas=2".to_owned());
    story.scene.start_operator().await;
    story.proxy.set(SLOW);
    story.push_large("v1", 91).await;
    story.in_the_middle().await;
    let workers = names(&story.workers().await);
    let holder = story.kubectl(&["get", "lease", "transship", "-o", "jsonpath={.spec.holderIdentity}"]).await;
    let replicas = story.scene.operator.chart().pods("operator").await;
    let leads = |pod: &&serde_json::Value| pod["metadata"]["uid"] == holder.trim();
    let leader = replicas.iter().find(leads).expect("one of the replicas leads");
    let (leader, began) = (leader["metadata"]["name"].as_str().unwrap().to_owned(), Instant::now());
    story.kubectl(&["delete", "pod", "--grace-period=0", "--force", &leader]).await;
    story.complete("app:v1").await;
    println!("complete {:?} after the leader's pod was gone", began.elapsed());
    assert_eq!(names(&story.workers().await), workers, "the same worker finished it");
    let writes = story.tag_writes();
    assert_eq!(writes.iter().filter(|access| access.path.ends_with("v1") && access.status == 201).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_under_pushes_loses_no_notification_and_copies_nothing_twice() {
    let mut story = story("upgrade").await;
    story.scene.operator.chart().values.push("operator.replicas=2".to_owned());
    // What is not notified is found a day later.
    let interval = Patch::Merge(json!({"spec": {"interval": "24h"}}));
    story.scene.configurations().patch("all", &PatchParams::default(), &interval).await.unwrap();
    story.scene.start_operator().await;
    story.push_small("app", "v0", 500).await;
    story.complete("app:v0").await;

    let (namespaces, is_upgraded) = (story.scene.namespaces.clone(), AtomicBool::new(false));
    let Story { scene, source, .. } = &mut story;
    let (pusher, chart) = (source.pusher(), scene.operator.chart());
    chart.values.push("operator.copies=17".to_owned());
    let upgrade = async {
        chart.helm("upgrade", &namespaces).await.expect_success("helm upgrade");
        is_upgraded.store(true, Ordering::Relaxed);
    };
    let pushes = async {
        let mut pushed = 0;
        while !is_upgraded.load(Ordering::Relaxed) || pushed < 10 {
            pushed += 1;
            pusher.push("app", &format!("v{pushed}"), &Image::single(500 + 10 * pushed, 2, 5_000)).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        pushed
    };
    let ((), pushed) = futures::join!(upgrade, pushes);
    for number in 0..=pushed {
        story.complete(&format!("app:v{number}")).await;
    }
    let writes = story.tag_writes();
    for number in 0..=pushed {
        let end = format!("/manifests/v{number}");
        let written = writes.iter().filter(|access| access.path.ends_with(&end) && access.status == 201).count();
        assert_eq!(written, 1, "v{number}: {writes:?}");
    }
    println!("{pushed} pushes during the upgrade");
}

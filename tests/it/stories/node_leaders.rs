//! Two replicas on a node: the workers of Jobs find the new leader.

use std::time::Instant;

use super::node::{SLOW, names, story};

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

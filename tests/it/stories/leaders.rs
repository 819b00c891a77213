//! Two replicas of the operator of which one leads: the other passes calls on, and takes over.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use transship::terms::ReplicationState;

use super::core::{SOON, between, is_ready};
use super::operator::Operator;
use super::scene::{NOTIFY_TOKEN, Scene};
use crate::support::eventually::eventually;
use crate::support::image::Image;
use crate::support::process::Signal;
use crate::support::scripted::ScriptedRegistry;
use crate::support::tls::client_builder;
use crate::tag_filters::registry;

/// The Lease of a leader that was killed ends after 15 s, and another replica works within 5 s more; this is for a busy
/// machine.
const TAKES_OVER: Duration = Duration::from_secs(25);

/// Two replicas, of which the first one leads.
struct Replicas {
    scene: Scene,
    second: Operator,
    source: ScriptedRegistry,
    destination: ScriptedRegistry,
    pushed: u64,
}

impl Replicas {
    async fn start(story: &str) -> Self {
        let (source, destination) = (registry(), registry());
        let scene = between(story, &source, &destination, None).await;
        scene.take_notifications("source").await;
        let second = Operator::new(scene.plane, story).await;
        let mut replicas = Self { scene, second, source, destination, pushed: 0 };
        let namespace = replicas.scene.namespace.name.clone();
        let arguments = |identity: &str| {
            ["--lease", "transship", "--identity", identity, "--namespace", &namespace].map(str::to_owned).to_vec()
        };
        replicas.scene.operator.process().arguments = arguments("first");
        replicas.second.process().arguments = arguments("second");
        replicas.scene.start_operator().await;
        is_ready(&replicas.scene).await;
        replicas.start_second().await;
        replicas
    }

    async fn start_second(&mut self) {
        let hosts = [self.source.host(), self.destination.host()];
        self.second.start(&self.scene.namespaces, &hosts).await;
    }

    /// Pushes an image and notifies `url` of it until that is taken. Returns the time until the image is there.
    async fn push(&mut self, url: &str) -> Duration {
        self.pushed += 1;
        let tag = format!("v{}", self.pushed);
        let digest = self.source.push("app", &tag, &Image::single(self.pushed, 2, 10_000));
        let (client, began) = (client_builder().build().unwrap(), Instant::now());
        let url = format!("{url}/v1/notify/{}/source", self.scene.namespace.name);
        let target = json!({"repository": "app", "tag": tag, "digest": digest});
        let event = json!({"events": [{"action": "push", "target": target}]}).to_string();
        eventually(SOON, "the notification is taken", async || {
            let answer = client.post(&url).bearer_auth(NOTIFY_TOKEN).body(event.clone()).send().await;
            match answer {
                Ok(answer) if answer.status().as_u16() == 202 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        self.scene.image_becomes(&format!("destination/app:{tag}"), ReplicationState::Complete, SOON).await;
        began.elapsed()
    }

    /// Every image was written once, whichever replica led.
    fn are_written_once(&self) {
        let moves = self.destination.moves("app");
        assert_eq!(moves.len() as u64, self.pushed);
        assert!(moves.values().all(|digests| digests.len() == 1), "{moves:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_passes_notifications_on_and_leads_once_the_leader_is_killed() {
    let mut replicas = Replicas::start("leaders").await;
    let (first, second) = (replicas.scene.operator.notify_url(), replicas.second.notify_url());
    println!("passed on by the follower: {:?}", replicas.push(&second).await);
    let log = replicas.second.log().await;
    assert!(!log.contains("registry checked") && !log.contains("copied"), "a follower does no work: {log}");

    replicas.scene.kill_operator();
    let took = replicas.push(&second).await;
    println!("the leader was killed: {took:?}");
    assert!(took < TAKES_OVER, "{took:?}");

    // The first one comes back and follows; a leader that ends in good order gives the Lease up.
    replicas.scene.start_operator().await;
    replicas.push(&first).await;
    replicas.second.end().await;
    let took = replicas.push(&first).await;
    println!("the leader has ended: {took:?}");
    assert!(took < Duration::from_secs(10), "it does not wait for the end of the Lease: {took:?}");
    replicas.are_written_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_for_longer_than_its_lease_ends() {
    let mut replicas = Replicas::start("frozen-leader").await;
    let second = replicas.second.notify_url();
    replicas.push(&second).await;
    replicas.scene.operator.process().running().signal(Signal::STOP);
    // Connections to the frozen one are open: they are cut once another one leads.
    replicas.push(&second).await;
    let former = replicas.scene.operator.process();
    former.running().signal(Signal::CONT);
    eventually(SOON, "the former leader ends", async || former.has_ended()).await;
    replicas.push(&second).await;
    replicas.are_written_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_others_delete_or_edit_is_taken_again_by_one_replica() {
    let mut replicas = Replicas::start("lost-lease").await;
    let second = replicas.second.notify_url();
    replicas.push(&second).await;
    let leases = replicas.scene.api::<Lease>(&replicas.scene.namespace.name.clone());
    leases.delete("transship", &DeleteParams::default()).await.unwrap();
    replicas.push(&second).await;
    eventually(SOON, "the Lease is there again", async || leases.get_opt("transship").await.unwrap().is_some()).await;
    let holder = Patch::Merge(json!({"spec": {"holderIdentity": "another-user", "leaseTransitions": 99}}));
    leases.patch("transship", &PatchParams::default(), &holder).await.unwrap();
    // The leader ends, as it does not hold the Lease any more; Kubernetes starts it again.
    let former = replicas.scene.operator.process();
    eventually(SOON, "the former leader ends", async || former.has_ended()).await;
    let took = replicas.push(&second).await;
    println!("the Lease was taken away: {took:?}");
    replicas.scene.start_operator().await;
    let first = replicas.scene.operator.notify_url();
    replicas.push(&first).await;
    replicas.are_written_once();
}

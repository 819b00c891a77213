//! A push to a far registry is replicated in few round trips: a guard on how many requests wait for one another.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use transship::api::ReplicationConfiguration;
use transship::terms::ReplicationState;

use crate::stories::scene::{Scene, to};
use crate::support::eventually::eventually;
use crate::support::round_trips::{Far, PASSWORD, REPOSITORY, RoundTrips, USER, measure, small_image};
use crate::support::turns::turn;

/// The work between the round trips is a small part of one that takes so long, also on a busy machine.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// The most round trips that the work may take.
const WORK: f64 = 0.5;
/// From the look at the source's tag until the destination has it.
const VISIBLE: f64 = 8.0;
/// Until everything was read back.
const COMPLETE: f64 = 10.0;

#[tokio::test(flavor = "multi_thread")]
async fn on_warm_connections_and_tokens_a_small_image_takes_few_round_trips() {
    let _turn = turn().await;
    let mut tries = Vec::new();
    for _ in 0..3 {
        let second = measure(ROUND_TRIP, 2).await[1];
        tries.push(second);
        if is_few(second) {
            return;
        }
    }
    panic!("{VISIBLE} round trips until the tag is there, {COMPLETE} until it is read back: {tries:?}");
}

fn is_few(RoundTrips { visible, complete }: RoundTrips) -> bool {
    visible <= VISIBLE + WORK && complete <= COMPLETE + WORK
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notified_push_takes_an_operator_no_more_round_trips() {
    let _turn = turn().await;
    let (source, destination) = (Far::start("pushed-source").await, Far::start("pushed-destination").await);
    source.registry.pusher().push(REPOSITORY, "v0", &small_image(0)).await;
    source.move_away(ROUND_TRIP);
    destination.move_away(ROUND_TRIP);
    let mut scene = Scene::new("far").await;
    let namespace = scene.namespace.name.clone();
    for (name, far) in [("source", &source), ("destination", &destination)] {
        let (host, realm) = (far.proxy.host(), far.realm.host());
        scene.secret(&namespace, name, &host, USER, PASSWORD).await;
        let spec = json!({"url": format!("http://{host}"), "allowHTTP": true, "trustedHosts": [realm],
            "credentials": {"secretRef": {"name": name}}});
        scene.allow(&host);
        scene.allow(&realm);
        scene.registry_object(&namespace, name, spec).await;
    }
    scene.take_notifications("source").await;
    let filters = json!([{"filter": REPOSITORY, "filterType": "EXACT_MATCH"}]);
    scene.configure("app", "source", &[to("destination")], Some(filters), "24h").await;
    scene.start_operator().await;
    scene.condition::<ReplicationConfiguration>(&namespace, "app", "Ready", "True", "Replicated", SOON).await;
    let mut tries = Vec::new();
    for number in 1..=3 {
        let tag = format!("v{number}");
        let digest = source.registry.pusher().push(REPOSITORY, &tag, &small_image(number)).await;
        scene.notify("source", REPOSITORY, &tag, &digest).await;
        let complete_at = completed(&scene, &format!("destination/{REPOSITORY}:{tag}")).await;
        // The request took half of a round trip until the source answered it.
        let began = source.answered("GET", &tag).await - ROUND_TRIP / 2;
        let visible_at = destination.answered("PUT", &tag).await;
        let trips = |at: Timestamp| at.duration_since(began).as_secs_f64() / ROUND_TRIP.as_secs_f64();
        let taken = RoundTrips { visible: trips(visible_at), complete: trips(complete_at) };
        println!("push {number}: {taken:?}");
        tries.push(taken);
        if is_few(taken) {
            return;
        }
    }
    panic!("{VISIBLE} round trips until the tag is there, {COMPLETE} until the status says COMPLETE: {tries:?}");
}

/// When the status says that an image is complete.
async fn completed(scene: &Scene, image: &str) -> Timestamp {
    eventually(SOON, "the status says COMPLETE", async || {
        let images = scene.images().await;
        let is_complete = images.get(image).is_some_and(|image| image.status == ReplicationState::Complete);
        is_complete.then(Timestamp::now)
    })
    .await
}

const SOON: Duration = Duration::from_secs(30);

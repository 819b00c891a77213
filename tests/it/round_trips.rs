//! A push to a far registry is replicated in few round trips: a guard on how many requests wait for one another.

use std::time::Duration;

use crate::support::round_trips::{RoundTrips, measure};

/// The work between the round trips is a small part of one that takes so long, also on a busy machine.
const ROUND_TRIP: Duration = Duration::from_millis(200);
/// What that work may take, in round trips.
const WORK: f64 = 0.5;
/// From the look at the source's tag until the destination has it.
const VISIBLE: f64 = 8.0;
/// Until everything was read back.
const COMPLETE: f64 = 10.0;

#[tokio::test(flavor = "multi_thread")]
async fn on_warm_connections_and_tokens_a_small_image_takes_few_round_trips() {
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

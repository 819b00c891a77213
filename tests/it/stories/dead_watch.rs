//! An operator whose way to the API server is dead revokes what it cannot ask for, and makes up for what it has missed.

use super::consent::SlowLayer;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stops_although_the_watch_of_its_policy_is_dead() {
    let mut layer = SlowLayer::new("deaf").await;
    layer.scene.operator.will_be_cut_off();
    layer.is_on_its_way().await;
    layer.scene.operator.cut_off().await;
    layer.is_stopped_by_its_owner().await;
    layer.scene.operator.reconnect().await;
    layer.is_reported().await;
    let log = layer.scene.operator_log().await;
    // A leader that cannot renew its Lease ends, and its successor says that nothing is permitted.
    let has_ended = log.contains("the Lease is neither taken nor renewed");
    assert!(log.contains("PolicyRevoked") || has_ended, "it was reported as revoked: {log}");
}

//! An operator whose way to the API server is dead revokes what it cannot ask for.

use super::consent::SlowLayer;
use crate::support::proxy::{Fault, FaultProxy};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stops_although_nobody_can_tell_the_operator_that_its_policy_is_gone() {
    let mut layer = SlowLayer::new("deaf").await;
    let server = layer.scene.plane.server().trim_start_matches("https://").parse().unwrap();
    let proxy = FaultProxy::start(server);
    layer.scene.operator.reach_through(&proxy.host());
    layer.is_on_its_way().await;
    proxy.set(Fault::Hold);
    layer.is_stopped_by_its_owner().await;
    proxy.set(Fault::None);
    layer.is_told().await;
}

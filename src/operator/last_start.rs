//! Waits for the start of the last configuration that existed when this replica began to lead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::api::ReplicationConfiguration;
use crate::controllers::Context;

/// Has pushes kept until every configuration has started, or for [`STARTING`]: one that cannot be decoded never does.
pub(super) async fn last_start(context: Arc<Context>) {
    let has_started = |object: &Arc<ReplicationConfiguration>| {
        let namespace = object.namespace().unwrap_or_default();
        !context.view.acts_on(&namespace) || context.configurations.has_started(&namespace, &object.name_any())
    };
    let began = Instant::now();
    while began.elapsed() < STARTING && !context.view.stores.configurations.state().iter().all(has_started) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    context.configurations.all_have_started();
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Ten thousand configurations start within two minutes.
const STARTING: Duration = Duration::from_secs(600);

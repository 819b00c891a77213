//! Waits for the start of the configurations that exist when this replica begins to lead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;

use crate::controllers::Context;

/// Has hints kept until every configuration that exists now has started or is gone, for [`STARTING`] at the longest.
pub(super) async fn last_start(context: Arc<Context>) {
    let (began, configurations) = (Instant::now(), &context.view.stores.configurations);
    let mut waiting: Vec<_> = configurations.state().iter().map(|object| ObjectRef::from_obj(&**object)).collect();
    loop {
        waiting.retain(|object| {
            let namespace = object.namespace.as_deref().unwrap_or_default();
            let is_started = context.configurations.has_started(namespace, &object.name);
            !is_started && context.view.acts_on(namespace) && configurations.get(object).is_some()
        });
        if waiting.is_empty() || began.elapsed() >= STARTING {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    context.configurations.all_have_started();
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
const STARTING: Duration = Duration::from_secs(600);

//! The authority of a worker: what the operator's last answers allow, and the grants that it asks for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::channel::{ChannelClient, ChannelError, GrantAnswer, GrantRequest, GrantedEffect, ItemId};
use crate::copy::{Authority, Effect, Refusal};

/// Until when each image may go on.
#[derive(Default)]
pub(super) struct Leases {
    until: Mutex<HashMap<ItemId, Instant>>,
    renewed: Notify,
}

impl Leases {
    /// The images may go on until then.
    pub(super) fn renew<'a>(&self, ids: impl Iterator<Item = &'a ItemId>, until: Instant) {
        let mut known = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(ids.map(|id| (id.clone(), until)));
        drop(known);
        self.renewed.notify_waiters();
    }

    /// The image may not go on.
    pub(super) fn end(&self, id: &ItemId) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Waits until the image may go on, and says until when.
    async fn of(&self, id: &ItemId) -> Instant {
        loop {
            let mut renewed = std::pin::pin!(self.renewed.notified());
            renewed.as_mut().enable();
            let until = self.until.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
            match until {
                Some(until) if until > Instant::now() => return until,
                _ => renewed.await,
            }
        }
    }
}

/// The authority of one image's copy.
pub(super) struct Leased {
    pub(super) id: ItemId,
    pub(super) leases: Arc<Leases>,
    pub(super) client: ChannelClient,
    pub(super) session: String,
}

impl Authority for Leased {
    fn permit<'a>(&'a self, effect: Effect<'a>) -> BoxFuture<'a, Result<Instant, Refusal>> {
        async move {
            let effect = match effect {
                Effect::Upload { .. } => return Ok(self.leases.of(&self.id).await),
                Effect::CreateRepository { .. } => GrantedEffect::CreateRepository,
                Effect::WriteTag { digest, replaces, .. } => {
                    GrantedEffect::WriteTag { digest: digest.clone(), replaces: replaces.cloned() }
                }
            };
            let request = GrantRequest { session: self.session.clone(), id: self.id.clone(), effect };
            loop {
                let lease = self.leases.of(&self.id).await;
                let sent = Instant::now();
                match self.client.grant(&request).await {
                    Ok(GrantAnswer::Granted { for_ms }) => return Ok(lease.min(sent + Duration::from_millis(for_ms))),
                    Ok(GrantAnswer::Refused { reason, message }) => return Err(Refusal { reason, message }),
                    Ok(GrantAnswer::Wait) | Err(ChannelError::Late | ChannelError::Unreachable(_)) => {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    // The next report ends this process.
                    Err(ChannelError::Void) => std::future::pending().await,
                }
            }
        }
        .boxed()
    }
}

const ASK_AGAIN: Duration = Duration::from_millis(250);

//! The authority of a worker: the leases of the operator's answers, and the grants that the worker asks for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::channel::{ChannelClient, ChannelError, GrantAnswer, GrantRequest, GrantedMutation, ItemId};
use crate::copy::{Authority, Denied, Mutation};
use crate::locked::Locked;

/// The leases of images: each may mutate until its lease ends.
#[derive(Default)]
pub(super) struct Leases {
    until: Locked<HashMap<ItemId, Instant>>,
    renewed: Notify,
}

impl Leases {
    /// Renews the leases of `ids`.
    pub(super) fn renew<'a>(&self, ids: impl Iterator<Item = &'a ItemId>, until: Instant) {
        let mut known = self.until.lock();
        known.extend(ids.map(|id| (id.clone(), until)));
        drop(known);
        self.renewed.notify_waiters();
    }

    /// Ends the lease of an image.
    pub(super) fn end(&self, id: &ItemId) {
        self.until.lock().remove(id);
    }

    /// Waits for a lease of the image. Returns its end.
    async fn of(&self, id: &ItemId) -> Instant {
        loop {
            let mut renewed = std::pin::pin!(self.renewed.notified());
            renewed.as_mut().enable();
            let until = self.until.lock().get(id).copied();
            match until {
                Some(until) if until > Instant::now() => return until,
                _ => renewed.await,
            }
        }
    }
}

/// The authority of one image's copy.
pub(super) struct LeasedAuthority {
    pub(super) id: ItemId,
    pub(super) leases: Arc<Leases>,
    pub(super) client: ChannelClient,
    pub(super) session: String,
}

impl Authority for LeasedAuthority {
    fn permit<'a>(&'a self, mutation: Mutation<'a>) -> BoxFuture<'a, Result<Instant, Denied>> {
        async move {
            let mutation = match mutation {
                Mutation::Upload { .. } => return Ok(self.leases.of(&self.id).await),
                Mutation::CreateRepository { .. } => GrantedMutation::CreateRepository,
                Mutation::DeleteTag { tag } => {
                    let message = format!("a worker does not delete: {tag} stays");
                    return Err(Denied { reason: String::new(), message });
                }
                Mutation::WriteTag { tag, digest, replaces, .. } => {
                    GrantedMutation::WriteTag { tag: tag.clone(), digest: digest.clone(), replaces: replaces.cloned() }
                }
            };
            let request = GrantRequest { session: self.session.clone(), id: self.id.clone(), mutation };
            loop {
                let lease = self.leases.of(&self.id).await;
                let sent = Instant::now();
                match self.client.grant(&request).await {
                    Ok(GrantAnswer::Granted { for_ms }) => return Ok(lease.min(sent + Duration::from_millis(for_ms))),
                    Ok(GrantAnswer::Denied { reason, message }) => return Err(Denied { reason, message }),
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

//! Copies one image for the operator.

use std::sync::Arc;

use super::authority::{Leased, Leases};
use crate::channel::{ChannelClient, Ended, EndedBadly, Item, ItemId, RouteAccess};
use crate::copy::{Copied, CopyError, Engine, Failed, ImageCopy, Progress};
use crate::registry::{Client, EgressPolicy};
use crate::terms::FailureCode;

/// Both ends, as this process reaches them.
pub(super) struct Route {
    pub(super) version: String,
    source: Client,
    destination: Client,
}

impl Route {
    /// Clients of both ends.
    ///
    /// # Errors
    /// A sentence, when an option cannot be used.
    pub(super) fn new(access: RouteAccess, egress: &Arc<EgressPolicy>) -> Result<Self, String> {
        let client = |access| Client::new(access, egress.clone()).map_err(|error| error.message);
        Ok(Self {
            version: access.version,
            source: client(access.source.try_into()?)?,
            destination: client(access.destination.try_into()?)?,
        })
    }
}

/// One image while it is copied.
pub(super) struct Copying {
    pub(super) item: Item,
    pub(super) route: Arc<Route>,
    pub(super) engine: Engine,
    pub(super) leases: Arc<Leases>,
    pub(super) client: ChannelClient,
    pub(super) session: String,
    pub(super) progress: Progress,
}

impl Copying {
    /// Copies it and reads it back.
    pub(super) async fn run(self) -> Ended {
        let Self { item, route, engine, leases, client, session, progress } = self;
        let authority = Leased { id: item.id.clone(), leases, client, session };
        let task = ImageCopy::new(&item.image, (&route.source, &route.destination), &authority, &progress);
        let result = engine.copy(&task).await.map(Copied::replica).map_err(badly);
        tracing::info!(repository = %item.image.repository, tag = %item.image.tag, bytes = progress.bytes(), ok = result.is_ok(), "ended");
        Ended { id: item.id, result, moved: progress.bytes() }
    }
}

/// How an image is told whose copy panicked.
pub(super) fn panicked(id: ItemId) -> Ended {
    let message = "the worker met a fault of its own; its log tells more".to_owned();
    let bad = EndedBadly { code: FailureCode::WorkerFailed, message, retry_after: None, suspect_source: None };
    Ended { id, result: Err(bad), moved: 0 }
}

fn badly(error: CopyError) -> EndedBadly {
    let suspect_source = error.suspects_registry();
    let Failed { code, message, retry_after } = Failed::from(error);
    EndedBadly { code, message, retry_after: retry_after.map(|after| after.as_secs()), suspect_source }
}

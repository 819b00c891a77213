//! Copies one image for the operator.

use std::sync::Arc;

use super::authority::{LeasedAuthority, Leases};
use super::error::WorkerError;
use crate::channel::{
    ChannelClient, EndedItem, Item, ItemError, ItemId, RegistryAccess, RouteAccess, RouteLimits, RouteQuotas,
};
use crate::copy::{ByteCounter, Copied, CopyError, Ends, Engine, ImageCopy};
use crate::plan::CodedError;
use crate::registry::{Client, EgressPolicy};
use crate::terms::FailureCode;

/// Both ends, as this process reaches them.
pub(super) struct Route {
    /// The version of the access.
    pub(super) version: String,
    ends: Ends,
}

impl Route {
    /// Clients of both ends, one if they are the same Registry; they go on with the schedules of an `earlier` route.
    ///
    /// # Errors
    /// [`WorkerError`] if an option cannot be used.
    pub(super) fn new(
        access: RouteAccess,
        egress: &Arc<EgressPolicy>,
        earlier: Option<&Self>,
    ) -> Result<Self, WorkerError> {
        egress.refused.replace(access.refused);
        let client = |access: RegistryAccess, earlier: Option<&Client>| -> Result<Client, WorkerError> {
            let options = access.try_into()?;
            Ok(match earlier {
                Some(earlier) => earlier.successor(options, egress.clone())?,
                None => Client::new(options, egress.clone())?,
            })
        };
        let is_one = access.source == access.destination;
        let source = client(access.source, earlier.map(|earlier| &earlier.ends.source))?;
        let destination = match is_one {
            true => source.clone(),
            false => client(access.destination, earlier.map(|earlier| &earlier.ends.destination))?,
        };
        Ok(Self { version: access.version, ends: Ends { source, destination } })
    }

    /// Keeps to this process's part of the limits.
    pub(super) fn limit(&self, limits: &RouteLimits) {
        self.ends.source.set_limits(limits.source);
        self.ends.destination.set_limits(limits.destination);
    }

    /// Returns what the registries stated about their quotas.
    pub(super) fn quotas(&self) -> RouteQuotas {
        RouteQuotas { source: self.ends.source.pacer().quota(), destination: self.ends.destination.pacer().quota() }
    }
}

/// One image while it is copied.
pub(super) struct ItemCopy {
    pub(super) item: Item,
    pub(super) route: Arc<Route>,
    pub(super) engine: Engine,
    pub(super) leases: Arc<Leases>,
    pub(super) client: ChannelClient,
    pub(super) session: String,
    pub(super) counter: ByteCounter,
}

impl ItemCopy {
    /// Copies the image and reads it back.
    pub(super) async fn run(self) -> EndedItem {
        let Self { item, route, engine, leases, client, session, counter } = self;
        let authority = LeasedAuthority { id: item.id.clone(), leases, client, session };
        let task = ImageCopy::new(&item.image, &route.ends, &authority, &counter);
        let result = engine.copy(&task).await.map(Copied::replica).map_err(item_error);
        let (repository, target, tag) = (&item.image.repository, &item.image.target, &item.image.tag);
        tracing::info!(%repository, %target, %tag, bytes = counter.bytes(), ok = result.is_ok(), "ended");
        EndedItem { id: item.id, result, moved: counter.bytes() }
    }
}

/// Returns the result of an image whose copy panicked.
pub(super) fn panicked(id: ItemId) -> EndedItem {
    let message = "the worker met a fault of its own: see its log".to_owned();
    let error = ItemError { code: FailureCode::WorkerFailed, message, retry_after: None, suspect: None };
    EndedItem { id, result: Err(error), moved: 0 }
}

fn item_error(error: CopyError) -> ItemError {
    let suspect = error.suspect();
    let CodedError { code, message, retry_after, .. } = CodedError::from(error);
    ItemError { code, message, retry_after: retry_after.map(|after| after.as_secs()), suspect }
}

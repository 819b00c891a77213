//! Receives notifications of registries about pushes and deletions, and passes them on as hints.
//!
//! `POST /v1/notify/{namespace}/{registry}`: the sender presents the token of the Registry's `notifications.auth`. An
//! unknown Registry and a wrong token are answered by the same 401. Every authenticated request whose body arrives within
//! its bounds is answered by 202, since a sender blocks its queue on anything else; the answer names what was skipped.
//! A notification is a hint: its URLs are ignored, and its digest only bounds how long the tag is read again, never
//! what is copied. One of a deletion has the repository listed, and deletes nothing by itself.

mod distribution;

use std::sync::Arc;

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use subtle::ConstantTimeEq;

use self::distribution::Notification;
use crate::listener::{Bodies, Caller, discard_stranger};
use crate::metrics::Metrics;
use crate::plan::{FairLimits, NamespacedName, ShareOwner};
use crate::replication::{Access, Configurations, FairSlots};

/// The state of the receiver of notifications.
pub(crate) struct Receiver {
    /// The tokens of senders.
    pub access: Arc<dyn Access>,
    /// The running configurations, which take the hints.
    pub configurations: Arc<Configurations>,
    /// The counter of hints.
    pub metrics: Arc<Metrics>,
}

/// The state of the handler.
#[derive(Clone)]
struct NotifyState {
    receiver: Arc<Receiver>,
    bodies: Bodies,
    /// The slots for matching: it may take seconds, on a thread of its own. One namespace has one.
    slots: FairSlots,
}

/// Returns the routes of the receiver.
pub(crate) fn routes(receiver: Receiver) -> Router {
    let slots = FairSlots::new(FairLimits { shared: 1, reserved: 1 });
    let state = NotifyState { receiver: Arc::new(receiver), bodies: Bodies::new(MAX_BODY_BYTES), slots };
    Router::new().route("/v1/notify/{namespace}/{registry}", post(receive)).with_state(state)
}

async fn receive(
    State(NotifyState { receiver, bodies, slots }): State<NotifyState>,
    Path((namespace, name)): Path<(String, String)>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    body: Body,
) -> (StatusCode, String) {
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let registry = NamespacedName { namespace, name };
    let expected = receiver.access.notification_token(&registry).await.unwrap_or_default();
    let matches = bool::from(presented.unwrap_or_default().ct_eq(&expected));
    if expected.is_empty() || !matches {
        discard_stranger(body).await;
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    if let Some(Extension(caller)) = caller {
        caller.accept(&registry.namespace);
    }
    let body = match bodies.read(&registry.namespace, body).await {
        Ok(body) => body,
        Err(error) => return (error.status(), format!("{error}\n")),
    };
    let NamespacedName { namespace, name: host } = registry.clone();
    let slot = slots.take(ShareOwner { namespace, host, is_urgent: false, priority: 0 }).await;
    let taken = tokio::task::spawn_blocking(move || {
        let answer = receiver.take(&registry, &body);
        drop((body, slot));
        answer
    });
    match taken.await {
        Ok(answer) => (StatusCode::ACCEPTED, answer),
        Err(error) => {
            tracing::error!(%error, "a notification is not taken");
            (StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    }
}

impl Receiver {
    /// Passes the hints of a notification on. Returns the answer to its sender.
    fn take(&self, registry: &NamespacedName, body: &[u8]) -> String {
        let Notification { pushed, deleted_in, skipped, because } = Notification::parse(body);
        let mut answer = format!("{} tags taken\n", pushed.len());
        if !deleted_in.is_empty() {
            answer.push_str(&format!("deletions in {} repositories taken\n", deleted_in.len()));
        }
        let NamespacedName { namespace, name } = registry;
        self.metrics.hints.inc_by((pushed.len() + deleted_in.len()) as u64);
        for (repository, tag, _) in &pushed {
            tracing::debug!(registry = name, namespace, %repository, %tag, "notified");
        }
        self.configurations.hint(registry, pushed);
        self.configurations.hint_deleted(registry, &deleted_in);
        if let Some(because) = because {
            self.metrics.events_skipped.inc_by(skipped as u64);
            tracing::warn!(registry = name, namespace, skipped, %because, "events of a notification are skipped");
            answer.push_str(&format!("{skipped} events skipped: {because}\n"));
        }
        answer
    }
}

const MAX_BODY_BYTES: usize = 1024 * 1024;

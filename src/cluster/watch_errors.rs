//! The one place where errors of watches and controllers are logged and counted, and where retries back off.

use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use futures::{Stream, StreamExt};
use kube::Resource;
use kube::core::DynamicObject;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;

use super::call::CallError;
use super::log_limit::LogLimit;
use super::object_backoff::ObjectBackoff;
use crate::locked::Locked;
use crate::metrics::{ControllerFailure, Metrics};

/// Logs and counts the errors of all watches and controllers; the same error is logged once a minute.
pub(crate) struct WatchErrors {
    metrics: Arc<Metrics>,
    limits: Locked<HashMap<(Cow<'static, str>, ControllerFailure), LogLimit>>,
    backoff: Locked<ObjectBackoff<ObjectRef<DynamicObject>>>,
}

impl WatchErrors {
    /// Counts in `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, limits: Locked::default(), backoff: Locked::default() }
    }

    /// Takes an error of a watch of `K`; the watch starts again by itself.
    pub(crate) fn take<K: Resource<DynamicType = ()>>(&self, error: &watcher::Error) {
        self.log(K::kind(&()), ControllerFailure::Watch, &error.to_string());
    }

    /// Returns when an object whose reconcile failed is reconciled again: after 1 s, doubling to 5 minutes while it
    /// fails.
    pub(crate) fn back_off<K: Resource<DynamicType = ()>>(&self, object: &K) -> Action {
        Action::requeue(self.backoff.lock().fail(ObjectRef::from_obj(object).erase()))
    }

    /// Takes the results of a controller until it ends. `deleted` is called with namespace and name of an object that
    /// was to be reconciled and does not exist any more.
    pub(crate) async fn follow<K: Resource<DynamicType = ()>>(
        &self,
        results: impl Stream<Item = Result<(ObjectRef<K>, Action), Error<CallError, watcher::Error>>>,
        deleted: impl Fn(&str, &str),
    ) {
        let mut results = pin!(results);
        while let Some(result) = results.next().await {
            match result {
                Ok((object, _)) => {
                    self.backoff.lock().reset(&object.erase());
                    self.metrics.reconciled(K::kind(&()));
                }
                Err(Error::ObjectNotFound(object)) => {
                    tracing::debug!(%object, "an object does not exist any more");
                    self.backoff.lock().reset(&object);
                    deleted(object.namespace.as_deref().unwrap_or_default(), &object.name);
                }
                Err(Error::ReconcilerFailed(error, object)) => {
                    self.log(K::kind(&()), ControllerFailure::Reconcile, &format!("{object}: {error}"));
                }
                Err(Error::QueueError(error)) => self.take::<K>(&error),
                Err(Error::RunnerError(error)) => {
                    self.log(K::kind(&()), ControllerFailure::Runner, &error.to_string());
                }
            }
        }
    }

    fn log(&self, kind: Cow<'static, str>, failure: ControllerFailure, error: &str) {
        self.metrics.controller_failed(kind.clone(), failure);
        let error: String = error.chars().take(MAX_ERROR).collect();
        let suppressed = self.limits.lock().entry((kind.clone(), failure)).or_default().admit(&error, Instant::now());
        let Some(suppressed) = suppressed else { return };
        match failure {
            ControllerFailure::Watch => tracing::warn!(%kind, %error, suppressed, "a watch failed and starts again"),
            ControllerFailure::Reconcile => {
                tracing::warn!(%kind, %error, suppressed, "an object could not be reconciled and is tried again");
            }
            ControllerFailure::Runner => tracing::warn!(%kind, %error, suppressed, "a controller failed"),
        }
    }
}

/// Characters of an error that are logged.
const MAX_ERROR: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Registry;

    fn registry(name: &str) -> ObjectRef<Registry> {
        ObjectRef::new(name).within("team-a")
    }

    type Reconciled = Result<(ObjectRef<Registry>, Action), Error<CallError, watcher::Error>>;

    async fn follow(errors: &WatchErrors, results: Vec<Reconciled>) -> Vec<String> {
        let deleted = Locked::new(Vec::new());
        let note = |namespace: &str, name: &str| deleted.lock().push(format!("{namespace}/{name}"));
        errors.follow(futures::stream::iter(results), note).await;
        deleted.into_inner()
    }

    #[tokio::test]
    async fn errors_are_counted_by_kind_and_deleted_objects_are_no_errors() {
        let metrics = Arc::new(Metrics::default());
        let errors = WatchErrors::new(metrics.clone());
        let results = vec![
            Err(Error::QueueError(watcher::Error::NoResourceVersion)),
            Err(Error::QueueError(watcher::Error::NoResourceVersion)),
            Err(Error::ReconcilerFailed(CallError::Deadline, Box::new(registry("r").erase()))),
            Err(Error::ObjectNotFound(Box::new(registry("gone").erase()))),
            Ok((registry("r"), Action::await_change())),
        ];
        assert_eq!(follow(&errors, results).await, ["team-a/gone"]);
        let text = metrics.text();
        for (cause, count) in [("watch", 2), ("reconcile", 1), ("runner", 0)] {
            let line = format!("transship_controller_errors_total{{kind=\"Registry\",cause=\"{cause}\"}} {count}");
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn an_object_backs_off_until_it_is_reconciled() {
        let errors = WatchErrors::new(Arc::default());
        let mut object = Registry::new("r", serde_json::from_value(serde_json::json!({"url": "https://r"})).unwrap());
        object.metadata.namespace = Some("team-a".to_owned());
        let delay = |seconds| Action::requeue(std::time::Duration::from_secs(seconds));
        assert_eq!([errors.back_off(&object), errors.back_off(&object)], [delay(1), delay(2)]);
        follow(&errors, vec![Ok((registry("r"), Action::await_change()))]).await;
        assert_eq!(errors.back_off(&object), delay(1));
    }
}

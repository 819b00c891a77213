//! Heartbeats of watches: each answer of the API server to a request to watch is a sign of life, a refusal too.
//!
//! A watch of objects that do not change has no events. It ends every [`WATCH_SECONDS`], and the next request shows
//! that it goes on. One that is answered no more stands still. Before its first answer it does not count: a process that
//! starts while the API server is away waits for it.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use kube::client::{Body, ClientBuilder};
use kube::runtime::watcher;
use kube::{Client, Config};
use tower::Service;
use tower::layer::layer_fn;

use crate::heartbeats::Heartbeats;

/// Returns a client whose watches beat.
///
/// # Errors
/// If the configuration cannot be used.
pub(crate) fn beating_client(config: Config, heartbeats: &Heartbeats) -> Result<Client, kube::Error> {
    let layer = layer_fn(|inner| WatchBeats { inner, heartbeats: heartbeats.clone() });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// Returns the configuration of a watch that beats.
pub(crate) fn watch_config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

struct WatchBeats<S> {
    inner: S,
    heartbeats: Heartbeats,
}

impl<S, B> Service<Request<Body>> for WatchBeats<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(watch) = watched_resource(request.uri()).map(|resource| format!("watch of {resource}")) else {
            return self.inner.call(request).boxed();
        };
        let heartbeats = self.heartbeats.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            if answer.is_ok() {
                heartbeats.beat(&watch);
            }
            answer
        }
        .boxed()
    }
}

/// Returns the resource that a request watches.
fn watched_resource(uri: &Uri) -> Option<&str> {
    let is_watch = uri.query()?.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    uri.path().trim_end_matches('/').rsplit('/').next().filter(|resource| is_watch && !resource.is_empty())
}

/// The time after which the API server ends a watch, in seconds: half of what makes a watch stand still.
const WATCH_SECONDS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_watch_names_its_resource() {
        // URI; the resource that is watched
        let table = [
            ("/apis/transship.dev/v1alpha1/registries?&watch=true&timeoutSeconds=30", Some("registries")),
            ("/api/v1/namespaces/transship/pods?watch=true", Some("pods")),
            ("/api/v1/namespaces/transship/pods?limit=500", None),
            ("/api/v1/namespaces/transship/pods", None),
            ("/api/v1/namespaces/watch=true", None),
        ];
        for (uri, expected) in table {
            assert_eq!(watched_resource(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}

//! Serves the channel for as long as the operator runs, and renews its certificate.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::certificates::CertificateAuthorities;
use crate::listener;

/// The port of the channel.
pub(crate) struct Endpoint {
    /// The port that is open.
    pub listener: TcpListener,
    /// The host name that workers call: the certificate is issued for it.
    pub host: String,
}

/// Serves `routes` until `shutdown`. `read` returns the authorities, and is called again every hour. Their certificates
/// go to `bundles` once the channel is served: before that no worker is started.
pub(crate) async fn serve_and_renew<F: Future<Output = CertificateAuthorities>>(
    endpoint: Endpoint,
    routes: Router,
    read: impl Fn() -> F,
    bundles: &watch::Sender<String>,
    shutdown: CancellationToken,
) {
    let Endpoint { listener, host } = endpoint;
    let mut authorities = read().await;
    let config = loop {
        match authorities.server_config(&host, Timestamp::now()) {
            Ok(config) => break config,
            Err(error) => tracing::error!(%error, "the workers' channel has no certificate"),
        }
        tokio::time::sleep(RETRY).await;
        authorities = read().await;
    };
    let (configs, config) = watch::channel(Arc::new(config));
    let serving = listener::serve(listener, Some(config), routes, shutdown);
    bundles.send_replace(authorities.bundle());
    let renewing = async {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            let authorities = read().await;
            match authorities.server_config(&host, Timestamp::now()) {
                Ok(config) => drop(configs.send_replace(Arc::new(config))),
                Err(error) => tracing::error!(%error, "the certificate of the workers' channel is not renewed"),
            }
            bundles.send_replace(authorities.bundle());
        }
    };
    tokio::select! {
        () = serving => {}
        () = renewing => {}
    }
}

const RENEW_EVERY: Duration = Duration::from_secs(3_600);
const RETRY: Duration = Duration::from_secs(5);

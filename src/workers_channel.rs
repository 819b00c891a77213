//! Serves the workers' channel for as long as the operator runs: its authorities, its leaf, and their renewal.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::channel::{CertificateAuthorities, routes, serve};
use crate::cluster::channel_authorities;
use crate::config::JobFlags;
use crate::execution::JobControl;

/// Runs until the operator ends. Until the authorities are known no worker is started; they are looked at again every hour.
pub(crate) async fn run(control: Arc<JobControl>, flags: JobFlags) {
    let host = flags.channel_url.as_ref().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
    let mut authorities = read(&control).await;
    let config = loop {
        match authorities.server_config(&host, Timestamp::now()) {
            Ok(config) => break config,
            Err(error) => tracing::error!(%error, "the workers' channel has no certificate"),
        }
        tokio::time::sleep(RETRY).await;
        authorities = read(&control).await;
    };
    let (configs, config) = watch::channel(Arc::new(config));
    let serving = match serve(
        flags.channel_address,
        config,
        routes(control.dispatcher.clone()),
        control.shutdown.clone(),
    )
    .await
    {
        Ok(serving) => serving,
        Err(error) => {
            return tracing::error!(%error, address = %flags.channel_address, "the workers' channel cannot listen");
        }
    };
    control.authorities.send_replace(authorities.bundle());
    let renewing = async {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            let authorities = read(&control).await;
            match authorities.server_config(&host, Timestamp::now()) {
                Ok(config) => drop(configs.send_replace(Arc::new(config))),
                Err(error) => tracing::error!(%error, "the certificate of the workers' channel is not renewed"),
            }
            control.authorities.send_replace(authorities.bundle());
        }
    };
    tokio::select! {
        () = serving => {}
        () = renewing => {}
    }
}

async fn read(control: &JobControl) -> CertificateAuthorities {
    loop {
        match channel_authorities(&control.client, &control.jobs, Timestamp::now()).await {
            Ok(authorities) => return authorities,
            Err(error) => tracing::error!(%error, "the workers' channel waits"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

const RENEW_EVERY: Duration = Duration::from_secs(3_600);
const RETRY: Duration = Duration::from_secs(5);

//! The worker's side of the channel.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{Answer, GrantAnswer, GrantRequest, Report};

/// What a worker's Secret holds.
pub struct ChannelFiles {
    url: String,
    token: SecretString,
    authorities: Vec<u8>,
}

/// Why a call failed. Displays as a sentence, never with the token in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The operator does not know this worker, or not any more.
    #[error("the operator does not know this worker any more")]
    Void,
    /// A newer report was there before.
    #[error("a newer report was there before")]
    Late,
    /// No answer, or none that makes sense.
    #[error("the operator cannot be reached: {0}")]
    Unreachable(String),
}

/// Calls the operator.
#[derive(Clone)]
pub struct ChannelClient {
    http: reqwest::Client,
    url: String,
    token: SecretString,
}

impl ChannelFiles {
    /// Reads the files `url`, `token` and `ca.crt` of `folder`.
    ///
    /// # Errors
    /// Which file cannot be read.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Self {
            url: read("url")?.trim().trim_end_matches('/').to_owned(),
            token: SecretString::from(read("token")?.trim().to_owned()),
            authorities: read("ca.crt")?.into_bytes(),
        })
    }
}

impl ChannelClient {
    /// A client that trusts the authorities of the files and nobody else.
    ///
    /// # Errors
    /// When they are no certificates.
    pub fn new(files: ChannelFiles) -> Result<Self, String> {
        let authorities =
            Certificate::from_pem_bundle(&files.authorities).map_err(|error| format!("ca.crt: {error}"))?;
        let http = reqwest::Client::builder()
            .tls_certs_only(authorities)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(DEADLINE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { http, url: files.url, token: files.token })
    }

    /// Sends a report.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn report(&self, report: &Report) -> Result<Answer, ChannelError> {
        self.call("report", report).await
    }

    /// Asks for a grant.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub async fn grant(&self, request: &GrantRequest) -> Result<GrantAnswer, ChannelError> {
        self.call("grant", request).await
    }

    async fn call<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ChannelError> {
        let unreachable = |error: reqwest::Error| ChannelError::Unreachable(causes(&error.without_url()));
        let request = self.http.post(format!("{}/v1/{path}", self.url)).bearer_auth(self.token.expose_secret());
        let response = request.json(body).send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => response.json().await.map_err(unreachable),
            StatusCode::UNAUTHORIZED => Err(ChannelError::Void),
            StatusCode::CONFLICT => Err(ChannelError::Late),
            status => Err(ChannelError::Unreachable(format!("it answered {status}"))),
        }
    }
}

/// The innermost cause says what is wrong, the outer ones only where.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

const CONNECT: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(6);

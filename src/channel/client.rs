//! The worker's side of the channel: reads the files of its Secret and calls the operator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Certificate, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{GrantAnswer, GrantRequest, Report, ReportAnswer};

/// The content of a worker's Secret.
pub(crate) struct ChannelFiles {
    url: String,
    token: SecretString,
    authorities: Vec<u8>,
}

/// A call that failed. Displays as a sentence, never with the token in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The operator does not know this worker, or not any more.
    #[error("the operator does not know this worker any more")]
    Void,
    /// The operator has taken a newer report before.
    #[error("a newer report was there before")]
    Late,
    /// The operator did not answer, or not as it should.
    #[error("the operator cannot be reached: {0}")]
    Unreachable(String),
}

/// Files of a Secret that make no client.
#[derive(Debug, thiserror::Error)]
pub enum ChannelSetupError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// `ca.crt` has no certificates.
    #[error("ca.crt: {0}")]
    Certificates(reqwest::Error),
    /// The HTTP client cannot be made.
    #[error("{0}")]
    Client(reqwest::Error),
}

/// A client of the operator, for one worker.
#[derive(Clone)]
pub(crate) struct ChannelClient {
    http: reqwest::Client,
    url: String,
    token: SecretString,
}

impl ChannelFiles {
    /// Reads the files `url`, `token` and `ca.crt` of `folder`.
    ///
    /// # Errors
    /// [`ChannelSetupError::File`].
    pub(crate) fn read(folder: &Path) -> Result<Self, ChannelSetupError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|error| ChannelSetupError::File { path, error })
        };
        Ok(Self {
            url: read("url")?.trim().trim_end_matches('/').to_owned(),
            token: SecretString::from(read("token")?.trim().to_owned()),
            authorities: read("ca.crt")?.into_bytes(),
        })
    }
}

impl ChannelClient {
    /// Returns a client that trusts the authorities of the files and no others.
    ///
    /// # Errors
    /// [`ChannelSetupError`] if they are no certificates.
    pub(crate) fn new(files: ChannelFiles) -> Result<Self, ChannelSetupError> {
        let authorities = Certificate::from_pem_bundle(&files.authorities).map_err(ChannelSetupError::Certificates)?;
        let http = reqwest::Client::builder()
            .tls_certs_only(authorities)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(ChannelSetupError::Client)?;
        Ok(Self { http, url: files.url, token: files.token })
    }

    /// Sends a report.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) async fn report(&self, report: &Report) -> Result<ReportAnswer, ChannelError> {
        self.call("report", report).await
    }

    /// Asks for a grant.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub(crate) async fn grant(&self, request: &GrantRequest) -> Result<GrantAnswer, ChannelError> {
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

/// Returns all causes: the outer ones name the step that failed, the innermost one the reason.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const CALL_TIMEOUT: Duration = Duration::from_secs(6);

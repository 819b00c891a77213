//! Calls to the API server, each with a deadline.

use std::time::Duration;

/// The field manager of every write.
pub(crate) const FIELD_MANAGER: &str = "transship";

/// The deadline of one call to the API server: kube itself sets none for responses.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Runs one call to the API server under [`CALL_DEADLINE`].
///
/// # Errors
/// The error of the call, or [`CallError::Deadline`].
pub(crate) async fn call<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(result) => result.map_err(CallError::from),
        Err(_) => Err(CallError::Deadline),
    }
}

/// The failure of a call to the API server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No response within [`CALL_DEADLINE`].
    #[error("the API server did not answer within {} s", CALL_DEADLINE.as_secs())]
    Deadline,
    /// An error response, or no connection.
    #[error("{0}")]
    Kube(Box<kube::Error>),
}

impl CallError {
    /// Returns true if the object does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status_code() == Some(404)
    }

    /// Returns true if the object was written or created by another client meanwhile.
    pub(crate) fn is_conflict(&self) -> bool {
        self.status_code() == Some(409)
    }

    /// Returns true if the operator may not read the object.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status_code() == Some(403)
    }

    fn status_code(&self) -> Option<u16> {
        match self {
            Self::Kube(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Deadline => None,
        }
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

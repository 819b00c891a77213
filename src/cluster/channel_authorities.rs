//! The Secret with the certificate authorities of the workers' channel.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::call::{CallError, call};
use super::jobs::CopyJobs;
use crate::channel::{CertificateAuthorities, CertificateError};

/// The failure to read or renew the authorities. Messages name the Secret, never its content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelAuthoritiesError {
    /// The Secret cannot be read.
    #[error("Secret {0}/{NAME} cannot be read: {1}")]
    Unreadable(String, CallError),
    /// The Secret holds something else.
    #[error("Secret {0}/{NAME}: {1}; delete it to have it made anew")]
    Invalid(String, CertificateError),
    /// No new authority can be made.
    #[error(transparent)]
    NotRenewed(#[from] CertificateError),
    /// The ServiceAccount of the workers, which owns the Secret, cannot be read.
    #[error("the workers' ServiceAccount: {0}")]
    NoOwner(CallError),
    /// The Secret cannot be written.
    #[error("Secret {0}/{NAME} cannot be written: {1}")]
    Unwritable(String, CallError),
    /// Every attempt met a concurrent write.
    #[error("Secret {0}/{NAME} is being written by others all the time")]
    Contended(String),
}

/// Returns the authorities of the namespace of `jobs`, and makes them first where they are absent or a new one is due.
/// Of several operators that write at the same time one succeeds, and all use its authorities.
///
/// # Errors
/// [`ChannelAuthoritiesError`] if the Secret cannot be read or written, or does not hold authorities.
pub(crate) async fn channel_authorities(
    client: &Client,
    jobs: &CopyJobs,
    now: Timestamp,
) -> Result<CertificateAuthorities, ChannelAuthoritiesError> {
    use ChannelAuthoritiesError::{Contended, Invalid, Unreadable, Unwritable};
    let namespace = || jobs.namespace().to_owned();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), jobs.namespace());
    for _ in 0..MAX_ATTEMPTS {
        let present = match call(secrets.get(NAME)).await {
            Ok(secret) => Some(secret),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(Unreadable(namespace(), error)),
        };
        let stored = present.as_ref().and_then(|secret| secret.data.as_ref()?.get(KEY));
        let authorities = stored.map(|stored| CertificateAuthorities::read(&stored.0)).transpose();
        let authorities = authorities.map_err(|error| Invalid(namespace(), error))?.unwrap_or_default();
        let Some(renewed) = authorities.renewed(now)? else { return Ok(authorities) };
        let mut secret = match present.clone() {
            Some(secret) => secret,
            None => new_secret(jobs).await?,
        };
        secret.data.get_or_insert_default().insert(KEY.to_owned(), ByteString(renewed.stored()));
        // With the version that was read, so that a concurrent write is not overwritten.
        let written = match present {
            Some(_) => call(secrets.replace(NAME, &PostParams::default(), &secret)).await,
            None => call(secrets.create(&PostParams::default(), &secret)).await,
        };
        match written {
            Ok(_) => return Ok(renewed),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(Unwritable(namespace(), error)),
        }
    }
    Err(Contended(namespace()))
}

/// Returns an empty Secret that belongs to the ServiceAccount of the workers.
async fn new_secret(jobs: &CopyJobs) -> Result<Secret, ChannelAuthoritiesError> {
    let owner = jobs.owner().await.map_err(ChannelAuthoritiesError::NoOwner)?;
    let (name, owner_references) = (Some(NAME.to_owned()), Some(vec![owner]));
    Ok(Secret { metadata: ObjectMeta { name, owner_references, ..ObjectMeta::default() }, ..Secret::default() })
}

const NAME: &str = "transship-channel-authorities";
const KEY: &str = "authorities.json";
const MAX_ATTEMPTS: usize = 5;

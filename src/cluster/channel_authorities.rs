//! The Secret with the authorities of the workers' channel.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::{CallError, CopyJobs, call};
use crate::channel::CertificateAuthorities;

/// Reads the authorities of the namespace of `jobs`, and writes them first where none are there or a new one is due. Of
/// several operators that do so at once one wins, and all use what it wrote.
///
/// # Errors
/// A sentence.
pub async fn channel_authorities(
    client: &Client,
    jobs: &CopyJobs,
    now: Timestamp,
) -> Result<CertificateAuthorities, String> {
    let namespace = jobs.namespace();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for _ in 0..ATTEMPTS {
        let present = match call(secrets.get(NAME)).await {
            Ok(secret) => Some(secret),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(format!("Secret {namespace}/{NAME} cannot be read: {error}")),
        };
        let stored = present.as_ref().and_then(|secret| secret.data.as_ref()?.get(KEY));
        let authorities = match stored {
            Some(stored) => CertificateAuthorities::read(&stored.0)
                .map_err(|error| format!("Secret {namespace}/{NAME}: {error}; delete it to have it made anew"))?,
            None => CertificateAuthorities::default(),
        };
        let Some(renewed) = authorities.renewed(now).map_err(|error| error.to_string())? else {
            return Ok(authorities);
        };
        let mut secret = match present.clone() {
            Some(secret) => secret,
            None => {
                let owner = jobs.owner().await.map_err(|error| format!("the workers' ServiceAccount: {error}"))?;
                let (name, owner_references) = (Some(NAME.to_owned()), Some(vec![owner]));
                Secret { metadata: ObjectMeta { name, owner_references, ..ObjectMeta::default() }, ..Secret::default() }
            }
        };
        secret.data.get_or_insert_default().insert(KEY.to_owned(), ByteString(renewed.stored()));
        // With the version that was read, so that a rival's write is not overwritten.
        let written = match present {
            Some(_) => call(secrets.replace(NAME, &PostParams::default(), &secret)).await,
            None => call(secrets.create(&PostParams::default(), &secret)).await,
        };
        match written {
            Ok(_) => return Ok(renewed),
            Err(CallError::Kube(error)) if matches!(error.as_ref(), kube::Error::Api(status) if status.code == 409) => {
            }
            Err(error) => return Err(format!("Secret {namespace}/{NAME} cannot be written: {error}")),
        }
    }
    Err(format!("Secret {namespace}/{NAME} is being written by others all the time"))
}

const NAME: &str = "transship-channel-authorities";
const KEY: &str = "authorities.json";
const ATTEMPTS: usize = 5;

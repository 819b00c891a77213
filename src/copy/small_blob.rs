//! Reads a small blob as a whole.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use crate::image::{Descriptor, RepositoryName};
use crate::registry::{Client, RegistryError};

/// Reads a blob into memory; the caller bounds its size.
///
/// # Errors
/// As [`Client::blob`].
pub(super) async fn read_whole(
    client: &Client,
    repository: &RepositoryName,
    blob: &Descriptor,
) -> Result<Bytes, RegistryError> {
    let pieces = client.blob(repository, blob).await?;
    let whole = pieces.try_fold(BytesMut::new(), |mut whole, piece| async move {
        whole.extend_from_slice(&piece);
        Ok::<_, RegistryError>(whole)
    });
    Ok(whole.await?.freeze())
}

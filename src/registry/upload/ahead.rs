//! Opens a source while a request to the registry is under way.

use std::pin::pin;
use std::time::Duration;

use futures::future::{join, maybe_done};
use tokio::time::timeout;

use crate::registry::content::blobs::BlobStream;
use crate::registry::error::RegistryError;

/// The result of opening a source.
pub(super) type OpenResult = Result<BlobStream, RegistryError>;

/// Awaits `request`, and `open` as well if both are done within [`MAX_WAIT`]: an open source holds a permit that others
/// need too.
pub(super) async fn open_while<T>(
    request: impl Future<Output = T>,
    open: impl Future<Output = OpenResult>,
) -> (T, Option<OpenResult>) {
    within(MAX_WAIT, request, open).await
}

async fn within<T>(
    longest: Duration,
    request: impl Future<Output = T>,
    open: impl Future<Output = OpenResult>,
) -> (T, Option<OpenResult>) {
    let (mut request, mut open) = (pin!(maybe_done(request)), Box::pin(maybe_done(open)));
    let opened = match timeout(longest, join(request.as_mut(), open.as_mut())).await {
        Ok(_) => open.as_mut().take_output(),
        Err(_) => None,
    };
    drop(open);
    request.as_mut().await;
    (request.take_output().expect("it has just been waited for"), opened)
}

const MAX_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tokio::time::sleep;

    use super::*;

    async fn soon<T>(what: T) -> T {
        sleep(Duration::from_millis(1)).await;
        what
    }

    async fn late<T>(what: T) -> T {
        sleep(Duration::from_millis(100)).await;
        what
    }

    fn stream() -> OpenResult {
        Ok(futures::stream::empty().boxed())
    }

    #[tokio::test]
    async fn both_are_waited_for_while_neither_takes_long() {
        let (asked, opened) = open_while(soon("yes"), late(stream())).await;
        assert_eq!((asked, opened.is_some()), ("yes", true));
    }

    #[tokio::test]
    async fn a_source_is_not_kept_open_for_a_registry_that_takes_long() {
        let (asked, opened) = within(Duration::from_millis(20), late("yes"), soon(stream())).await;
        assert_eq!((asked, opened.is_some()), ("yes", false));
    }

    #[tokio::test]
    async fn a_source_that_takes_long_is_not_waited_for() {
        let (asked, opened) = within(Duration::from_millis(20), soon("no"), std::future::pending()).await;
        assert_eq!((asked, opened.is_some()), ("no", false));
    }
}

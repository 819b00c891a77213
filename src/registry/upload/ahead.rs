//! Opens a source while the registry is still asked whether it takes the bytes.

use std::pin::pin;
use std::time::Duration;

use crate::registry::client::BlobStream;
use crate::registry::error::RegistryError;
use futures::future::{join, maybe_done};
use tokio::time::timeout;

/// What comes of opening a source.
pub(super) type OpenResult = Result<BlobStream, RegistryError>;

/// What comes of `asked`, and of `open` where neither takes long: what is open holds a place at the source that others need too.
pub(super) async fn meanwhile<T>(
    asked: impl Future<Output = T>,
    open: impl Future<Output = OpenResult>,
) -> (T, Option<OpenResult>) {
    within(MAX_WAIT, asked, open).await
}

async fn within<T>(
    longest: Duration,
    asked: impl Future<Output = T>,
    open: impl Future<Output = OpenResult>,
) -> (T, Option<OpenResult>) {
    let (mut asked, mut open) = (pin!(maybe_done(asked)), Box::pin(maybe_done(open)));
    let opened = match timeout(longest, join(asked.as_mut(), open.as_mut())).await {
        Ok(_) => open.as_mut().take_output(),
        Err(_) => None,
    };
    drop(open);
    asked.as_mut().await;
    (asked.take_output().expect("it has just been waited for"), opened)
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
        let (asked, opened) = meanwhile(soon("yes"), late(stream())).await;
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

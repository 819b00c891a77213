//! Recognizes a web page that a registry, or a proxy in front of it, sends in place of a blob.

use bytes::Bytes;

use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::advice::unexpected;
use crate::registry::http::said::web_page;

/// Returns the error for a web page in place of a blob; `None` if `beginning` is not that of one.
pub(super) fn page_error(beginning: &[u8], operation: &Operation) -> Option<RegistryError> {
    web_page(beginning)?;
    let detail = format!("this is not the blob: the registry {}", unexpected(beginning, ""));
    Some(operation.error(ErrorKind::InvalidContent, detail))
}

/// Returns a copy of the beginning of a blob if its first character is that of a tag; else nothing.
pub(super) fn beginning_of_page(piece: &[u8]) -> Bytes {
    let text = piece.strip_prefix(b"\xef\xbb\xbf").unwrap_or(piece).trim_ascii_start();
    if text.starts_with(b"<") { Bytes::copy_from_slice(&piece[..piece.len().min(MAX_BEGINNING)]) } else { Bytes::new() }
}

/// The bytes of a blob in which the title of a web page is looked for.
pub(super) const MAX_BEGINNING: usize = 4 * 1024;

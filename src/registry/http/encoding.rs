//! Decodes bodies that come compressed, although only `identity` is asked for.
//!
//! Blobs are never decoded: their digests are those of the bytes as they come.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, HeaderMap};

use crate::registry::error::{ErrorKind, HttpError};

/// Returns `body` without its gzip encoding, if the headers state one and it begins like one: some registries state an
/// encoding that they do not apply.
///
/// # Errors
/// `TooLarge` over `limit` bytes; `InvalidContent` for an encoding that is broken or not known.
pub(super) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, HttpError> {
    match encoding(headers, &body) {
        Encoding::Identity => Ok(body),
        Encoding::Gzip => match gunzip(&body, limit) {
            (decoded, true) if decoded.len() <= limit => Ok(decoded.into()),
            (decoded, _) if decoded.len() > limit => Err(HttpError::new(
                ErrorKind::TooLarge,
                format!("the answer is over {limit} bytes once it is unpacked"),
            )),
            _ => Err(HttpError::invalid("the answer is compressed with gzip, and broken")),
        },
        Encoding::Unknown(name) => Err(HttpError::invalid(format!(
            "the answer is compressed with {name}, although only identity was asked for: switch compression off in the \
             proxy in front of the registry"
        ))),
    }
}

/// Like [`decoded`], for a body of which any part is of use; never fails.
pub(super) fn decoded_beginning(headers: &HeaderMap, body: Bytes, limit: usize) -> Bytes {
    match encoding(headers, &body) {
        Encoding::Identity => body,
        Encoding::Gzip => Bytes::from(gunzip(&body, limit).0),
        Encoding::Unknown(_) => Bytes::new(),
    }
}

enum Encoding {
    Identity,
    Gzip,
    Unknown(&'static str),
}

fn encoding(headers: &HeaderMap, body: &[u8]) -> Encoding {
    let is = |name: &str| {
        let stated = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        stated.flat_map(|text| text.split(',')).any(|one| one.trim().eq_ignore_ascii_case(name))
    };
    if (is("gzip") || is("x-gzip")) && body.starts_with(GZIP) {
        return Encoding::Gzip;
    }
    let is_text = body.first().is_none_or(|first| first.is_ascii_graphic() || first.is_ascii_whitespace());
    let found = UNKNOWN.into_iter().find(|name| !is_text && is(name));
    found.map_or(Encoding::Identity, Encoding::Unknown)
}

/// Unpacks `body` up to one byte more than `limit`; true if it is sound as far as that.
fn gunzip(body: &[u8], limit: usize) -> (Vec<u8>, bool) {
    let mut decoded = Vec::new();
    let result = MultiGzDecoder::new(body).take(limit as u64 + 1).read_to_end(&mut decoded);
    (decoded, result.is_ok())
}

/// The first bytes of every gzip file (RFC 1952, 2.3.1), with the only method that there is.
const GZIP: &[u8] = &[0x1f, 0x8b, 8];

const UNKNOWN: [&str; 4] = ["br", "zstd", "deflate", "compress"];

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http::HeaderValue;

    use super::*;

    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    fn gzip(content: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn a_compressed_answer_is_unpacked_within_its_bound() {
        let content = br#"{"tags":["v1"]}"#;
        let packed = gzip(content);
        let unpacked = |encoding, body: &Bytes, limit| decoded(&headers(encoding), body.clone(), limit);
        for encoding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
            assert_eq!(unpacked(encoding, &packed, 100).unwrap(), content.as_slice(), "{encoding}");
        }
        let plain = Bytes::from_static(content);
        assert_eq!(unpacked("gzip", &plain, 100).unwrap(), plain, "it is only said to be packed");
        assert_eq!(unpacked("br", &plain, 100).unwrap(), plain);
        assert_eq!(decoded(&HeaderMap::new(), packed.clone(), 100).unwrap(), packed, "it is not said to be packed");
        assert_eq!(unpacked("gzip", &packed, 5).unwrap_err().kind, ErrorKind::TooLarge);
        let bomb = gzip(&vec![0; 10_000_000]);
        assert_eq!(unpacked("gzip", &bomb, 1_000_000).unwrap_err().kind, ErrorKind::TooLarge);
        assert_eq!(decoded_beginning(&headers("gzip"), bomb, 1_000).len(), 1_001);
        let cut = packed.slice(..packed.len() - 9);
        assert_eq!(unpacked("gzip", &cut, 100).unwrap_err().kind, ErrorKind::InvalidContent);
        let unknown = unpacked("br", &Bytes::from_static(&[0x8b, 7]), 100).unwrap_err();
        assert!(unknown.kind == ErrorKind::InvalidContent && unknown.detail.contains("with br"), "{unknown:?}");
    }
}

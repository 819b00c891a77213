//! Places in a cycle: what many things do at the same interval is spread over it.

use crate::image::Digest;

/// Maps a name to a number from 0 to 1, the same at each start.
pub(super) fn phase(name: &str) -> f64 {
    let hash = Digest::sha256(name.as_bytes());
    let part = u32::from_str_radix(&hash.encoded()[..8], 16).unwrap_or(0);
    f64::from(part) / f64::from(u32::MAX)
}

//! The time in which the ledger of a pair knows less than its last status showed.

use std::time::Duration;

use jiff::Timestamp;

/// The ledger has only the images that the last status had room for.
#[derive(Debug)]
pub(super) struct Short {
    /// Images that the status showed.
    pub(super) images: u64,
    /// True once a comparison has shown every image, though not all of them are verified.
    pub(super) is_known: bool,
    /// The status is published from then on in any case; `None` before every image was observed.
    pub(super) until: Option<Timestamp>,
}

/// Reading back what is at a destination takes less.
pub(super) const MAX_SHORT: Duration = Duration::from_secs(900);

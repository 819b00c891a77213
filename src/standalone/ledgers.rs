//! What earlier syncs verified, and what this one adds to it, by route.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::planning::{PlannedImage, Route};
use super::state::{Record, State, Verified};
use crate::plan::Replica;

/// The records of all routes that were looked at; read while it is planned, added to while it is copied.
pub(super) struct Ledgers<'a> {
    state: &'a State,
    by_route: Mutex<HashMap<Arc<Route>, Ledger>>,
}

struct Ledger {
    record: Record,
    unsaved: usize,
}

impl<'a> Ledgers<'a> {
    /// Records that are kept in `state`.
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, by_route: Mutex::default() }
    }

    /// Reads what is remembered of a route of the configuration `name` between `ends`.
    pub(super) fn open(&self, route: &Arc<Route>, name: &str, (source, destination): (&str, &str)) {
        let record = self.state.load(name, (source, destination), &route.options);
        self.lock().insert(route.clone(), Ledger { record, unsaved: 0 });
    }

    /// What `look` sees in the record of a route that was opened.
    pub(super) fn with<T>(&self, route: &Arc<Route>, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock()[route].record)
    }

    /// Adds an image that was verified. Now and then that is saved, at the latest in [`Ledgers::close`].
    pub(super) fn remember(&self, image: &PlannedImage, Replica { bytes, destination_digest }: Replica) {
        let mut ledgers = self.lock();
        let Some(ledger) = ledgers.get_mut(&image.route) else { return };
        let verified = Verified {
            digest: image.digest.to_string(),
            destination_digest,
            bytes,
            completed_at: Timestamp::now(),
            referred: image.referred.clone(),
        };
        ledger.record.images.insert(image.tag.to_string(), verified);
        ledger.unsaved += 1;
        // A record is saved whole: the larger it is, the more there has to be new.
        if ledger.unsaved >= SAVE_EVERY.max(ledger.record.images.len() / 8) {
            ledger.save(self.state);
        }
    }

    /// Saves everything. Of the routes `asked` the source was asked for all that refers to their images.
    pub(super) fn close(self, asked: &HashSet<Arc<Route>>) {
        for (route, ledger) in self.lock().iter_mut() {
            // What was copied for the first time was asked for by its copy.
            let is_first = ledger.record.referrers_asked_at.is_none() && !ledger.record.images.is_empty();
            if asked.contains(route) || is_first {
                ledger.record.referrers_asked_at = Some(Timestamp::now());
                ledger.unsaved += 1;
            }
            ledger.save(self.state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<Route>, Ledger>> {
        self.by_route.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Saves what is new. What cannot be saved is looked at again the next time, so that is no failure of the images.
    fn save(&mut self, state: &State) {
        if self.unsaved > 0 {
            self.unsaved = 0;
            if let Err(error) = state.save(&self.record) {
                eprintln!("transship: {error}");
            }
        }
    }
}

const SAVE_EVERY: usize = 32;

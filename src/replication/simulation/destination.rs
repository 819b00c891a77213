//! The model of a destination registry: its tags, its outages, and the consent of its owner.

use std::collections::HashMap;

use super::names::{Content, Millis};
use crate::policy::Decision;
use crate::terms::reason;

/// A destination registry.
#[derive(Debug)]
pub(super) struct Destination {
    /// By repository and tag.
    pub tags: HashMap<(usize, usize), Content>,
    /// The configurations that deleted tags, by repository and tag.
    pub deleted_by: HashMap<(usize, usize), usize>,
    /// It never answers.
    pub is_dead: bool,
    /// It does not answer until then.
    pub down_until: Millis,
    /// Until then answers are often lost, and writes take effect late.
    pub slow_until: Millis,
    /// The owner allows replication.
    pub is_allowed: bool,
    /// The owner allows deletions where replication is allowed.
    pub may_delete: bool,
    /// The configuration that the owner denies it all the same.
    pub denied: Option<usize>,
    /// The configuration whose credentials the registry refuses.
    pub refused: Option<usize>,
    /// The number in the uid of its Registry; `None` while there is none.
    pub uid: Option<u32>,
    pub last_uid: u32,
}

impl Destination {
    pub(super) fn new() -> Self {
        Self {
            tags: HashMap::new(),
            deleted_by: HashMap::new(),
            is_dead: false,
            down_until: 0,
            slow_until: 0,
            is_allowed: true,
            may_delete: true,
            denied: None,
            refused: None,
            uid: Some(0),
            last_uid: 0,
        }
    }

    pub(super) fn answers(&self, now: Millis) -> bool {
        !self.is_dead && now >= self.down_until
    }

    pub(super) fn is_slow(&self, now: Millis) -> bool {
        now < self.slow_until
    }

    /// Returns true if the owner allows the configuration to replicate.
    pub(super) fn allows(&self, configuration: usize) -> bool {
        self.is_allowed && self.denied != Some(configuration)
    }

    /// Returns true if the owner allows the configuration to delete.
    pub(super) fn lets_delete(&self, configuration: usize) -> bool {
        self.allows(configuration) && self.may_delete
    }

    pub(super) fn decide(&self, configuration: usize) -> Decision {
        let allowed = self.allows(configuration);
        let (reason, message) = if allowed {
            (reason::STATEMENT_ALLOWS, "allowed by statement Allow of RegistryPermissionPolicy consent")
        } else {
            (reason::NO_STATEMENT_ALLOWS, "no statement allows it")
        };
        Decision { allowed, reason, message: message.to_owned() }
    }
}

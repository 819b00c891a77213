//! The state that the two origins of a registry share.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::faults::Faults;
use super::log::Log;
use super::personality::Personality;
use super::store::RegistryStore;
use super::tokens::Tokens;

/// The state of a registry, which its two origins share.
pub(super) struct RegistryState {
    pub(super) personality: Mutex<Arc<Personality>>,
    store: Mutex<RegistryStore>,
    pub(super) log: Arc<Log>,
    pub(super) faults: Faults,
    pub(super) tokens: Tokens,
    /// Connections that both origins have taken.
    pub(super) accepted: Arc<AtomicUsize>,
    origins: OnceLock<(SocketAddr, SocketAddr)>,
}

/// An origin of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Registry,
    Other,
}

impl RegistryState {
    pub(super) fn new(personality: Personality) -> Self {
        Self {
            personality: Mutex::new(Arc::new(personality)),
            store: Mutex::default(),
            log: Arc::default(),
            faults: Faults::default(),
            tokens: Tokens::default(),
            accepted: Arc::default(),
            origins: OnceLock::new(),
        }
    }

    pub(super) fn set_origins(&self, own: SocketAddr, other: SocketAddr) {
        self.origins.set((own, other)).expect("origins are set once");
    }

    pub(super) fn store(&self) -> MutexGuard<'_, RegistryStore> {
        self.store.lock().expect("no holder panics")
    }

    /// Returns the address of an origin.
    pub(super) fn origin(&self, role: Role) -> SocketAddr {
        let (own, other) = *self.origins.get().expect("origins that are asked have started");
        if role == Role::Registry { own } else { other }
    }
}

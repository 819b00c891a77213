//! Remembers which vendor APIs of a registry are of use.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::locked::Locked;
use crate::registry::error::RegistryError;

/// A call whose usefulness is remembered.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum ApiCall {
    EcrImages,
    EcrLayers,
    HarborProject(String),
}

/// The usefulness of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Unknown,
    Useful,
    Useless,
}

/// The verdicts on the calls of one registry, each with its end.
#[derive(Default)]
pub(super) struct ApiVerdicts(Locked<HashMap<ApiCall, (Verdict, Instant)>>);

impl ApiVerdicts {
    pub(super) fn get(&self, call: &ApiCall) -> Verdict {
        let known = self.0.lock();
        let valid = known.get(call).filter(|(_, until)| *until > Instant::now());
        valid.map_or(Verdict::Unknown, |(verdict, _)| *verdict)
    }

    /// Remembers that `call` is of use, for an hour.
    pub(super) fn works(&self, call: ApiCall) {
        self.set(call, Verdict::Useful, TTL);
    }

    /// Remembers that `call` is of no use: for an hour, or a minute if the error may pass.
    pub(super) fn failed(&self, call: ApiCall, error: &RegistryError) {
        self.set(call, Verdict::Useless, if error.kind.is_transient() { TRANSIENT_TTL } else { TTL });
    }

    fn set(&self, call: ApiCall, verdict: Verdict, ttl: Duration) {
        let mut known = self.0.lock();
        if known.len() >= MAX_CALLS && !known.contains_key(&call) {
            known.clear();
        }
        known.insert(call, (verdict, Instant::now() + ttl));
    }
}

const TTL: Duration = Duration::from_secs(3600);
const TRANSIENT_TTL: Duration = Duration::from_secs(60);

/// The verdicts that are remembered at once.
const MAX_CALLS: usize = 4096;

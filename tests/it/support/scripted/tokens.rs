//! Bearer tokens of a registry, and the grants of each.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The tokens that were given.
#[derive(Default)]
pub(super) struct Tokens {
    given: Mutex<HashMap<String, GivenToken>>,
    count: AtomicUsize,
}

struct GivenToken {
    /// `repository:<name>:<action>` one by one, and `registry:catalog:*`.
    grants: Vec<String>,
    until: Instant,
}

impl Tokens {
    pub(super) fn given(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(super) fn expire(&self) {
        self.given.lock().expect("no holder panics").clear();
    }

    /// Returns true if the token is good, and has the grant; an empty one is had by all.
    pub(super) fn has(&self, token: Option<&str>, grant: &str) -> bool {
        let given = self.given.lock().expect("no holder panics");
        let token = token.and_then(|token| given.get(token)).filter(|token| token.until > Instant::now());
        token.is_some_and(|token| grant.is_empty() || token.grants.iter().any(|found| found == grant))
    }

    /// Returns true if a token was given and is still good.
    pub(super) fn is_given(&self, token: &str) -> bool {
        let given = self.given.lock().expect("no holder panics");
        given.get(token).is_some_and(|token| token.until > Instant::now())
    }

    pub(super) fn give(&self, grants: Vec<String>, life: Duration) -> String {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let name = format!("token-{number}");
        let until = Instant::now() + life;
        self.given.lock().expect("no holder panics").insert(name.clone(), GivenToken { grants, until });
        name
    }
}

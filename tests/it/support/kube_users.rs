//! The users of the test API server, so that each request has a user of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

/// The number of operators and of tenants.
const OPERATORS: usize = 512;
const TENANTS: usize = 16;

/// May do everything; the user of the tests themselves.
pub const ADMIN: &str = "admin";

/// Returns the name of an operator that no other test of this run is given. It may do everything, as the user in its
/// own name.
pub fn claim_operator() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    claim("operator", &NEXT, OPERATORS)
}

/// Returns the name of a user that no other test of this run is given, and that may do nothing until a test grants it
/// something.
pub fn claim_tenant() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    claim("tenant", &NEXT, TENANTS)
}

fn claim(kind: &str, next: &AtomicUsize, limit: usize) -> String {
    let number = next.fetch_add(1, Ordering::Relaxed);
    assert!(number <= limit, "all {limit} users of the kind {kind} are in use: raise the limit in kube_users.rs");
    format!("{kind}-{number}")
}

/// Returns the content of the server's token file.
pub(super) fn token_file() -> String {
    let mut lines = vec![line(ADMIN, "system:masters")];
    lines.extend((1..=OPERATORS).map(|number| line(&format!("operator-{number}"), "system:masters")));
    lines.extend((1..=TENANTS).map(|number| line(&format!("tenant-{number}"), "tenants")));
    lines.join("\n")
}

fn line(user: &str, group: &str) -> String {
    format!("{},{user},{user},{group}", token(user))
}

fn token(user: &str) -> String {
    format!("token-of-{user}")
}

/// Returns a kubeconfig for one user. JSON is YAML, too.
pub(super) fn kubeconfig(server: &str, authority_pem_base64: &str, user: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": {
            "server": server, "certificate-authority-data": authority_pem_base64,
        } }],
        "users": [{ "name": user, "user": { "token": token(user) } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": user } }],
        "current-context": "test",
    })
    .to_string()
}

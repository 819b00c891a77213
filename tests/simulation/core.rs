//! The replication core with its simulation, and nothing of the program that does I/O.

#![cfg(test)]
#![allow(dead_code, unused_imports, reason = "the program uses the rest")]
#![allow(clippy::enum_variant_names, clippy::unwrap_used, reason = "names of the API, and tests")]

#[path = "../../src/image/mod.rs"]
mod image;
#[path = "../../src/plan/mod.rs"]
mod plan;
#[path = "../../src/policy/mod.rs"]
mod policy;
#[path = "../../src/terms/mod.rs"]
mod terms;

#[path = "../../src/replication"]
mod replication {
    pub(crate) mod machine;
    mod simulation;
}

//! The client and the engine against every registry there is, as far as its differences are known: played by the
//! scripted registry, which is itself held to the conformance suite of the OCI.

mod batches;
pub mod caches;
mod conformance;
mod coverage;
mod deceptive_heads;
mod deletions;
mod digest_lists;
mod lists;
mod logins;
mod matrix;
mod must_hold;
mod odd_answers;
pub mod pair;
mod reading;
mod referring;
mod templates;
mod transfers;
mod writing;

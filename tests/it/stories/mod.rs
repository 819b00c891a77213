//! Stories of the operator, run against a real API server and real registries.

mod consent;
mod core;
mod dead_watch;
mod execution;
mod hints;
pub mod kinds;
mod kubectl;
mod late_writes;
mod node;
mod node_alone;
mod node_latency;
mod node_losses;
mod node_pending;
mod node_rights;
mod operator;
mod platforms;
mod progress;
mod pushes;
mod quiet;
mod referrers;
mod restarts;
mod scale;
pub mod scene;
mod tag_filters;
mod troubles;
mod two_destinations;
mod two_operators;

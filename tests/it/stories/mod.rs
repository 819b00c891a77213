//! Stories that people tell of the operator, run against a real API server and real registries.

mod consent;
mod hints;
mod kinds;
mod quiet;
mod scale;
mod scene;
mod troubles;

//! The integration tests: one binary, so that it is linked once and one API server serves all of them.

mod ground;
mod stories;
mod support;

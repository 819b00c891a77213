//! The integration tests: one binary, so that it is linked once and one API server serves all of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod architecture;
mod bad_manifests;
mod bad_tags;
mod chart;
mod conflicts;
mod copy_images;
mod copy_properties;
mod crash;
mod deletions;
mod generated;
mod ground;
mod health;
mod hostile;
mod logins;
mod measured;
mod monitoring;
mod names;
mod newest;
mod one_at_a_time;
mod platforms;
mod quotas;
mod referrers;
mod registries;
mod scale;
mod serve;
mod set_ups;
mod sides;
mod signed_only;
mod standalone;
mod stories;
mod support;
mod tag_filters;
mod taken;
mod tee;

//! The ground the integration tests stand on: a real API server, real registries, real tools, and what feeds and breaks
//! them.
#![allow(dead_code, reason = "each part serves some tests, and tests come and go")]

pub mod background;
pub mod chaos;
pub mod control_plane;
pub mod copy_errors;
pub mod cosign;
pub mod eventually;
pub mod fixtures;
pub mod gate;
pub mod image;
pub mod kube_users;
pub mod link;
pub mod memory;
pub mod pages;
pub mod process;
pub mod proxy;
pub mod pusher;
pub mod refusing_proxy;
pub mod registry;
pub mod registry_config;
pub mod requests;
pub mod round_trips;
pub mod run_folder;
pub mod scripted;
pub mod stage;
pub mod tls;
pub mod token_server;
pub mod tools;
pub mod turns;

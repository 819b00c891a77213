//! Transship replicates container images between OCI registries under Kubernetes control.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod channel;
pub mod cluster;
pub mod config;
pub mod controllers;
pub mod copy;
pub mod execution;
pub mod image;
pub mod metrics;
pub mod notify;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod registry;
pub mod replication;
pub mod standalone;
pub mod telemetry;
pub mod terms;
pub mod worker;
mod workers_channel;

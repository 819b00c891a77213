//! Transship replicates container images between OCI registries, by an operator on Kubernetes or by one process without
//! a cluster.
//!
//! # Rooms
//!
//! A module of the crate is a room. A room imports only from rooms above it in this list, and a test keeps it so
//! (`tests/it/architecture.rs`).
//!
//! | Room | Responsibility |
//! |---|---|
//! | [`terms`], [`image`] | The vocabulary as plain data: specs, statuses, failure codes; digests, names, manifests |
//! | [`api`] | The custom resources of `transship.dev`, made of that vocabulary |
//! | `policy`, [`plan`] | Every decision as a pure function: selection, backoff, reports, permission |
//! | [`registry`] | The distribution API to one registry, in layers: `http`, `auth`, `session`, content and lists, `vendors`, client |
//! | [`copy`] | Copies one image between two registries and reads it back |
//! | `listener` | HTTP on a port that strangers reach, within bounds |
//! | `channel` | The protocol between the operator and the workers of its Jobs |
//! | `replication` | The core: one running configuration as a state machine, its driver, and the ports that connect it |
//! | `cluster` | Adapters to the Kubernetes API: watched objects, credentials, policies, statuses, Jobs |
//! | `execution` | Carries out one image, in this process or by a Job |
//! | `controllers` | The reconcilers, one for each kind |
//! | `notify`, `admin`, `metrics`, [`telemetry`], [`console`], [`config`], `locked`, `long_work` | Notifications, probes, counters, log, output, flags, locks, threads |
//! | [`worker`], [`standalone`], [`operator`] | The processes: the pod of a Job, `serve` and `sync`, and the operator |
//!
//! # The flow of a push
//!
//! 1. `notify` reads the registry's event and finds its Registry. `replication/running.rs` puts the tag as a hint into
//!    the bounded mailbox of each configuration that reads from there.
//! 2. `replication/driver.rs` hands the hint to the state machine in `replication/machine`, which decides and returns
//!    effects. The driver makes a task of each effect, and an event of each result.
//! 3. `replication/observer.rs` reads the digest of the tag. The machine claims the destination, notes the image in the
//!    ledger of its pair (`plan/ledger.rs`) and queues a copy.
//! 4. The executor of `execution` takes the assignment. `replication/authority.rs` decides whether the owner of the
//!    destination consents; `copy/engine.rs` writes blobs, manifests and the tag last, and reads all of them back.
//! 5. The outcome returns to the machine. It records the image, then publishes the status of the pair and the report of
//!    the configuration through the store: `cluster/statuses.rs` on Kubernetes, `standalone/store` in files.
//!
//! A comparison of the whole source takes the same way from step 2. It starts by a timer, a request or a change of the
//! spec, and finds the tags for which no hint came.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod admin;
pub mod api;
mod channel;
mod cluster;
pub mod config;
pub mod console;
mod controllers;
pub mod copy;
mod execution;
mod heartbeats;
pub mod image;
mod listener;
mod locked;
mod long_work;
mod metrics;
mod notify;
pub mod operator;
pub mod plan;
mod policy;
pub mod registry;
mod replication;
pub mod standalone;
pub mod telemetry;
pub mod terms;
pub mod worker;

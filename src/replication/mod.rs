//! The replication core: one running configuration, independent of Kubernetes and of files.
//!
//! A pure state machine ([`machine`]) decides, a driver carries out, and ports connect both to their surroundings: the
//! operator implements these on Kubernetes, `transship serve` and `sync` on files. The simulation of the state machine is
//! compiled with it alone, in `tests/simulation`.

mod authority;
mod chosen_tags;
mod clock;
mod driver;
mod early_hints;
mod excluded;
mod fair_slots;
mod hint_index;
mod hint_space;
mod hints;
pub(crate) mod machine;
mod mailbox;
mod observed_repository;
mod observer;
mod ports;
mod running;
mod shared_claims;
mod slow;
mod source_comparison;
mod sweeps;
mod unused_filters;

pub(crate) use authority::Consent;
pub(crate) use clock::Clock;
pub(crate) use driver::{Core, Driver, Inlets};
pub(crate) use fair_slots::{FairSlot, FairSlots, comparison_slots};
pub(crate) use mailbox::Mailbox;
pub(crate) use ports::{Access, Executor, ReportProgress, Store, StoreError, Unusable};
pub(crate) use running::{Configurations, StatusNames};
pub(crate) use shared_claims::SharedClaims;
pub(crate) use sweeps::Sweeps;

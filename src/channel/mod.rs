//! The workers' channel: messages, work queue, grants, certificates, the server's and the client's side.

mod certificates;
mod client;
mod grants;
mod messages;
mod renewal;
mod server;
mod work_queue;

pub use certificates::{CertificateAuthorities, CertificateError};
pub use client::{ChannelClient, ChannelError, ChannelFiles, ChannelSetupError};
pub use grants::{GrantDecision, GrantHolder, GrantSubject, Grants};
pub use messages::{
    AccessError, EndedItem, GrantAnswer, GrantRequest, GrantedMutation, HeldItem, Item, ItemError, ItemId,
    RegistryAccess, RegistryLogin, Report, ReportAnswer, RouteAccess,
};
pub use renewal::{Endpoint, serve_and_renew};
pub use server::{WorkerApi, WorkerApiError, routes};
pub use work_queue::{ItemState, ReportError, Submission, WorkQueue};

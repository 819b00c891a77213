//! The workers' channel: messages, work queue, grants, certificates, the server's and the client's side.

mod certificates;
mod client;
mod grants;
mod messages;
mod renewal;
mod server;
mod work_queue;

pub(crate) use certificates::{CertificateAuthorities, CertificateError};
pub(crate) use client::{ChannelClient, ChannelError, ChannelFiles, ChannelSetupError};
pub(crate) use grants::{GrantDecision, GrantHolder, GrantSubject, Grants};
pub(crate) use messages::{
    AccessError, EndedItem, GrantAnswer, GrantRequest, GrantedMutation, HeldItem, Item, ItemError, ItemId,
    RegistryAccess, Report, ReportAnswer, RouteAccess, RouteLimits, RouteQuotas,
};
pub(crate) use renewal::{Endpoint, serve_and_renew};
pub(crate) use server::{WorkerApi, WorkerApiError, routes};
pub(crate) use work_queue::{ItemState, ReportError, Submission, WorkQueue};

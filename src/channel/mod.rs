//! The workers' channel: messages, what workers are given, grants, certificates, the server's and the client's side.

mod certificates;
mod client;
mod desk;
mod grants;
mod messages;
mod server;

pub use certificates::{Authorities, InvalidAuthorities};
pub use client::{ChannelClient, ChannelError, ChannelFiles};
pub use desk::{Desk, Refused, Submission, Told};
pub use grants::{Ask, Grants, Holder, Subject};
pub use messages::{
    Answer, Ended, EndedBadly, GrantAnswer, GrantRequest, GrantedEffect, Held, Item, ItemId, RegistryAccess,
    RegistryLogin, Report, RouteAccess,
};
pub use server::{Rejection, WorkerApi, routes, serve};

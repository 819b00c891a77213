//! One request on the wire, to the hosts it may reach, within deadlines and limits.

pub(crate) mod body;
pub(crate) mod deadlines;
pub(crate) mod egress;
pub(crate) mod hosts;
pub(crate) mod limiter;
pub(crate) mod resolver;
pub(crate) mod response;
pub(crate) mod retry;
pub(crate) mod text;
pub(crate) mod transport;
pub(crate) mod warnings;

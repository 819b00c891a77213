//! The lists of a registry: repositories, tags, referrers.

pub(crate) mod page;
pub(crate) mod referrers;
pub(crate) mod tags;

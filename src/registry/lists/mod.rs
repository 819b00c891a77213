//! The lists of a registry: repositories, tags, referrers. Each is read page by page, within bounds.

pub(crate) mod catalog;
pub(crate) mod link;
pub(crate) mod page;
mod query;
pub(crate) mod referrer_page;
pub(crate) mod referrers;
pub(crate) mod tags;

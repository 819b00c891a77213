//! The bounds on the use of one registry, and the quota that it states.

use super::Client;
use crate::registry::http::pacer::{Pacer, RequestLimits};

impl Client {
    /// Changes the bounds on the use of the registry by this process.
    pub fn set_limits(&self, limits: RequestLimits) {
        self.0.session.http().set_limits(limits);
    }

    /// Returns the schedules of requests and bytes, and the quota that the registry states.
    pub(crate) fn pacer(&self) -> &Pacer {
        self.0.session.http().pacer()
    }
}

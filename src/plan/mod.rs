//! Every decision, as pure functions: `now` and data are arguments, nothing here does I/O.

mod backoff;
mod claims;
mod configuration;
mod destination_reference;
mod image_request;
mod ledger;
mod object_reports;
mod options;
mod pace;
mod pair_identity;
mod referrers;
mod report;
mod selection;
mod spec_error;
mod tag_filters;
mod validation;
mod workforce;

pub use backoff::{Jitter, retry_delay};
pub use claims::{Claim, Claims, Conflict, Holder, Place};
pub use configuration::{Configuration, parse_configuration};
pub use destination_reference::DestinationReference;
pub use image_request::ImageRequest;
pub use ledger::{
    Attempt, Counts, FailedAttempt, Failure, LONGEST_DOUBT, Ledger, Observation, ReferrersRow, Replica, Row, State,
};
pub use object_reports::{Health, policy_status, registry_status};
pub use options::CopyOptions;
pub use pace::{Pace, Publication};
pub use pair_identity::PairIdentity;
pub use referrers::{REFERRERS_EVERY, Referred, SeenReferrers};
pub use report::{
    ConfigurationReport, DestinationTotals, Phase, Trouble, configuration_status, image_status, oldest_pending_since,
    pair_status, summarize,
};
pub use selection::{Filter, Match, Rule, Selection, TagChoice};
pub use spec_error::SpecError;
pub use tag_filters::{FilterProblem, TagFilterError, TagFilters};
pub use validation::{check_policy, check_registry};
pub use workforce::{
    AUTHORITY_LASTS, Lane, WaitingLane, WorkerView, WorkforceLimits, WorkforceOrder, decide_workforce,
};

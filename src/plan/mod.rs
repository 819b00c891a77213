//! Every decision, as pure functions: `now` and data are arguments, nothing here does I/O.

mod backfill;
mod backoff;
mod circles;
mod claims;
mod coded_error;
mod configuration;
mod content_sketch;
mod deletion;
mod destination_names;
mod destination_template;
mod envelope;
mod expression;
mod fair_queue;
mod host_bindings;
mod image_entries;
mod image_record;
mod image_request;
mod jobs;
mod lag;
mod lease;
mod ledger;
mod limit_parts;
mod micro_time;
mod namespaced_name;
mod newest;
mod object_reports;
mod options;
mod packed_rows;
mod pair_conditions;
mod pair_identity;
mod pair_news;
mod pair_usage;
mod phase;
mod probe_turns;
mod recheck;
mod recorded_images;
mod referrers;
mod removal;
mod report;
mod repository_filters;
mod schedule;
mod selection;
mod shared_cause;
mod spec_error;
mod status_throttle;
mod sweep_budget;
mod tag_filters;
mod tag_glob;
mod validation;

pub use backfill::is_backfill_stopped;
pub use backoff::{Jitter, passes_by_itself, retry_delay};
pub use claims::{Claim, Claimant, Claims, Conflict, RepositoryAddress, Standing};
pub use coded_error::CodedError;
pub use configuration::{Configuration, parse_configuration};
pub use content_sketch::ContentSketch;
pub use deletion::{
    APPROVE_DELETIONS, DeletionBrake, DeletionCounts, DeletionHistory, LeavingTag, PlannedDeletion, deletion_plan_hash,
    describe_held,
};
pub use destination_names::{NameRefusals, refuse_names};
pub(crate) use destination_names::{circle, collision};
pub use destination_template::{DestinationTemplate, TemplateError};
pub use envelope::{EnvelopeLimits, StatusEnvelope, StatusKey};
pub use expression::{ExpressionError, MANY_NAMES, PatternRoom};
pub use fair_queue::{FairLimits, FairQueue, ShareOwner, Ticket};
pub use host_bindings::{HostBinding, HostBindingError, HostBindings};
pub use image_entries::image_status;
pub use image_record::{ImageRecord, RecordBucket, StoredBucket};
pub use image_request::ImageRequest;
pub use jobs::{
    AUTHORITY_TTL, EXTENSION, GRANT_LASTS, JobLimits, JobOrder, Lane, MIN_THROUGHPUT, WaitingLane, WorkerDuty,
    WorkerPhase, WorkerView, decide_jobs,
};
pub use lag::{LagQuantiles, LagWatch, LagWindow, lag, lag_text};
pub use lease::{LEADS_FOR, LEASE_DURATION, LOOK_EVERY, LeaseBid, LeaseCandidate, LeaseSighting, RENEW_EVERY};
pub use ledger::{
    AbsentTags, Attempt, Counts, FailedAttempt, FailedRead, Freshness, Ledger, LedgerEntry, MAX_LATE_WRITE,
    ReferrersRow, Replica, Row, RowFailure, RowState, UnreadEntry, UnreadTag,
};
pub use limit_parts::{LimitParts, limit_parts};
pub use micro_time::MicroTime;
pub(crate) use namespaced_name::of_registry;
pub use namespaced_name::{ByRegistry, NamespacedName};
pub use newest::{CreationDate, NarrowedTags, RankedTags};
pub use object_reports::{Health, policy_status, quota_to_publish, registry_status};
pub use options::CopyOptions;
pub use pair_identity::PairIdentity;
pub use pair_news::{AnnouncedOutcome, NewsBudget};
pub use pair_usage::PairUsage;
pub use phase::part_of_cycle;
pub use probe_turns::{ProbeSubject, ProbeTurns};
pub use recheck::{configuration_interval, references_interval, registry_interval};
pub use recorded_images::RecordedImages;
pub use referrers::{REFERRERS_INTERVAL, Referred, SeenReferrers, SeenTags, list_fingerprint};
pub use removal::Removal;
pub use report::{
    ComparisonPhase, ConfigurationReport, DestinationTotals, Problem, configuration_status, oldest_pending_since,
    pair_status, summarize, withdraw,
};
pub use repository_filters::RepositoryFilters;
pub use schedule::{CalendarTimes, Pace, WindowState, Windows};
pub use selection::{Match, Promises, RepositoryRoute, Rule, RuleTarget, RulesTo, Selection, TagChoice};
pub use shared_cause::{SharedCause, Sharing};
pub use spec_error::SpecError;
pub use status_throttle::{Publication, StatusThrottle};
pub use sweep_budget::{SweepBudget, SweepOwner};
pub use tag_filters::{ComparedTag, FilterProblem, TagFilterError, TagFilters};
pub use tag_glob::TagGlob;
pub use validation::{check_policy, check_registry, ignored_proxies};

//! The vocabulary of every room: the specs and statuses of the kinds as plain data, with bounds, rules and
//! documentation.
//!
//! Doc comments of fields are user documentation: `kubectl explain` prints them. Nothing here knows Kubernetes clients,
//! clocks or I/O.

mod action;
mod all_rules;
mod condition;
pub mod condition_type;
mod configuration_status;
mod delete_replication;
mod failure_code;
mod filters;
mod interval;
mod lists;
mod name;
mod newest;
mod pattern;
mod platform_index;
pub mod reason;
mod references;
mod referrers_mode;
mod registry;
mod registry_permission_policy;
mod replication_configuration;
mod replication_record;
mod replication_status;
mod repository_template;
mod rule;
mod schedule;
mod side;
mod tag_conflict;
mod verification;

pub use action::Action;
pub use all_rules::all_rules;
pub use condition::{Condition, Conditions, ObjectState, held_transition, ready_transition, shorten};
pub use configuration_status::{
    ConfigurationSummary, DestinationLag, DestinationSummary, FormerDeletions, ReplicationConfigurationStatus,
};
pub use delete_replication::{DeleteReplication, MAX_MIN_ALLOWED, MAX_PERCENT};
pub use failure_code::FailureCode;
pub use filters::{
    MAX_FILTERS, MAX_TAG_FILTER, REPOSITORY_FILTER_RULES, RepositoryFilter, RepositoryFilterType, TAG_FILTER_RULES,
    TagFilter, TagFilterType, VersionSyntax,
};
pub use interval::{parse_interval, parse_lag_objective};
pub use name::{NAME_RULES, OBJECT_NAME};
pub use newest::{MAX_NEWEST, Newest, NewestBy};
pub use pattern::Pattern;
pub use platform_index::PlatformIndex;
pub use references::{LocalRegistryReference, RegistryReference};
pub use referrers_mode::ReferrersMode;
pub use registry::{
    BANDWIDTH_RULES, CaReference, CreateRepositories, CredentialsSource, DEFAULT_SWEEP_REQUESTS, KeyReference, Limits,
    NotificationAuth, NotificationAuthType, NotificationType, Notifications, REGISTRY_RULES, RegistryQuota,
    RegistrySpec, RegistryStatus, SecretReference, TLS_RULES, Tls, URL_RULES,
};
pub use registry_permission_policy::{
    Principal, RegistryPermissionPolicySpec, RegistryPermissionPolicyStatus, STATEMENT_RULES, Statement,
    StatementEffect,
};
pub use replication_configuration::{
    ARTIFACT_TYPE, CONFIGURATION_RULES, ConfigurationSource, DEFAULT_EXECUTION_CLASS, DEFAULT_INTERVAL,
    DESTINATION_TEMPLATE_RULES, DESTINATIONS_RULES, Execution, ExecutionMode, INTERVAL_RULES, LAG_OBJECTIVE_RULES,
    MAX_ARTIFACT_TYPES, MAX_DESTINATIONS, MAX_IMMUTABLE_TAGS, MAX_PLATFORMS, MAX_RULES, MAX_TAG_PATTERN, MAX_TEMPLATE,
    REPLICATION_RULE_RULES, ReplicationConfigurationSpec, ReplicationRule, RuleDestination, SAME_REPOSITORY,
    TAG_PATTERN,
};
pub use replication_record::{ReplicationRecordSpec, StatusReference};
pub use replication_status::{
    ConfigurationReference, FailureGroup, ImageStatus, PairEnd, PairSummary, RecentDeletions, ReplicationState,
    ReplicationStatusSpec, ReplicationStatusStatus, ResolvedRegistryReference,
};
pub use repository_template::{
    DOCUMENT_RULES, ENCRYPTION_RULES, EncryptionType, ImageTagMutability, MAX_LIFECYCLE_POLICY, MAX_REPOSITORY_POLICY,
    MAX_REPOSITORY_TEMPLATES, ProjectVisibility, REPOSITORY_TEMPLATE_RULES, RepositoryEncryption, RepositoryTemplate,
    TEMPLATE_PREFIX, template_for,
};
pub use rule::{ValidationRule, ValidationRules, broken};
pub use schedule::{
    AllowedWindow, MAX_CRON, MAX_TIME_ZONE, MAX_WINDOWS, Schedule, WINDOW_RULES, parse_window_duration,
};
pub use side::Side;
pub use tag_conflict::TagConflict;
pub use verification::{
    COSIGN_KEY_RULES, CosignKey, MAX_PUBLIC_KEY, PEM_HEADER, PublicKeyReference, SignatureVerification,
};

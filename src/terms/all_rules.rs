//! Every validation rule, for tests that compare them with the CustomResourceDefinitions.

use super::filters::{REPOSITORY_FILTER_RULES, TAG_FILTER_RULES};
use super::name::NAME_RULES;
use super::registry::{BANDWIDTH_RULES, REGISTRY_RULES, TLS_RULES, URL_RULES};
use super::registry_permission_policy::STATEMENT_RULES;
use super::replication_configuration::{
    CONFIGURATION_RULES, DESTINATION_TEMPLATE_RULES, DESTINATIONS_RULES, INTERVAL_RULES, LAG_OBJECTIVE_RULES,
    REPLICATION_RULE_RULES,
};
use super::repository_template::{DOCUMENT_RULES, ENCRYPTION_RULES, REPOSITORY_TEMPLATE_RULES};
use super::rule::ValidationRules;
use super::schedule::WINDOW_RULES;
use super::verification::COSIGN_KEY_RULES;

/// Returns the expression and the message of every rule that a value can break by itself, without an earlier value.
pub fn all_rules() -> Vec<(&'static str, &'static str)> {
    let lists = [
        texts(&NAME_RULES),
        texts(&REGISTRY_RULES),
        texts(&URL_RULES),
        texts(&BANDWIDTH_RULES),
        texts(&TLS_RULES),
        texts(&REPOSITORY_TEMPLATE_RULES),
        texts(&ENCRYPTION_RULES),
        texts(&DOCUMENT_RULES),
        texts(&STATEMENT_RULES),
        texts(&CONFIGURATION_RULES),
        texts(&INTERVAL_RULES),
        texts(&LAG_OBJECTIVE_RULES),
        texts(&WINDOW_RULES),
        texts(&DESTINATIONS_RULES),
        texts(&DESTINATION_TEMPLATE_RULES),
        texts(&REPLICATION_RULE_RULES),
        texts(&COSIGN_KEY_RULES),
        texts(&REPOSITORY_FILTER_RULES),
        texts(&TAG_FILTER_RULES),
    ];
    lists.concat()
}

fn texts<T: ?Sized>(rules: &'static ValidationRules<T>) -> Vec<(&'static str, &'static str)> {
    rules.iter().map(|rule| (rule.cel.as_str(), rule.message)).collect()
}

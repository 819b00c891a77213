//! The kinds as objects of Kubernetes: their columns, names and selectable fields, around the plain specs of `terms`.

#![allow(unreachable_pub, reason = "the derived schemas have public types that only they name")]

use std::ops::{Deref, DerefMut};

use kube::CustomResource;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::terms::{
    NAME_RULES, RegistryPermissionPolicySpec, RegistryPermissionPolicyStatus, RegistrySpec, RegistryStatus,
    ReplicationConfigurationSpec, ReplicationConfigurationStatus, ReplicationRecordSpec, ReplicationStatusSpec,
    ReplicationStatusStatus,
};

/// Declares a kind. kube derives the object from a struct of this crate: a wrapper, so that the spec itself stays
/// plain.
macro_rules! kind {
    ($(#[$attribute:meta])* $object_spec:ident($spec:ident)) => {
        #[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize)]
        $(#[$attribute])*
        #[kube(
            group = "transship.dev",
            version = "v1alpha1",
            namespaced,
            derive = "PartialEq",
        )]
        #[serde(transparent)]
        pub struct $object_spec(pub $spec);

        impl Deref for $object_spec {
            type Target = $spec;

            fn deref(&self) -> &$spec {
                &self.0
            }
        }

        impl DerefMut for $object_spec {
            fn deref_mut(&mut self) -> &mut $spec {
                &mut self.0
            }
        }

        impl JsonSchema for $object_spec {
            fn inline_schema() -> bool {
                $spec::inline_schema()
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $spec::schema_name()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                $spec::json_schema(generator)
            }
        }
    };
}

kind! {
    /// The spec of a Registry as the API server sees it.
    #[kube(
        kind = "Registry",
        plural = "registries",
        category = "transship",
        shortname = "repreg",
        status = "RegistryStatus",
        doc = "One registry endpoint with its credentials, TLS settings and limits. It lives in the namespace of its owner.",
        selectable = ".spec.url",
        printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
        printcolumn(name = "Quota", type_ = "integer", json_path = ".status.quota.remaining", priority = 1),
        printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        validation = name_rule(),
    )]
    RegistryObjectSpec(RegistrySpec)
}

kind! {
    /// The spec of a RegistryPermissionPolicy as the API server sees it.
    #[kube(
        kind = "RegistryPermissionPolicy",
        plural = "registrypermissionpolicies",
        category = "transship",
        shortname = "regpol",
        status = "RegistryPermissionPolicyStatus",
        doc = "The permissions to replicate into a Registry, as Amazon ECR's registry permissions policy.",
        selectable = ".spec.registryRef.name",
        printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
        printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        validation = name_rule(),
    )]
    RegistryPermissionPolicyObjectSpec(RegistryPermissionPolicySpec)
}

kind! {
    /// The spec of a ReplicationConfiguration as the API server sees it.
    #[kube(
        kind = "ReplicationConfiguration",
        plural = "replicationconfigurations",
        category = "transship",
        shortname = "repconf",
        status = "ReplicationConfigurationStatus",
        doc = "The replication from one source registry to its destinations. The owner of the source owns this object.",
        selectable = ".spec.source.registryRef.name",
        printcolumn(name = "Source", type_ = "string", json_path = ".spec.source.registryRef.name"),
        printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
        printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
        printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
        printcolumn(name = "Images", type_ = "integer", json_path = ".status.summary.images"),
        printcolumn(name = "Complete", type_ = "integer", json_path = ".status.summary.complete"),
        printcolumn(name = "Pending", type_ = "integer", json_path = ".status.summary.pending"),
        printcolumn(name = "Failed", type_ = "integer", json_path = ".status.summary.failed"),
        printcolumn(name = "Skipped", type_ = "integer", json_path = ".status.summary.skipped", priority = 1),
        printcolumn(name = "Lag", type_ = "string", json_path = ".status.summary.lag", priority = 1),
        printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        validation = name_rule(),
    )]
    ReplicationConfigurationObjectSpec(ReplicationConfigurationSpec)
}

kind! {
    /// The spec of a ReplicationStatus as the API server sees it.
    #[kube(
        kind = "ReplicationStatus",
        plural = "replicationstatuses",
        category = "transship",
        singular = "replicationstatus",
        shortname = "repstat",
        status = "ReplicationStatusStatus",
        doc = "The progress of each image of a source repository at one destination repository. Written by the operator.",
        selectable = ".spec.configurationRef.name",
        selectable = ".spec.source.repository",
        selectable = ".spec.destination.repository",
        selectable = ".status.summary.status",
        printcolumn(name = "Source", type_ = "string", json_path = ".status.source"),
        printcolumn(name = "Destination", type_ = "string", json_path = ".status.destination"),
        printcolumn(name = "Status", type_ = "string", json_path = ".status.summary.status"),
        printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
        printcolumn(name = "Images", type_ = "integer", json_path = ".status.summary.images"),
        printcolumn(name = "Complete", type_ = "integer", json_path = ".status.summary.complete"),
        printcolumn(name = "Failed", type_ = "integer", json_path = ".status.summary.failed"),
        printcolumn(name = "Skipped", type_ = "integer", json_path = ".status.summary.skipped", priority = 1),
        printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.summary.bytes", priority = 1),
        printcolumn(name = "Latest", type_ = "string", json_path = ".status.summary.latest"),
        printcolumn(name = "Pending Since", type_ = "date", json_path = ".status.summary.oldestPendingSince"),
        printcolumn(name = "Lag", type_ = "string", json_path = ".status.summary.lag", priority = 1),
        printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    ReplicationStatusObjectSpec(ReplicationStatusSpec)
}

kind! {
    /// The spec of a ReplicationRecord as the API server sees it.
    #[kube(
        kind = "ReplicationRecord",
        plural = "replicationrecords",
        doc = "A part of the record of a ReplicationStatus whose images do not all fit into it. Internal to the operator.",
        printcolumn(name = "Status", type_ = "string", json_path = ".spec.statusRef.name"),
        printcolumn(name = "Bucket", type_ = "integer", json_path = ".spec.bucket"),
        printcolumn(name = "Buckets", type_ = "integer", json_path = ".spec.buckets"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
    )]
    ReplicationRecordObjectSpec(ReplicationRecordSpec)
}

/// Returns the rule for `metadata.name`, which is outside of every spec.
fn name_rule() -> Rule {
    let rule = &NAME_RULES[0];
    Rule::new(&rule.cel).message(rule.message)
}

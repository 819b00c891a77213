//! Reads and writes ReplicationStatus objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{CallError, FIELD_MANAGER, call};
use crate::api::{
    CONFIGURATION_LABEL, ReplicationConfiguration, ReplicationStatus, ReplicationStatusSpec, ReplicationStatusStatus,
};
use crate::image::Digest;

/// The ReplicationStatus objects of the cluster.
#[derive(Clone)]
pub struct Statuses {
    client: Client,
}

/// Which object holds the status of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairIdentity {
    /// The namespace of the configuration.
    pub namespace: String,
    /// `<configuration ≤ 40>.<repository slug ≤ 40>.<10 base32 characters of the SHA-256 of the spec>`.
    pub name: String,
    /// Its immutable spec.
    pub spec: ReplicationStatusSpec,
}

/// What an earlier process left of a pair.
#[derive(Clone, Debug)]
pub struct StoredPair {
    /// The object.
    pub identity: PairIdentity,
    /// Its status.
    pub status: ReplicationStatusStatus,
}

/// Why a status could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the status of {name}: {source}")]
pub struct StatusError {
    name: String,
    source: CallError,
}

impl PairIdentity {
    /// The identity of the pair that `spec` describes, for a configuration of `namespace`.
    pub fn new(namespace: &str, spec: ReplicationStatusSpec) -> Self {
        let bytes = serde_json::to_vec(&spec).expect("a spec is JSON");
        let hash = base32(&Digest::sha256(&bytes));
        let configuration = cut(&spec.configuration_ref.name);
        let slug: String =
            spec.source.repository.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = format!("{configuration}.{}.{hash}", cut(&slug));
        Self { namespace: namespace.to_owned(), name, spec }
    }
}

impl Statuses {
    /// Works through `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Every object there is, read in small pages.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub async fn list(&self) -> Result<Vec<StoredPair>, CallError> {
        let api: Api<ReplicationStatus> = Api::all(self.client.clone());
        let mut parameters = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let page = call(api.list(&parameters)).await?;
            found.extend(page.items.into_iter().map(|object| StoredPair {
                identity: PairIdentity {
                    namespace: object.namespace().unwrap_or_default(),
                    name: object.name_any(),
                    spec: object.spec,
                },
                status: object.status.unwrap_or_default(),
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Writes `status`, creating the object first where it is absent.
    ///
    /// # Errors
    /// [`StatusError`]; nothing is lost by it, the caller writes again later.
    pub async fn write(
        &self,
        pair: &PairIdentity,
        owner: &ReplicationConfiguration,
        status: &ReplicationStatusStatus,
    ) -> Result<(), StatusError> {
        let api: Api<ReplicationStatus> = Api::namespaced(self.client.clone(), &pair.namespace);
        let failed = |source| StatusError { name: pair.name.clone(), source };
        match patch_status(&api, &pair.name, status).await {
            Err(error) if error.is_not_found() => {}
            result => return result.map_err(failed),
        }
        let mut object = ReplicationStatus::new(&pair.name, pair.spec.clone());
        object.labels_mut().insert(CONFIGURATION_LABEL.to_owned(), pair.spec.configuration_ref.name.clone());
        object.metadata.owner_references = Some(vec![owner_reference(owner)]);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match call(api.create(&parameters, &object)).await {
            Ok(_) => {}
            Err(CallError::Kube(error)) if matches!(error.as_ref(), kube::Error::Api(status) if status.is_already_exists()) =>
                {}
            Err(error) => return Err(failed(error)),
        }
        patch_status(&api, &pair.name, status).await.map_err(failed)
    }

    /// Deletes the object; one that is not there is fine.
    ///
    /// # Errors
    /// [`StatusError`] when the API server refuses.
    pub async fn delete(&self, pair: &PairIdentity) -> Result<(), StatusError> {
        let api: Api<ReplicationStatus> = Api::namespaced(self.client.clone(), &pair.namespace);
        match call(api.delete(&pair.name, &DeleteParams::default())).await {
            Err(error) if !error.is_not_found() => Err(StatusError { name: pair.name.clone(), source: error }),
            _ => Ok(()),
        }
    }
}

/// Replaces the status of the object `name` by server-side apply.
///
/// # Errors
/// When the object is not there or the API server refuses.
pub async fn patch_status<K, S>(api: &Api<K>, name: &str, status: &S) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize,
{
    let patch = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status});
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    call(api.patch_status(name, &parameters, &Patch::Apply(patch))).await.map(|_| ())
}

fn owner_reference(owner: &ReplicationConfiguration) -> OwnerReference {
    OwnerReference {
        api_version: ReplicationConfiguration::api_version(&()).into_owned(),
        kind: ReplicationConfiguration::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn cut(text: &str) -> &str {
    text[..text.len().min(40)].trim_end_matches(['-', '.'])
}

/// The first ten characters of the digest in the base32 alphabet of RFC 4648, in lower case.
fn base32(digest: &Digest) -> String {
    let bits = u64::from_str_radix(&digest.encoded()[..16], 16).expect("hexadecimal");
    (0..10).map(|i| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (59 - 5 * i)) as usize & 31])).collect()
}

const PAGE: u32 = 50;

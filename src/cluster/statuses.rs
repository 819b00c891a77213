//! Reads and writes ReplicationStatus objects.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::ACCEPT;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::call::{CallError, FIELD_MANAGER, call};
use super::pages;
use super::pair_events::PairNews;
use super::records::{RecordObjects, StatusMeta, owner_reference};
use crate::api::{CONFIGURATION_LABEL, ReplicationConfiguration, ReplicationStatus, ReplicationStatusObjectSpec};
use crate::locked::Locked;
use crate::plan::{ConfigurationReport, EnvelopeLimits, PairIdentity, RecordedImages, StatusEnvelope, StatusKey};
use crate::replication::machine::{Record, StoredPair};
use crate::replication::{Store, StoreError};
use crate::terms::{ImageStatus, ReplicationStatusStatus};

/// The report of a configuration, with its uid.
type ReportOfUid = (String, Arc<ConfigurationReport>);

/// The ReplicationStatus objects of the cluster, and the reports of configurations that wait to be published.
pub(crate) struct Statuses {
    client: Client,
    reports: Locked<HashMap<(String, String), ReportOfUid>>,
    wakes: mpsc::UnboundedSender<ObjectRef<ReplicationConfiguration>>,
    news: PairNews,
    envelope: Locked<StatusEnvelope>,
    records: RecordObjects,
}

impl Statuses {
    /// Returns a store that works through `client` and writes within `limits`. Configurations whose report changed are
    /// sent to `wakes`.
    pub(crate) fn new(
        client: Client,
        limits: EnvelopeLimits,
        wakes: mpsc::UnboundedSender<ObjectRef<ReplicationConfiguration>>,
    ) -> Self {
        let (news, envelope) = (PairNews::new(client.clone()), Locked::new(StatusEnvelope::new(limits)));
        let records = RecordObjects::new(client.clone());
        Self { client, reports: Locked::default(), wakes, news, envelope, records }
    }

    /// Returns the last report of the configuration with this uid, but not that of an earlier one of the same name.
    pub(crate) fn report_of(&self, namespace: &str, name: &str, uid: &str) -> Option<ConfigurationReport> {
        let report = {
            let reports = self.reports.lock();
            let (of, report) = reports.get(&(namespace.to_owned(), name.to_owned()))?;
            (of == uid).then(|| report.clone())?
        };
        let envelope = self.envelope.lock();
        Some(ConfigurationReport { envelope: envelope.condition(namespace, name), ..report.as_ref().clone() })
    }

    /// Drops the report of a configuration that does not exist any more.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.reports.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Returns every object with its record, read in small pages.
    ///
    /// # Errors
    /// [`CallError`] if a page cannot be read.
    pub(crate) async fn list(&self) -> Result<Vec<StoredPair>, CallError> {
        let mut found = Vec::new();
        pages::each(&self.client, PAGE, |object: ReplicationStatus| {
            self.news.restore(&object);
            self.adopt(&object);
            found.push(stored(object));
        })
        .await?;
        self.records.restore(&mut found).await?;
        Ok(found.into_iter().map(|(pair, _)| pair).collect())
    }

    /// Counts an object that an earlier process wrote.
    fn adopt(&self, object: &ReplicationStatus) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let configuration = object.spec.0.configuration_ref.name.as_str();
        let key = StatusKey { namespace: &namespace, configuration, name: &name };
        self.envelope.lock().adopt(key, object.status.as_ref());
    }

    /// Returns the part of a status that may be written; `None` if that is nothing.
    fn bounded<'a>(
        &self,
        pair: &PairIdentity,
        status: &'a ReplicationStatusStatus,
    ) -> Option<Cow<'a, ReplicationStatusStatus>> {
        let (key, configuration) = (key(pair), pair.spec.configuration_ref.name.as_str());
        let mut envelope = self.envelope.lock();
        let before = envelope.exceeded(&pair.namespace, configuration);
        let written = envelope.bound(key, status, self.records.bytes(pair, status));
        if envelope.exceeded(&pair.namespace, configuration) != before {
            // A closed channel means that the operator ends.
            let _ = self.wakes.send(ObjectRef::new(configuration).within(&pair.namespace));
        }
        written
    }

    /// Writes `status`, creating the object first where it is absent. Returns the metadata of the object.
    async fn write(&self, pair: &PairIdentity, status: &ReplicationStatusStatus) -> Result<StatusMeta, CallError> {
        let api: Api<ReplicationStatus> = Api::namespaced(self.client.clone(), &pair.namespace);
        if self.records.has_status(pair) {
            match self.patch(pair, status).await {
                Err(error) if error.is_not_found() => {}
                result => return result,
            }
        }
        let mut object = ReplicationStatus::new(&pair.name, ReplicationStatusObjectSpec(pair.spec.clone()));
        let configuration = &pair.spec.configuration_ref;
        object.labels_mut().insert(CONFIGURATION_LABEL.to_owned(), configuration.name.clone());
        let owner = owner_reference::<ReplicationConfiguration>(&configuration.name, &configuration.uid);
        object.metadata.owner_references = Some(vec![owner]);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match call(api.create(&parameters, &object)).await {
            Ok(_) => {}
            Err(CallError::Kube(error)) if matches!(error.as_ref(), kube::Error::Api(status) if status.is_already_exists()) =>
                {}
            Err(error) => return Err(error),
        }
        self.patch(pair, status).await
    }

    /// Replaces the status of an object by server-side apply. Only its metadata comes back: the rest of it is as large as
    /// what was sent.
    async fn patch(&self, pair: &PairIdentity, status: &ReplicationStatusStatus) -> Result<StatusMeta, CallError> {
        let request = Request::new(ReplicationStatus::url_path(&(), Some(&pair.namespace)));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(AppliedStatus::of::<ReplicationStatus>(status));
        let request =
            request.patch_subresource("status", &pair.name, &parameters, &patch).map_err(kube::Error::BuildRequest)?;
        let (mut head, body) = request.into_parts();
        head.headers.insert(ACCEPT, HeaderValue::from_static(METADATA));
        call(self.client.request(http::Request::from_parts(head, body))).await
    }

    /// Deletes the object of a pair; an absent one is no error.
    async fn remove(&self, pair: &PairIdentity) -> Result<(), StoreError> {
        let api: Api<ReplicationStatus> = Api::namespaced(self.client.clone(), &pair.namespace);
        match call(api.delete(&pair.name, &DeleteParams::default())).await {
            Err(error) if !error.is_not_found() => {
                Err(StoreError(format!("failed to delete the status of {}: {error}", pair.name)))
            }
            _ => {
                self.news.forget(pair);
                Ok(())
            }
        }
    }
}

impl Store for Statuses {
    fn publish<'a>(
        &'a self,
        pair: &'a PairIdentity,
        status: &'a ReplicationStatusStatus,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let failed = |error| StoreError(format!("failed to write the status of {}: {error}", pair.name));
            let Some(bounded) = self.bounded(pair, status) else {
                if self.records.has_status(pair) {
                    self.remove(pair).await?; // A bound that was lowered leaves none that is out of date.
                    self.records.lose_status(pair);
                }
                return Ok(());
            };
            let is_whole = matches!(bounded, Cow::Borrowed(_));
            self.records.keep(pair, status, is_whole).await.map_err(failed)?;
            let object = self.write(pair, &bounded).await.map_err(failed)?;
            if self.records.belongs_to(pair, &object) {
                self.records.keep(pair, status, is_whole).await.map_err(failed)?;
            }
            self.news.announce(&object, &status.conditions).await;
            Ok(())
        }
        .boxed()
    }

    /// Succeeds if the object does not exist.
    fn delete<'a>(&'a self, pair: &'a PairIdentity) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            self.remove(pair).await?;
            self.envelope.lock().remove(key(pair));
            self.records.forget(pair);
            Ok(())
        }
        .boxed()
    }

    /// The record is written together with the next status.
    fn record(&self, pair: &PairIdentity, record: &Record) {
        self.records.take(pair, record);
    }

    fn begin_record(
        &self,
        pair: &PairIdentity,
        status: &ReplicationStatusStatus,
        images: &dyn Fn() -> Vec<ImageStatus>,
    ) {
        self.records.begin(pair, status, images);
    }

    fn report(&self, namespace: &str, name: &str, uid: &str, report: Arc<ConfigurationReport>) {
        self.reports.lock().insert((namespace.to_owned(), name.to_owned()), (uid.to_owned(), report));
        // A closed channel means that the operator ends.
        let _ = self.wakes.send(ObjectRef::new(name).within(namespace));
    }
}

/// Returns what an object says of a pair, and its uid.
fn stored(object: ReplicationStatus) -> (StoredPair, String) {
    let uid = object.uid().unwrap_or_default();
    let identity = PairIdentity {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        spec: object.spec.0,
    };
    let mut status = object.status.unwrap_or_default();
    // Every status is in memory until its configuration starts, and a decoded list has room for up to twice its images.
    status.images.shrink_to_fit();
    (
        StoredPair {
            identity,
            status,
            verified: RecordedImages::Shown,
            referrers_asked_at: None,
            missed: BTreeMap::new(),
            choice: None,
        },
        uid,
    )
}

/// Replaces the status of the object `name` by server-side apply, and returns the object.
///
/// # Errors
/// [`CallError`] if the object does not exist or the API server refuses the status.
pub(crate) async fn patch_status<K, S>(api: &Api<K>, name: &str, status: &S) -> Result<K, CallError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    S: Serialize + std::fmt::Debug,
{
    let patch = AppliedStatus::of::<K>(status);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    call(api.patch_status(name, &parameters, &Patch::Apply(patch))).await
}

/// The status of an object, as it is applied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AppliedStatus<'a, S> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    status: &'a S,
}

impl<'a, S> AppliedStatus<'a, S> {
    fn of<K: Resource<DynamicType = ()>>(status: &'a S) -> Self {
        Self { api_version: K::api_version(&()), kind: K::kind(&()), status }
    }
}

fn key(pair: &PairIdentity) -> StatusKey<'_> {
    let configuration = &pair.spec.configuration_ref.name;
    StatusKey { namespace: &pair.namespace, configuration, name: &pair.name }
}

/// Has the API server answer with the metadata of an object.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PAGE: u32 = 50;

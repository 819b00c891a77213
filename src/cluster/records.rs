//! The records of pairs that outgrow their statuses, as ReplicationRecord objects.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};

use super::call::{CallError, FIELD_MANAGER, call};
use super::pages;
use crate::api::{ReplicationRecord, ReplicationRecordObjectSpec, ReplicationStatus};
use crate::locked::Locked;
use crate::plan::{ImageRecord, PairIdentity, RecordBucket, RecordedImages, StoredBucket};
use crate::replication::machine::{Record, StoredPair};
use crate::terms::{ImageStatus, ReplicationRecordSpec, ReplicationState, ReplicationStatusStatus, StatusReference};

/// The metadata of a status.
pub(super) type StatusMeta = PartialObjectMeta<ReplicationStatus>;

/// The record of every pair that outgrows its status, and the uid of the status of every pair.
pub(super) struct RecordObjects {
    client: Client,
    pairs: Locked<HashMap<(String, String), PairRecord>>,
}

#[derive(Debug, Default)]
struct PairRecord {
    /// The uid of the ReplicationStatus, once it is known.
    uid: Option<String>,
    /// Shared with the pair that is restored from it.
    images: Arc<ImageRecord>,
}

impl PairRecord {
    fn images(&mut self) -> &mut ImageRecord {
        Arc::make_mut(&mut self.images)
    }
}

impl RecordObjects {
    pub(super) fn new(client: Client) -> Self {
        Self { client, pairs: Locked::default() }
    }

    /// Reads every record, and completes the pairs with these uids of their statuses by it.
    pub(super) async fn restore(&self, pairs: &mut [(StoredPair, String)]) -> Result<(), CallError> {
        let mut found = self.list().await?;
        let mut records = self.pairs.lock();
        for (pair, uid) in pairs {
            let options = pair.status.copy_options_hash.clone();
            let kept = found.remove(uid.as_str()).and_then(|buckets| ImageRecord::kept(buckets, options.clone()));
            let kept = kept.map(Arc::new);
            pair.verified = kept.clone().map(RecordedImages::Packed).unwrap_or_default();
            let images = kept.unwrap_or_else(|| ImageRecord::of_status(options).into());
            records.insert(key(&pair.identity), PairRecord { uid: Some(uid.clone()), images });
        }
        Ok(())
    }

    /// Takes a change of the record of a pair.
    pub(super) fn take(&self, pair: &PairIdentity, change: &Record) {
        let mut pairs = self.pairs.lock();
        let images = pairs.entry(key(pair)).or_default().images();
        match change {
            Record::Verified(image) => images.verify(image),
            Record::Forgotten(tag) => images.forget(tag.as_str()),
            Record::StartedOver(options) => images.start_over(options.clone()),
            // After a restart these are found out again.
            Record::Missed(_) | Record::Chosen(_) | Record::ReferrersAsked(_) => {}
        }
    }

    /// Takes the verified `images` of a pair whose status is about to become `status`, the first time that it does not
    /// show them all.
    pub(super) fn begin(
        &self,
        pair: &PairIdentity,
        status: &ReplicationStatusStatus,
        images: &dyn Fn() -> Vec<ImageStatus>,
    ) {
        let mut pairs = self.pairs.lock();
        let record = pairs.entry(key(pair)).or_default().images();
        if !record.is_held() && outgrows(status) {
            record.hold(&images());
        }
    }

    /// Forgets a pair whose status was deleted: its record goes with it.
    pub(super) fn forget(&self, pair: &PairIdentity) {
        self.pairs.lock().remove(&key(pair));
    }

    /// Notes that the status of a pair was deleted, and its record with it; the pair goes on.
    pub(super) fn lose_status(&self, pair: &PairIdentity) {
        self.pairs.lock().entry(key(pair)).and_modify(|record| record.uid = None);
    }

    /// Returns true if the status of a pair is known to exist.
    pub(super) fn has_status(&self, pair: &PairIdentity) -> bool {
        self.pairs.lock().get(&key(pair)).is_some_and(|record| record.uid.is_some())
    }

    /// Notes the object that shows a pair. Returns true if it is another one than before: it has no record yet.
    pub(super) fn belongs_to(&self, pair: &PairIdentity, object: &StatusMeta) -> bool {
        let mut pairs = self.pairs.lock();
        let record = pairs.entry(key(pair)).or_default();
        let is_other = record.uid != object.uid();
        if is_other {
            record.uid = object.uid();
            record.images().write_all_again();
        }
        is_other
    }

    /// Returns the bytes of the record of a pair whose status is about to become `status`, beside that status.
    pub(super) fn bytes(&self, pair: &PairIdentity, status: &ReplicationStatusStatus) -> usize {
        let is_kept = self.pairs.lock().get(&key(pair)).is_some_and(|record| record.images.is_kept());
        let images = usize::try_from(status.summary.images).unwrap_or(usize::MAX);
        if is_kept || outgrows(status) { images.saturating_mul(ROW_BYTES) } else { 0 }
    }

    /// Writes what has changed of the record of a pair whose status is about to become `status`, if not all of its
    /// images fit there; a record is begun only if that is allowed. Nothing is written before the object of the status
    /// is known.
    ///
    /// # Errors
    /// [`CallError`] if a part cannot be written: it is written the next time.
    pub(super) async fn keep(
        &self,
        pair: &PairIdentity,
        status: &ReplicationStatusStatus,
        may_begin: bool,
    ) -> Result<(), CallError> {
        let begins = may_begin && outgrows(status);
        let mut from = 0;
        // A part that changes meanwhile waits for the next status: this one does not count what is new.
        while let Some((bucket, uid)) = self.next_change(pair, from, begins.then_some(status.summary.images)) {
            from = bucket.index + 1;
            let (index, object) = (bucket.index, self.object(pair, bucket, uid));
            let api: Api<ReplicationRecord> = Api::namespaced(self.client.clone(), &pair.namespace);
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let written = call(api.patch_metadata(&object.name_any(), &parameters, &Patch::Apply(&object))).await;
            if let Err(error) = written {
                if let Some(record) = self.pairs.lock().get_mut(&key(pair)) {
                    record.images().write_again(index);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn next_change(&self, pair: &PairIdentity, from: usize, outgrown: Option<u64>) -> Option<(RecordBucket, String)> {
        let mut pairs = self.pairs.lock();
        let record = pairs.get_mut(&key(pair))?;
        let uid = record.uid.clone()?;
        outgrown.into_iter().for_each(|images| record.images().outgrow(images));
        Some((record.images().take_changed(from)?, uid))
    }

    fn object(&self, pair: &PairIdentity, bucket: RecordBucket, uid: String) -> ReplicationRecord {
        let owner = owner_reference::<ReplicationStatus>(&pair.name, &uid);
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let spec = ReplicationRecordSpec {
            status_ref: StatusReference { name: pair.name.clone(), uid },
            bucket: number(bucket.index),
            buckets: number(bucket.of),
            copy_options_hash: bucket.options,
            rows: bucket.rows,
        };
        let mut object =
            ReplicationRecord::new(&format!("{}.{}", pair.name, bucket.index), ReplicationRecordObjectSpec(spec));
        object.metadata = ObjectMeta {
            namespace: Some(pair.namespace.clone()),
            owner_references: Some(vec![owner]),
            ..object.metadata
        };
        object
    }

    /// Returns the parts of all records, by the uid of their statuses.
    async fn list(&self) -> Result<HashMap<String, Vec<StoredBucket>>, CallError> {
        let mut found: HashMap<String, Vec<StoredBucket>> = HashMap::new();
        pages::each(&self.client, PAGE, |object: ReplicationRecord| {
            let ReplicationRecordObjectSpec(spec) = object.spec;
            let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
            let bucket = RecordBucket {
                index: number(spec.bucket),
                of: number(spec.buckets),
                options: spec.copy_options_hash,
                rows: spec.rows,
            };
            found.entry(spec.status_ref.uid).or_default().push(bucket.into());
        })
        .await?;
        Ok(found)
    }
}

/// Returns the reference by which the object of this name and uid controls another one.
pub(super) fn owner_reference<K: Resource<DynamicType = ()>>(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// Returns true if a status does not show all verified images.
fn outgrows(status: &ReplicationStatusStatus) -> bool {
    let shown = status.images.iter().filter(|image| image.status == ReplicationState::Complete).count();
    status.summary.complete > shown as u64
}

fn key(pair: &PairIdentity) -> (String, String) {
    (pair.namespace.clone(), pair.name.clone())
}

/// The bytes of a row in an object, about.
const ROW_BYTES: usize = 130;
/// Each object has up to some hundred kilobytes, and a page is in memory twice.
const PAGE: u32 = 5;

//! Copy Jobs: creation with their Secret, deletion, and the causes for which a pod does not run.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::call::{CallError, FIELD_MANAGER, call};
use super::execution_class::ExecutionClass;
use crate::plan::Lane;

/// Creates and deletes copy Jobs in the operator's namespace.
pub(crate) struct CopyJobs {
    client: Client,
    settings: JobSettings,
}

/// The settings that all copy Jobs share.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The operator's namespace.
    pub namespace: String,
    /// The image of the worker.
    pub image: String,
    /// The ServiceAccount of the pods.
    pub service_account: String,
    /// The URL of the operator's channel.
    pub channel_url: String,
    /// Environment variables of the worker: the egress settings and the log level of the operator.
    pub environment: Vec<(String, String)>,
}

/// The token of a worker, and its hash.
#[derive(Clone, Copy)]
pub(crate) struct WorkerToken<'a> {
    /// The token itself; it is written to the Secret of the Job alone.
    pub token: &'a str,
    /// The hash that the Job is annotated with.
    pub hash: &'a str,
}

impl CopyJobs {
    /// Returns a handle that works through `client`.
    pub(crate) fn new(client: Client, settings: JobSettings) -> Self {
        Self { client, settings }
    }

    /// Returns the operator's namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    /// Starts the Job `name` with `token`; only the hash of the token is kept. The Job is created suspended and runs
    /// once its Secret exists, which it owns. A Job that cannot be completed is deleted.
    ///
    /// # Errors
    /// [`CallError`] of the call that failed.
    pub(crate) async fn start(
        &self,
        name: &str,
        lane: &Lane,
        class: &ExecutionClass,
        token: WorkerToken<'_>,
        authorities: &str,
    ) -> Result<(), CallError> {
        let WorkerToken { token, hash } = token;
        let jobs: Api<Job> = self.jobs();
        let mut job: Job = serde_json::from_value(self.job(name, lane, class, hash)).expect("a Job");
        job.metadata.owner_references = Some(vec![self.owner().await?]);
        let job = call(jobs.create(&PostParams::default(), &job)).await?;
        let started = async {
            let secret = serde_json::from_value(json!({
                "metadata": {"name": name, "labels": labels(lane), "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job.uid().unwrap_or_default(), "controller": true,
                }]},
                "stringData": {"url": self.settings.channel_url, "token": token, "ca.crt": authorities},
            }));
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.settings.namespace);
            call(secrets.create(&PostParams::default(), &secret.expect("a Secret"))).await?;
            let run = Patch::Merge(json!({"spec": {"suspend": false}}));
            call(jobs.patch(
                name,
                &PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() },
                &run,
            ))
            .await
        };
        if let Err(error) = started.await {
            let _ = self.delete(name).await;
            return Err(error);
        }
        Ok(())
    }

    /// Returns the owner of Jobs and of everything else that the operator creates for them: the ServiceAccount of the
    /// workers. Kubernetes removes them with it when the operator is uninstalled.
    ///
    /// # Errors
    /// [`CallError`] if the ServiceAccount cannot be read.
    pub(crate) async fn owner(&self) -> Result<OwnerReference, CallError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let account = call(accounts.get(&self.settings.service_account)).await?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ServiceAccount".to_owned(),
            name: account.name_any(),
            uid: account.uid().unwrap_or_default(),
            ..OwnerReference::default()
        })
    }

    /// Deletes a Job, with its pod and its Secret.
    ///
    /// # Errors
    /// [`CallError`] if the Job exists and cannot be deleted.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), CallError> {
        match call(self.jobs().delete(name, &DeleteParams::background())).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Has Kubernetes end a Job `seconds` after its start.
    ///
    /// # Errors
    /// [`CallError`] if it does not exist or cannot be changed.
    pub(crate) async fn set_deadline(&self, name: &str, seconds: i64) -> Result<(), CallError> {
        let deadline = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": seconds}}));
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        call(self.jobs().patch(name, &parameters, &deadline)).await.map(drop)
    }

    /// Returns every copy Job.
    ///
    /// # Errors
    /// [`CallError`] if they cannot be listed.
    pub(crate) async fn list(&self) -> Result<Vec<Job>, CallError> {
        Ok(call(self.jobs().list(&ListParams::default().labels(WORKERS))).await?.items)
    }

    /// Returns the cause for which no pod of the Job could be created, as the Job controller reports it.
    pub(crate) async fn refusal(&self, job: &str) -> Option<String> {
        let events: Api<k8s_openapi::api::core::v1::Event> =
            Api::namespaced(self.client.clone(), &self.settings.namespace);
        let about = ListParams::default().fields(&format!("involvedObject.name={job},reason=FailedCreate")).limit(20);
        let last =
            call(events.list(&about)).await.ok()?.items.into_iter().max_by_key(|event| event.last_timestamp.clone());
        last.and_then(|event| event.message)
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.settings.namespace)
    }

    fn job(&self, name: &str, lane: &Lane, class: &ExecutionClass, hash: &str) -> Value {
        let mut labels = labels(lane);
        let mut annotations = json!({TOKEN_HASH: hash});
        for (key, value) in &class.labels {
            labels[key] = value.clone().into();
        }
        for (key, value) in &class.annotations {
            annotations[key] = value.clone().into();
        }
        let environment: Vec<Value> = [("TRANSSHIP_SLOTS".to_owned(), class.copies.to_string())]
            .iter()
            .chain(&self.settings.environment)
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let container = json!({
            "name": "worker",
            "image": self.settings.image,
            "args": ["worker", "--channel", CHANNEL_FOLDER],
            "env": environment,
            "resources": class.resources,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "channel", "mountPath": CHANNEL_FOLDER, "readOnly": true}],
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
        });
        json!({
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {
                "suspend": true,
                "backoffLimit": 0,
                "activeDeadlineSeconds": class.deadline_seconds,
                "ttlSecondsAfterFinished": 60,
                "template": {
                    "metadata": {"labels": labels, "annotations": class.annotations},
                    "spec": {
                        "restartPolicy": "Never",
                        "serviceAccountName": self.settings.service_account,
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "terminationGracePeriodSeconds": 5,
                        "nodeSelector": class.node_selector,
                        "tolerations": class.tolerations,
                        "priorityClassName": class.priority_class_name,
                        "securityContext": {
                            "runAsNonRoot": true, "runAsUser": WORKER_USER, "runAsGroup": WORKER_USER, "fsGroup": WORKER_USER,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                        "containers": [container],
                        "volumes": [{"name": "channel", "secret": {"secretName": name, "defaultMode": 0o440}}],
                    },
                },
            },
        })
    }
}

/// Returns the lane that a Job serves and the hash of its token; `None` if it is not a copy Job.
pub(crate) fn served_by(job: &Job) -> Option<(Lane, String)> {
    let label = |key: &str| job.labels().get(key).cloned();
    let lane = Lane {
        namespace: label(NAMESPACE_LABEL)?,
        source: label(SOURCE_LABEL)?,
        destination: label(DESTINATION_LABEL)?,
        class: label(CLASS_LABEL)?,
    };
    Some((lane, job.annotations().get(TOKEN_HASH)?.clone()))
}

/// Returns true if the Job has completed or failed.
pub(crate) fn has_ended(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ended = conditions
        .filter(|c| matches!(c.type_.as_str(), "Complete" | "Failed" | "FailureTarget" | "SuccessCriteriaMet"));
    ended.any(|condition| condition.status == "True")
}

/// Returns true if the pod has ended or is being deleted.
pub(crate) fn pod_has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
}

/// Returns the cause for which the pod does not run, or has ended, as its status states it.
pub(crate) fn pod_trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let said = |reason: Option<&str>, message: Option<&str>| {
        let words: Vec<&str> = [reason, message].into_iter().flatten().filter(|text| !text.trim().is_empty()).collect();
        (!words.is_empty()).then(|| words.join(": "))
    };
    for container in status.container_statuses.iter().flatten() {
        let state = container.state.as_ref()?;
        if let Some(ended) = &state.terminated {
            // Kubernetes gives the last lines of the log for a message: those of one that had to end at once say
            // nothing of it.
            let words =
                ended.message.as_deref().map(str::trim).filter(|_| ended.reason.as_deref() != Some("OOMKilled"));
            return said(ended.reason.as_deref(), words);
        }
        if let Some(waiting) = &state.waiting {
            return said(waiting.reason.as_deref(), waiting.message.as_deref());
        }
    }
    if let Some(text) = said(status.reason.as_deref(), status.message.as_deref()) {
        return Some(text);
    }
    let unmet = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    said(unmet.reason.as_deref(), unmet.message.as_deref())
}

fn labels(lane: &Lane) -> Value {
    json!({
        "app.kubernetes.io/name": "transship", "app.kubernetes.io/component": "worker",
        NAMESPACE_LABEL: lane.namespace, SOURCE_LABEL: lane.source, DESTINATION_LABEL: lane.destination, CLASS_LABEL: lane.class,
    })
}

/// Returns the time that a Job has left to live.
pub(crate) fn life_left(job: &Job) -> Duration {
    let deadline = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).unwrap_or_default();
    let started = job.status.as_ref().and_then(|status| Some(status.start_time.as_ref()?.0));
    let lived = started.map_or(0, |started| Timestamp::now().as_second() - started.as_second());
    Duration::from_secs(u64::try_from(deadline - lived).unwrap_or_default())
}

/// The label selector of copy Jobs and their pods.
pub(crate) const WORKERS: &str = "app.kubernetes.io/name=transship,app.kubernetes.io/component=worker";
const NAMESPACE_LABEL: &str = "transship.dev/namespace";
const SOURCE_LABEL: &str = "transship.dev/source-uid";
const DESTINATION_LABEL: &str = "transship.dev/destination-uid";
const CLASS_LABEL: &str = "transship.dev/class";
const TOKEN_HASH: &str = "transship.dev/token-sha256";
const CHANNEL_FOLDER: &str = "/etc/transship/channel";
const WORKER_USER: i64 = 65_532;

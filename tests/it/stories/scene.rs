//! The scene of a story: namespaces with registries and configurations in them, and an operator that acts on these
//! alone.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use transship::api::{Registry, ReplicationConfiguration, ReplicationStatus};
use transship::terms::{ImageStatus, ReplicationState};

use super::operator::Operator;
use crate::support::control_plane::{AuditEvent, ControlPlane, TestNamespace};
use crate::support::eventually::eventually;
use crate::support::registry::TestRegistry;
use crate::support::scripted::ScriptedRegistry;
use crate::support::tls::client_builder;

/// The token of every notification in these stories.
pub const NOTIFY_TOKEN: &str = "a-token-of-the-notifications";

/// The password of every registry in these stories; must never be seen in an output.
pub const PASSWORD: &str = "canary-password-93b1";

/// One story's scene.
pub struct Scene {
    pub plane: &'static ControlPlane,
    pub namespace: TestNamespace,
    pub operator_user: String,
    pub operator: Operator,
    pub namespaces: Vec<String>,
    pub hosts: Vec<String>,
    began: u64,
    notifier: reqwest::Client,
}

impl Scene {
    /// Returns a scene with one namespace and nothing in it.
    pub async fn new(story: &str) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(story).await;
        let operator = Operator::new(plane, story).await;
        Self {
            plane,
            namespaces: vec![namespace.name.clone()],
            namespace,
            operator_user: operator.user(),
            operator,
            hosts: Vec::new(),
            began: plane.audit_position(),
            notifier: client_builder().build().expect("a client"),
        }
    }

    /// Returns another owner's namespace.
    pub async fn other_namespace(&mut self, story: &str) -> String {
        let namespace = self.plane.namespace(story).await.name;
        self.namespaces.push(namespace.clone());
        namespace
    }

    /// Lets the operator reach a host on loopback.
    pub fn allow(&mut self, host: &str) {
        self.hosts.push(host.to_owned());
    }

    /// A Registry object for `registry`, with a Secret of its own if `user` is given.
    pub async fn registry(&mut self, namespace: &str, name: &str, registry: &TestRegistry, user: Option<&str>) {
        self.allow(&registry.host());
        let mut spec = json!({"url": registry.url()});
        if registry.url().starts_with("http://") {
            spec["allowHTTP"] = true.into();
        }
        if let Some(user) = user {
            self.secret(namespace, name, &registry.host(), user, PASSWORD).await;
            spec["credentials"] = json!({"secretRef": {"name": name}});
        }
        self.registry_object(namespace, name, spec).await;
    }

    /// A Registry object for a registry that asks for no login.
    pub async fn open_registry(&mut self, name: &str, registry: &ScriptedRegistry) {
        self.allow(&registry.host());
        let spec = json!({"url": registry.url(), "allowHTTP": true});
        self.registry_object(&self.namespace.name, name, spec).await;
    }

    /// A Registry object with this spec.
    pub async fn registry_object(&self, namespace: &str, name: &str, spec: Value) {
        let object: Registry = serde_json::from_value(json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }))
        .unwrap();
        self.api::<Registry>(namespace).create(&PostParams::default(), &object).await.unwrap();
    }

    /// A basic-auth Secret bound to `host`; replaced where it exists.
    pub async fn secret(&self, namespace: &str, name: &str, host: &str, user: &str, password: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/basic-auth",
            "metadata": {"name": name, "annotations": {"transship.dev/registry-host": host}},
            "stringData": {"username": user, "password": password},
        });
        let secrets = self.api::<Secret>(namespace);
        secrets.patch(name, &PatchParams::apply("story").force(), &Patch::Apply(secret)).await.unwrap();
    }

    /// Has `registry` notify the operator; to be used when the registry is started.
    pub fn notify_url(&self, name: &str) -> String {
        format!("{}/v1/notify/{}/{name}", self.operator.notify_url(), self.namespace.name)
    }

    /// Makes the Registry object take notifications with [`NOTIFY_TOKEN`].
    pub async fn take_notifications(&self, name: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "notify"}, "stringData": {"token": NOTIFY_TOKEN}});
        let secrets = self.api::<Secret>(&self.namespace.name);
        secrets.patch("notify", &PatchParams::apply("story").force(), &Patch::Apply(secret)).await.unwrap();
        let spec = json!({"spec": {"notifications": {"type": "Distribution", "auth": {"type": "Bearer", "secretRef": {"name": "notify"}}}}});
        self.api::<Registry>(&self.namespace.name)
            .patch(name, &PatchParams::default(), &Patch::Merge(spec))
            .await
            .unwrap();
    }

    /// A configuration of the story's namespace that copies from `source` to `destinations`; `filters` as in the API.
    pub async fn configure(
        &self,
        name: &str,
        source: &str,
        destinations: &[Value],
        filters: Option<Value>,
        interval: &str,
    ) {
        let mut rule = json!({"name": "all", "destinations": destinations});
        if let Some(filters) = filters {
            rule["repositoryFilters"] = filters;
        }
        let object: ReplicationConfiguration = serde_json::from_value(json!({
            "apiVersion": "transship.dev/v1alpha1", "kind": "ReplicationConfiguration", "metadata": {"name": name},
            "spec": {"source": {"registryRef": {"name": source}}, "rules": [rule], "interval": interval},
        }))
        .unwrap();
        self.configurations().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Starts the operator and waits until it is ready.
    pub async fn start_operator(&mut self) {
        self.operator.start(&self.namespaces, &self.hosts).await;
    }

    /// Kills the operator with SIGKILL.
    pub fn kill_operator(&mut self) {
        self.operator.kill();
    }

    /// Ends the operator as Kubernetes does.
    pub async fn end_operator(&mut self) {
        self.operator.end().await;
    }

    /// Returns everything that the operator, and its workers, have logged.
    pub async fn operator_log(&self) -> String {
        self.operator.log().await
    }

    /// Sends a notification as a registry does; answers with the status code.
    pub async fn send_notification(&self, registry: &str, token: &str, body: String) -> u16 {
        let request = self.notifier.post(self.notify_url(registry)).bearer_auth(token).body(body);
        request.send().await.unwrap().status().as_u16()
    }

    /// Notifies that a tag was pushed.
    pub async fn notify(&self, registry: &str, repository: &str, tag: &str, digest: &str) {
        let target = json!({"repository": repository, "tag": tag, "digest": digest});
        let event = json!({"events": [{"action": "push", "target": target}]});
        assert_eq!(self.send_notification(registry, NOTIFY_TOKEN, event.to_string()).await, 202);
    }

    /// Announces a notification of `length` bytes and sends one byte more than is taken, so that nothing is left unread
    /// when the answer comes: the end of a connection with unread bytes may overtake it. Answers with the status code.
    pub async fn send_too_much(&self, registry: &str, token: &str, length: usize) -> u16 {
        let url: url::Url = self.notify_url(registry).parse().unwrap();
        let (host, port) = (url.host_str().unwrap(), url.port().unwrap());
        let mut stream = TcpStream::connect((host, port)).await.unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n",
            url.path()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; (1 << 20) + 1]).await.unwrap();
        let mut status = [0; "HTTP/1.1 413".len()];
        stream.read_exact(&mut status).await.unwrap();
        std::str::from_utf8(&status[9..]).unwrap().parse().unwrap()
    }

    /// Typed access to a kind.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.namespace.client.clone(), namespace)
    }

    /// Returns the configurations of the story's namespace.
    pub fn configurations(&self) -> Api<ReplicationConfiguration> {
        self.api(&self.namespace.name)
    }

    /// Requests a comparison by annotation, and waits until it is handled.
    pub async fn compared_again(&self, configuration: &str, token: &str) {
        self.request_comparison(configuration, token).await;
        self.compared(configuration, token).await;
    }

    /// Waits until a comparison that was requested is handled.
    pub async fn compared(&self, configuration: &str, token: &str) {
        eventually(Duration::from_secs(60), "the request is handled", async || {
            let status = self.configurations().get(configuration).await.unwrap().status.unwrap_or_default();
            status.last_handled_replicate_request.as_deref() == Some(token)
        })
        .await;
    }

    /// Requests a comparison by annotation.
    pub async fn request_comparison(&self, configuration: &str, token: &str) {
        let request = json!({"metadata": {"annotations": {"transship.dev/replicate-requested-at": token}}});
        let patch = Patch::Merge(request);
        self.configurations().patch(configuration, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Returns every status of the story's namespace.
    pub async fn statuses(&self) -> Vec<ReplicationStatus> {
        self.api::<ReplicationStatus>(&self.namespace.name).list(&kube::api::ListParams::default()).await.unwrap().items
    }

    /// Returns the entries of all statuses by `destination registry/repository:tag`.
    pub async fn images(&self) -> BTreeMap<String, ImageStatus> {
        let mut found = BTreeMap::new();
        for status in self.statuses().await {
            let destination =
                format!("{}/{}", status.spec.destination.registry_ref.name, status.spec.destination.repository);
            for image in status.status.map(|status| status.images).unwrap_or_default() {
                found.insert(format!("{destination}:{}", image.tag), image);
            }
        }
        found
    }

    /// Waits until `image` (as in [`Scene::images`]) is as wanted, and answers with its entry.
    pub async fn image_becomes(&self, image: &str, state: ReplicationState, within: Duration) -> ImageStatus {
        eventually(within, &format!("{image} becomes {state:?}"), async || {
            let images = self.images().await;
            match images.get(image) {
                Some(entry) if entry.status == state => Ok(entry.clone()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until the condition `kind` of an object has `status` and `reason`, and answers with its message.
    pub async fn condition<K>(
        &self,
        namespace: &str,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
        within: Duration,
    ) -> String
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + serde::Serialize,
    {
        eventually(within, &format!("{name} has {kind}={status} with reason {reason}"), async || {
            let object = self.api::<K>(namespace).get(name).await.map_err(|error| error.to_string())?;
            let conditions = serde_json::to_value(&object).unwrap()["status"]["conditions"].take();
            let found = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
            match found {
                Some(found) if found["status"] == status && found["reason"] == reason => {
                    Ok(found["message"].as_str().unwrap_or_default().to_owned())
                }
                _ => Err(conditions.to_string()),
            }
        })
        .await
    }

    /// Returns the requests of this story's operator that changed something at the API server, since the story began or
    /// `position`; but for renewals of its Lease.
    pub fn writes(&self, position: Option<u64>) -> Vec<AuditEvent> {
        let mut events = self.plane.audit_log_of(&self.operator_user, position.unwrap_or(self.began));
        let is_lease = |event: &AuditEvent| event.request_uri.contains("/leases");
        events.retain(|event| !matches!(event.verb.as_str(), "get" | "list" | "watch") && !is_lease(event));
        events
    }
}

/// Returns a destination of the own namespace.
pub fn to(name: &str) -> Value {
    json!({"registryRef": {"name": name}})
}

/// Returns a destination of another namespace.
pub fn to_other(namespace: &str, name: &str) -> Value {
    json!({"registryRef": {"namespace": namespace, "name": name}})
}

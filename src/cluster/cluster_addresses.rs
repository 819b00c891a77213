//! Follows the addresses of the cluster that registry traffic may never reach: API servers, the operator's
//! Services and replicas.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::runtime::reflector::store;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::watch_beats::watch_config;
use super::watch_errors::WatchErrors;
use crate::registry::{RefusedAddresses, RefusedSet};

/// The addresses of the cluster, as they change.
pub(crate) struct ClusterAddresses {
    client: Client,
    /// The operator's own namespace.
    namespace: String,
    /// The addresses that no watch names: the API server's Service, the operator's own pod.
    fixed: BTreeSet<IpAddr>,
    refused: RefusedAddresses,
    errors: Arc<WatchErrors>,
    known: watch::Sender<bool>,
}

impl ClusterAddresses {
    /// Has `refused` follow the API servers' endpoints, and the operator's Services in `namespace` with their pods;
    /// `fixed` are refused from now on.
    pub(crate) fn new(
        client: Client,
        namespace: String,
        fixed: BTreeSet<IpAddr>,
        refused: RefusedAddresses,
        errors: Arc<WatchErrors>,
    ) -> Self {
        refused.replace(RefusedSet { hosts: fixed.clone(), endpoints: BTreeSet::new() });
        Self { client, namespace, fixed, refused, errors, known: watch::Sender::new(false) }
    }

    /// Waits until the addresses have been listed: before that, no registry is asked for anything.
    pub(crate) async fn known(&self) {
        let _ = self.known.subscribe().wait_for(|is_known| *is_known).await;
    }

    /// Follows the addresses; never ends.
    pub(crate) async fn follow(&self) {
        let servers: Api<EndpointSlice> = Api::namespaced(self.client.clone(), API_SERVERS_NAMESPACE);
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let replicas: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let ((server_store, server_writer), (service_store, service_writer)) = (store(), store());
        let (replica_store, replica_writer) = store();
        let unlisted = watch::Sender::new(BTreeSet::from(LISTS));
        let listed = |list| unlisted.send_modify(|unlisted| _ = unlisted.remove(list));
        let publish = || {
            if unlisted.borrow().is_empty() {
                self.publish(&server_store.state(), &service_store.state(), &replica_store.state());
            }
        };
        let of_servers = watcher(servers, watch_config().labels(API_SERVERS)).default_backoff();
        let of_services = watcher(services, watch_config().labels(OWN_SERVICES)).default_backoff();
        let of_replicas = watcher(replicas, watch_config().labels(OWN_SERVICES)).default_backoff();
        tokio::join!(
            self.watch(of_servers.reflect(server_writer), || listed(LISTS[0]), publish),
            self.watch(of_services.reflect(service_writer), || listed(LISTS[1]), publish),
            self.watch(of_replicas.reflect(replica_writer), || listed(LISTS[2]), publish),
        );
    }

    async fn watch<K>(
        &self,
        events: impl futures::Stream<Item = Result<Event<K>, watcher::Error>>,
        listed: impl Fn(),
        publish: impl Fn(),
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init | Event::InitApply(_)) => {}
                Ok(Event::InitDone) => {
                    listed();
                    publish();
                }
                Ok(Event::Apply(_) | Event::Delete(_)) => publish(),
                Err(error) => self.errors.take::<K>(&error),
            }
        }
    }

    fn publish(&self, servers: &[Arc<EndpointSlice>], services: &[Arc<Service>], replicas: &[Arc<EndpointSlice>]) {
        if self.refused.replace(refused_set(&self.fixed, servers, services, replicas)) {
            tracing::info!("the addresses of the cluster that registry traffic may never reach have changed");
        }
        self.known.send_replace(true);
    }
}

/// Returns the addresses that are refused: `fixed` ones, those of the API servers' endpoints, of the operator's Services,
/// and of the pods behind these, which are all replicas.
fn refused_set(
    fixed: &BTreeSet<IpAddr>,
    servers: &[Arc<EndpointSlice>],
    services: &[Arc<Service>],
    replicas: &[Arc<EndpointSlice>],
) -> RefusedSet {
    let mut hosts = fixed.clone();
    hosts.extend(services.iter().flat_map(|service| addresses(service)));
    hosts.extend(replicas.iter().flat_map(|slice| endpoint_addresses(slice)));
    RefusedSet { hosts, endpoints: servers.iter().flat_map(|slice| endpoints(slice)).collect() }
}

/// Returns the addresses at which a Service can be reached, apart from those of nodes.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let clusters = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    let external = spec.into_iter().flat_map(|spec| spec.external_ips.iter().flatten());
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let ingress = ingress.filter_map(|ingress| ingress.ip.as_ref());
    clusters.chain(external).chain(ingress).filter_map(|address| address.parse().ok()).collect()
}

fn endpoint_addresses(slice: &EndpointSlice) -> Vec<IpAddr> {
    let addresses = slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse().ok()).collect()
}

fn endpoints(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let addresses = endpoint_addresses(slice);
    let ports = slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok());
    ports.flat_map(|port| addresses.iter().map(move |address| SocketAddr::new(*address, port))).collect()
}

const API_SERVERS_NAMESPACE: &str = "default";
const API_SERVERS: &str = "kubernetes.io/service-name=kubernetes";
/// The lists that are waited for.
const LISTS: [&str; 3] = ["API servers", "Services", "replicas"];
/// The label that the chart gives the operator's Services, and Kubernetes the EndpointSlices of a Service.
const OWN_SERVICES: &str = "app.kubernetes.io/name=transship";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_endpoint_and_every_address_of_a_service_counts() {
        let slice = json!({"addressType": "IPv4", "metadata": {"name": "kubernetes"},
            "endpoints": [{"addresses": ["192.168.1.5", "192.168.1.6"]}, {"addresses": ["x"]}],
            "ports": [{"port": 6443}, {"name": "other", "port": 443}, {}]});
        let found = endpoints(&serde_json::from_value(slice).unwrap());
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.168.1.5:6443", "192.168.1.6:6443", "192.168.1.5:443", "192.168.1.6:443"]);

        let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
            "externalIPs": ["203.0.113.4"]}, "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"hostname": "lb"}]}}});
        let found: BTreeSet<String> =
            addresses(&serde_json::from_value(service).unwrap()).iter().map(ToString::to_string).collect();
        let expected = ["10.96.0.9", "203.0.113.4", "203.0.113.5", "fd00::9"].map(str::to_owned);
        assert_eq!(found, BTreeSet::from(expected));
        let headless = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "None"}});
        assert!(addresses(&serde_json::from_value(headless).unwrap()).is_empty());
    }

    #[test]
    fn every_replica_is_refused_at_every_port_whether_it_is_ready_or_not() {
        let slice = |addresses: serde_json::Value, port: u16| {
            let slice = json!({"addressType": "IPv4", "metadata": {"name": "s"}, "ports": [{"port": port}],
                "endpoints": [{"addresses": addresses, "conditions": {"ready": false}}]});
            Arc::new(serde_json::from_value::<EndpointSlice>(slice).unwrap())
        };
        let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.9"}});
        let service = Arc::new(serde_json::from_value::<Service>(service).unwrap());
        let fixed = BTreeSet::from(["10.244.0.7".parse().unwrap()]);
        let replicas = [slice(json!(["10.244.0.7", "10.244.1.8"]), 8081), slice(json!(["10.244.1.8"]), 8443)];
        let RefusedSet { hosts, endpoints } =
            refused_set(&fixed, &[slice(json!(["192.168.1.5"]), 6443)], &[service], &replicas);
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["10.96.0.9", "10.244.0.7", "10.244.1.8"]);
        assert_eq!(endpoints, BTreeSet::from(["192.168.1.5:6443".parse().unwrap()]));
    }
}

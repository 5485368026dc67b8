//! Clusters: a name with tags and settings for the sessions in its tasks.

use super::{changed, configuration, invalid, paged, tags};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::places::may_write;
use crate::aws::policy::ConditionKeys;
use crate::aws::resources::{ResourceNames, cluster_arn, last};
use crate::aws::targets::CLUSTER;
use runner_folder::state::{Cluster, ClusterTable, MOST_CLUSTERS};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Most clusters in one call, as in AWS.
const MOST: usize = 100;

/// The current clusters.
pub(super) fn table(endpoint: &Endpoint) -> Result<Arc<ClusterTable>, RefusedCall> {
    endpoint.builds.clusters.current().map_err(|error| super::broken(&error))
}

pub(super) fn not_found() -> RefusedCall {
    RefusedCall::new("ClusterNotFoundException", "Cluster not found.")
}

/// A cluster's name from a name or an ARN; `None` for an ARN of another account or Region.
pub(super) fn name_of(cluster: Option<&str>) -> Option<&str> {
    let named = cluster.filter(|name| !name.is_empty()).unwrap_or(CLUSTER);
    match named.starts_with("arn:") {
        true => Some(last(named)).filter(|name| cluster_arn(name) == named),
        false => Some(named),
    }
}

/// The cluster that a call names, or the default one.
pub(super) fn find(cluster: Option<&str>, endpoint: &Endpoint) -> Result<Cluster, RefusedCall> {
    let name = name_of(cluster).ok_or_else(not_found)?;
    table(endpoint)?.cluster(name).ok_or_else(not_found)
}

/// The condition keys of an operation in a cluster.
pub(super) fn in_cluster(name: &str) -> ConditionKeys {
    vec![("ecs:cluster", cluster_arn(name))]
}

/// A cluster as a resource, with its tags if it exists.
pub(super) fn resource(name: &str, endpoint: &Endpoint) -> ResourceNames {
    let found = name_of(Some(name)).and_then(|name| table(endpoint).ok()?.cluster(name));
    ResourceNames::cluster(name).tagged(found.map(|cluster| cluster.tags).unwrap_or_default())
}

/// The parts that DescribeClusters can include.
const PARTS: [&str; 5] = ["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"];

/// A cluster with the included parts.
fn shape(cluster: &Cluster, running: usize, include: &[impl AsRef<str>]) -> Value {
    let shows = |part: &str| include.iter().any(|name| name.as_ref() == part);
    let mut shape = json!({
        "clusterArn": cluster_arn(&cluster.name),
        "clusterName": cluster.name,
        "status": "ACTIVE",
        // This machine.
        "registeredContainerInstancesCount": 1,
        "runningTasksCount": running,
        "pendingTasksCount": 0,
        "activeServicesCount": 0,
        "capacityProviders": [],
        "defaultCapacityProviderStrategy": [],
        "tags": if shows("TAGS") { tags::shape(&cluster.tags) } else { json!([]) },
        "settings": match (&cluster.settings, shows("SETTINGS")) {
            (Some(settings), true) => settings.clone(),
            _ => json!([]),
        },
        "statistics": [],
    });
    if shows("ATTACHMENTS") {
        shape["attachments"] = json!([]);
    }
    if let (Some(configuration), true) = (&cluster.configuration, shows("CONFIGURATIONS")) {
        shape["configuration"] = configuration.clone();
    }
    shape
}

/// The number of builds running in a cluster.
async fn running(name: &str, endpoint: &Endpoint) -> Result<usize, RefusedCall> {
    let live = endpoint.builds.live().await?;
    Ok(live.iter().filter(|known| known.task.cluster == name).count())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListClusters {
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl OperationInput for ListClusters {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let arns: Vec<String> =
            table(endpoint)?.names().iter().map(|name| cluster_arn(name)).collect();
        paged("clusterArns", &arns, self.next_token.as_deref(), self.max_results)
    }
}

#[derive(Deserialize)]
pub(crate) struct DescribeClusters {
    #[serde(default)]
    clusters: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

impl DescribeClusters {
    /// The named clusters, or the default one.
    fn named(&self) -> Vec<&str> {
        let named: Vec<&str> = self.clusters.iter().map(String::as_str).collect();
        if named.is_empty() { vec![CLUSTER] } else { named }
    }
}

impl OperationInput for DescribeClusters {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        if self.clusters.len() > MOST {
            return Err(invalid(format!("clusters can contain at most {MOST} names")));
        }
        Ok((RequestScope::of(self.named().into_iter().map(|name| resource(name, endpoint))), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        if self.include.iter().any(|name| !PARTS.contains(&name.as_str())) {
            return Err(invalid(format!("include lists some of {}.", PARTS.join(", "))));
        }
        let table = table(endpoint)?;
        let (mut clusters, mut failures) = (Vec::new(), Vec::new());
        for name in self.named() {
            match name_of(Some(name)).and_then(|name| table.cluster(name)) {
                Some(cluster) => {
                    let running = running(&cluster.name, endpoint).await?;
                    clusters.push(shape(&cluster, running, &self.include));
                }
                None => failures.push(json!({"arn": cluster_arn(name), "reason": "MISSING"})),
            }
        }
        Ok(json!({"clusters": clusters, "failures": failures}))
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    (1..=255).contains(&name.len()) && name.chars().all(is_part)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateCluster {
    cluster_name: Option<String>,
    #[serde(default)]
    tags: Vec<tags::EcsTag>,
    settings: Option<Value>,
    configuration: Option<Value>,
}

impl CreateCluster {
    fn name(&self) -> &str {
        self.cluster_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(CLUSTER)
    }
}

impl OperationInput for CreateCluster {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        if !is_name(self.name()) {
            return Err(invalid(
                "clusterName has 1 to 255 letters, digits, hyphens and underscores.",
            ));
        }
        let requested = tags::in_request(&self.tags);
        Ok((RequestScope::of([ResourceNames::cluster(self.name())]).when_also(requested), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        if let Some(configuration) = &self.configuration {
            let exec = configuration::check(configuration)?;
            may_write(&exec.destinations(None), origin, endpoint)?;
        }
        let new = Cluster {
            name: self.name().to_owned(),
            tags: tags::checked(&self.tags)?,
            configuration: self.configuration,
            settings: self.settings,
        };
        let made = changed(endpoint, move |table| {
            match table.cluster(&new.name) {
                None if table.names().len() > MOST_CLUSTERS => {
                    let text = format!("there are at most {MOST_CLUSTERS} clusters.");
                    return Err(RefusedCall::new("ClientException", text));
                }
                None => table.add(new.clone()),
                // An identical cluster counts as created.
                Some(there) if there == new => {}
                Some(there) if there == (Cluster { name: CLUSTER.to_owned(), ..Cluster::default() }) => {
                    if let Some(cluster) = table.cluster_mut(CLUSTER) {
                        *cluster = new.clone();
                    }
                }
                Some(_) => {
                    return Err(invalid(
                        "Arguments on this idempotent request are inconsistent with arguments used in previous \
                         request(s): the cluster is there with others; update-cluster changes it.",
                    ));
                }
            }
            Ok(new)
        })
        .await?;
        let running = running(&made.name, endpoint).await?;
        Ok(json!({"cluster": shape(&made, running, &PARTS)}))
    }
}

#[derive(Deserialize)]
pub(crate) struct UpdateCluster {
    cluster: String,
    settings: Option<Value>,
    configuration: Option<Value>,
}

impl OperationInput for UpdateCluster {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([resource(&self.cluster, endpoint)]), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        if let Some(configuration) = &self.configuration {
            let exec = configuration::check(configuration)?;
            may_write(&exec.destinations(None), origin, endpoint)?;
        }
        let name = name_of(Some(&self.cluster)).ok_or_else(not_found)?.to_owned();
        let made = changed(endpoint, move |table| {
            let cluster = table.cluster_mut(&name).ok_or_else(not_found)?;
            if let Some(configuration) = self.configuration {
                cluster.configuration = Some(configuration);
            }
            if let Some(settings) = self.settings {
                cluster.settings = Some(settings);
            }
            Ok(cluster.clone())
        })
        .await?;
        let running = running(&made.name, endpoint).await?;
        Ok(json!({"cluster": shape(&made, running, &PARTS)}))
    }
}

#[derive(Deserialize)]
pub(crate) struct DeleteCluster {
    cluster: String,
}

impl OperationInput for DeleteCluster {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([resource(&self.cluster, endpoint)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let name = name_of(Some(&self.cluster)).ok_or_else(not_found)?.to_owned();
        if name == CLUSTER {
            return Err(invalid("The cluster default is always there."));
        }
        if running(&name, endpoint).await? > 0 {
            let text = "The Cluster cannot be deleted while Tasks are active.";
            return Err(RefusedCall::new("ClusterContainsTasksException", text));
        }
        let gone = changed(endpoint, move |table| {
            let cluster = table.cluster(&name).ok_or_else(not_found)?;
            table.remove(&name);
            Ok(cluster)
        })
        .await?;
        let mut shape = shape(&gone, 0, &PARTS);
        shape["status"] = json!("INACTIVE");
        Ok(json!({"cluster": shape}))
    }
}

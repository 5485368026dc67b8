//! The one cluster there is.

use super::{invalid, paged};
use crate::aws::call::Refusal;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{Input, Scope};
use crate::aws::policy::Context;
use crate::aws::resources::{Resource, cluster_arn, last};
use crate::aws::targets::CLUSTER;
use serde::Deserialize;
use serde_json::{Value, json};

/// Whether a cluster is the one there is.
fn is_here(cluster: &str) -> bool {
    cluster == CLUSTER || cluster == cluster_arn(CLUSTER)
}

/// Checks that a cluster is the one there is.
pub(super) fn check_cluster(name: Option<&str>) -> Result<(), Refusal> {
    match name.is_none_or(is_here) {
        true => Ok(()),
        false => Err(Refusal::new("ClusterNotFoundException", "Cluster not found.")),
    }
}

/// What rules can ask of an operation in a cluster.
pub(super) fn in_cluster(name: &str) -> Context {
    vec![("ecs:cluster", cluster_arn(name))]
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListClusters {
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl Input for ListClusters {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        Ok((Scope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, Refusal> {
        let arns = [cluster_arn(CLUSTER)];
        paged("clusterArns", &arns, self.next_token.as_deref(), self.max_results)
    }
}

/// Most clusters in one call, as in AWS.
const MOST: usize = 100;

#[derive(Deserialize)]
pub(crate) struct DescribeClusters {
    #[serde(default)]
    clusters: Vec<String>,
}

impl DescribeClusters {
    /// The clusters that are meant.
    fn named(&self) -> Vec<&str> {
        let named: Vec<&str> = self.clusters.iter().map(String::as_str).collect();
        if named.is_empty() { vec![CLUSTER] } else { named }
    }
}

impl Input for DescribeClusters {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        if self.clusters.len() > MOST {
            return Err(invalid(format!("clusters can contain at most {MOST} names")));
        }
        Ok((Scope::of(self.named().into_iter().map(Resource::cluster)), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, Refusal> {
        let (mut clusters, mut failures) = (Vec::new(), Vec::new());
        for name in self.named() {
            if is_here(name) {
                clusters.push(json!({
                    "clusterArn": cluster_arn(CLUSTER),
                    "clusterName": CLUSTER,
                    "status": "ACTIVE",
                    "registeredContainerInstancesCount": 1,
                    "runningTasksCount": endpoint.builds.live().await?.len(),
                    "pendingTasksCount": 0,
                    "activeServicesCount": 0,
                }));
            } else {
                failures.push(json!({"arn": cluster_arn(last(name)), "reason": "MISSING"}));
            }
        }
        Ok(json!({"clusters": clusters, "failures": failures}))
    }
}

//! DescribeInstanceInformation: lists live builds as managed nodes.

use super::nodes::shown;
use super::{invalid, is_build};
use crate::aws::builds::VisibleBuild;
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::page::page;
use crate::aws::resources::{node_id, tags};
use futures_util::future::join_all;
use runner_client::{ClientError, SharedClient};
use runner_host::clock;
use runner_wire::control::{ControlRequest, ControlResponse, Platform};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longest wait for a build's status.
const SOON: Duration = Duration::from_secs(2);
/// The agent version that builds report.
const AGENT: &str = "3.3.0.0";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DescribeInstanceInformation {
    #[serde(default)]
    filters: Vec<InstanceFilter>,
    #[serde(default)]
    instance_information_filter_list: Vec<OldInstanceFilter>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// A filter.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceFilter {
    key: String,
    values: Vec<String>,
}

/// A filter in the older form.
#[derive(Clone, Debug, Deserialize)]
struct OldInstanceFilter {
    key: String,
    #[serde(rename = "valueSet")]
    values: Vec<String>,
}

/// A build and its status.
struct InstanceNode {
    known: VisibleBuild,
    id: String,
    is_online: bool,
    platform: Platform,
}

impl OperationInput for DescribeInstanceInformation {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let most = match self.max_results.unwrap_or(50) {
            most @ 5..=50 => most,
            _ => return Err(invalid("MaxResults is a number from 5 to 50")),
        };
        let filters = self.filters()?;
        for filter in &filters {
            known_key(&filter.key)?;
        }
        let mut builds = endpoint.builds.live().await?;
        builds.retain(|known| known.record.debug_session.session_enabled);
        let mut nodes = join_all(builds.into_iter().map(node)).await;
        nodes.retain(|node| filters.iter().all(|filter| fits(filter, node)));
        let page =
            page(&nodes, |node| &node.id, self.next_token.as_deref(), most).ok_or_else(|| {
                RefusedCall::new("InvalidNextToken", "NextToken is none of this list")
            })?;
        let items: Vec<Value> = page.items.iter().map(shape).collect();
        let mut answer = json!({"InstanceInformationList": items});
        if let Some(next) = page.next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }
}

impl DescribeInstanceInformation {
    /// The filters of either form.
    fn filters(&self) -> Result<Vec<InstanceFilter>, RefusedCall> {
        if !self.filters.is_empty() && !self.instance_information_filter_list.is_empty() {
            return Err(RefusedCall::new(
                "InvalidInstanceInformationFilterValue",
                "either Filters or InstanceInformationFilterList can be given, not both",
            ));
        }
        let old = self.instance_information_filter_list.iter();
        let old = old.map(|OldInstanceFilter { key, values }| InstanceFilter {
            key: key.clone(),
            values: values.clone(),
        });
        Ok(self.filters.iter().cloned().chain(old).collect())
    }
}

fn known_key(key: &str) -> Result<(), RefusedCall> {
    let is_known = matches!(
        key,
        "InstanceIds"
            | "PingStatus"
            | "PlatformTypes"
            | "AgentVersion"
            | "ResourceType"
            | "tag-key"
            | "SourceIds"
            | "SourceTypes"
            | "ActivationIds"
            | "AssociationStatus"
            | "IamRole"
    );
    if is_known || key.strip_prefix("tag:").is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    Err(RefusedCall::new("InvalidFilterKey", format!("Filters: there is no key {}", shown(key))))
}

async fn node(known: VisibleBuild) -> InstanceNode {
    let asked = async {
        let is_online = known.status().await?.has_container;
        let platform =
            match SharedClient::connect(&known.dir).await?.ask(&ControlRequest::Platform).await? {
                ControlResponse::Platform(platform) => platform,
                _ => Platform::default(),
            };
        Ok::<_, ClientError>((is_online, platform))
    };
    let told = tokio::time::timeout(SOON, asked).await;
    let (is_online, platform) = match told {
        Ok(Ok(told)) => told,
        _ => (false, Platform::default()),
    };
    let id = node_id(&known.uuid);
    InstanceNode { known, id, is_online, platform }
}

impl InstanceNode {
    fn ping(&self) -> &'static str {
        if self.is_online { "Online" } else { "ConnectionLost" }
    }
}

fn fits(filter: &InstanceFilter, node: &InstanceNode) -> bool {
    let is = |value: &str| filter.values.iter().any(|wanted| wanted == value);
    match filter.key.as_str() {
        "InstanceIds" | "SourceIds" => {
            let VisibleBuild { uuid, record, .. } = &node.known;
            filter.values.iter().any(|value| is_build(value, uuid, &record.id))
        }
        "PingStatus" => is(node.ping()),
        "PlatformTypes" => is("Linux"),
        "AgentVersion" => is(AGENT),
        "ResourceType" => is("ManagedInstance"),
        "SourceTypes" => is("AWS::SSM::ManagedInstance"),
        "tag-key" => tags(&node.known).iter().any(|(key, _)| is(key)),
        key => match key.strip_prefix("tag:") {
            Some(name) => tags(&node.known).iter().any(|(key, value)| *key == name && is(value)),
            None => false,
        },
    }
}

fn shape(node: &InstanceNode) -> Value {
    let Platform { name, version } = &node.platform;
    let name = if name.is_empty() { "Linux" } else { name };
    json!({
        "InstanceId": node.id,
        "PingStatus": node.ping(),
        "LastPingDateTime": clock::wall().epoch_seconds(),
        "AgentVersion": AGENT,
        "IsLatestVersion": true,
        "PlatformType": "Linux",
        "PlatformName": name,
        "PlatformVersion": version,
        "RegistrationDate": node.known.record.start_time,
        "ResourceType": "ManagedInstance",
        "Name": node.known.record.id,
        "ComputerName": node.known.uuid,
        "SourceId": node.id,
        "SourceType": "AWS::SSM::ManagedInstance",
    })
}

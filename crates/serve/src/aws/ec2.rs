//! EC2, as far as it is asked about where a task runs: one subnet of one network that is not there, without endpoints.

use super::call::Refusal;
use super::endpoint::{Endpoint, Origin};
use super::operations::{Input, Scope};
use runner_core::arn::ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The subnet that tasks say they are in.
pub(super) const SUBNET: &str = "subnet-00000000";
/// Its network.
const VPC: &str = "vpc-00000000";

/// The fields of a call, under the names that lists are flattened to.
type Fields = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct DescribeSubnets(Fields);

impl Input for DescribeSubnets {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        Ok((Scope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, Refusal> {
        let named = self.0.iter().filter(|(name, _)| name.starts_with("SubnetId."));
        for (_, id) in named {
            if id != SUBNET {
                let id: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
                let text = format!("The subnet ID '{id}' does not exist");
                return Err(Refusal::new("InvalidSubnetID.NotFound", text));
            }
        }
        Ok(json!({"subnetSet": [{
            "subnetId": SUBNET,
            "vpcId": VPC,
            "ownerId": ACCOUNT,
            "state": "available",
            "cidrBlock": "127.0.0.0/8",
            "availableIpAddressCount": "0",
            "mapPublicIpOnLaunch": "false",
        }]}))
    }
}

#[derive(Deserialize)]
pub(super) struct DescribeVpcEndpoints {}

impl Input for DescribeVpcEndpoints {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        Ok((Scope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, Refusal> {
        Ok(json!({"vpcEndpointSet": []}))
    }
}

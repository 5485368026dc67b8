//! EC2, as far as clients ask where a task runs: one subnet in one made-up network, without
//! endpoints.

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::operations::{OperationInput, RequestScope};
use runner_core::arn::ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The subnet given for all tasks.
pub(super) const SUBNET: &str = "subnet-00000000";
/// The network of that subnet.
const VPC: &str = "vpc-00000000";

/// The fields of a call, with flattened names for list items.
type Ec2Fields = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct DescribeSubnets(Ec2Fields);

impl OperationInput for DescribeSubnets {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, RefusedCall> {
        let named = self.0.iter().filter(|(name, _)| name.starts_with("SubnetId."));
        for (_, id) in named {
            if id != SUBNET {
                let id: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
                let text = format!("The subnet ID '{id}' does not exist");
                return Err(RefusedCall::new("InvalidSubnetID.NotFound", text));
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

impl OperationInput for DescribeVpcEndpoints {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, RefusedCall> {
        Ok(json!({"vpcEndpointSet": []}))
    }
}

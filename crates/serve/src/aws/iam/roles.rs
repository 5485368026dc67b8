//! The only role: that of tasks, which stands for this program and its identity at AWS.

use super::document::no_such;
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use crate::aws::simulate::ROLE;
use runner_core::arn::ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct GetRole {
    role_name: String,
}

impl OperationInput for GetRole {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        let arn = format!("arn:aws:iam::{ACCOUNT}:role/{}", self.role_name);
        Ok((RequestScope::of([ResourceNames::named(arn)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, RefusedCall> {
        if self.role_name != ROLE {
            return Err(no_such(&format!("role with the name {}", self.role_name)));
        }
        Ok(json!({"Role": {
            "Path": "/",
            "RoleName": ROLE,
            "RoleId": "AROARUNNERBUILD00000",
            "Arn": format!("arn:aws:iam::{ACCOUNT}:role/{ROLE}"),
            "CreateDate": "2026-01-01T00:00:00Z",
            "Description": "represents this program's identity at AWS, which builds and sessions \
             use",
        }}))
    }
}

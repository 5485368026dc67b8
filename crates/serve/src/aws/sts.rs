//! STS: tells callers who they are.

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::operations::{OperationInput, RequestScope};
use runner_core::arn::ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(super) struct GetCallerIdentity {}

impl OperationInput for GetCallerIdentity {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), origin: &Origin, _: &Endpoint) -> Result<Value, RefusedCall> {
        Ok(json!({
            "Arn": origin.caller.arn,
            "UserId": origin.caller.user_id,
            "Account": ACCOUNT,
        }))
    }
}

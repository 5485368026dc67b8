//! STS: who am I.

use super::call::Refusal;
use super::endpoint::{Endpoint, Origin};
use super::operations::{Input, Scope};
use runner_core::arn::ACCOUNT;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(super) struct GetCallerIdentity {}

impl Input for GetCallerIdentity {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        Ok((Scope::all(), ()))
    }

    async fn answer(self, (): (), origin: &Origin, _: &Endpoint) -> Result<Value, Refusal> {
        Ok(json!({
            "Arn": origin.caller.arn,
            "UserId": origin.caller.user_id,
            "Account": ACCOUNT,
        }))
    }
}

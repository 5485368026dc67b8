//! STS: who am I.

use super::call::{Call, Refusal, unknown};
use super::policy::Caller;
use crate::amazon::ACCOUNT;
use serde_json::{Value, json};

pub(super) fn answer(call: &Call, caller: &Caller) -> Result<Value, Refusal> {
    match call.operation.as_str() {
        "GetCallerIdentity" => Ok(json!({
            "Arn": caller.arn,
            "UserId": caller.key_id,
            "Account": ACCOUNT,
        })),
        other => Err(unknown(call.service, other)),
    }
}

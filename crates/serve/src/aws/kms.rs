//! KMS: describes the key of encrypted sessions by asking AWS with this program's own credentials.

use super::call::RefusedCall;
use super::endpoint::{Endpoint, Origin};
use super::operations::{OperationInput, RequestScope};
use super::resources::ResourceNames;
use runner_cloud::CallError;
use runner_core::arn::arn;
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of a key's name.
const MOST: usize = 2048;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeKey {
    key_id: String,
}

impl OperationInput for DescribeKey {
    /// The key's name as the policies know it before AWS is asked.
    type Subject = String;

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, String), RefusedCall> {
        let id = &self.key_id;
        if id.is_empty() || id.len() > MOST || id.chars().any(char::is_control) {
            let text = format!("KeyId is to have 1 to {MOST} characters");
            return Err(RefusedCall::new("ValidationException", text));
        }
        let name = match id.as_str() {
            id if id.starts_with("arn:") => id.to_owned(),
            id if id.starts_with("alias/") => arn("kms", id),
            id => arn("kms", &format!("key/{id}")),
        };
        Ok((RequestScope::of([ResourceNames::named(name.clone())]), name))
    }

    async fn answer(
        self,
        name: String,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let described = endpoint.deliveries.describe_key(&self.key_id, &origin.region).await;
        let described = described.map_err(|error| refusal(&error))?;
        // A key that is denied by its own ARN is denied by an alias, too.
        let arn = described["KeyMetadata"]["Arn"].as_str().ok_or_else(|| {
            RefusedCall::new("KMSInternalException", "KMS describes the key without its ARN")
        })?;
        let key = ResourceNames::named(name).known_as(arn.to_owned());
        let judged = endpoint.judge(origin, "kms:DescribeKey", &RequestScope::of([key]));
        judged.map_err(|why| RefusedCall::new("AccessDeniedException", why))?;
        Ok(described)
    }
}

/// AWS's refusal, if this call may have its code; otherwise a general one with the text.
fn refusal(error: &CallError) -> RefusedCall {
    const CODES: [&str; 4] = [
        "NotFoundException",
        "InvalidArnException",
        "AccessDeniedException",
        "ValidationException",
    ];
    match error {
        CallError::Service { code, message } => {
            match CODES.into_iter().find(|known| known == code) {
                Some(code) => RefusedCall::new(code, message.clone()),
                None => RefusedCall::new("KMSInternalException", error.to_string()),
            }
        }
        CallError::Credentials(_) | CallError::Unreachable { .. } => {
            RefusedCall::new("DependencyTimeoutException", error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kms_says_is_passed_on() {
        let of = |code: &str| {
            let (code, message) = (code.to_owned(), "no".to_owned());
            let RefusedCall { code, message, .. } = refusal(&CallError::Service { code, message });
            (code, message)
        };
        assert_eq!(of("NotFoundException"), ("NotFoundException", "no".to_owned()));
        let other = ("KMSInternalException", "UnrecognizedClientException: no".to_owned());
        assert_eq!(of("UnrecognizedClientException"), other);
        let none = refusal(&CallError::Credentials("none".to_owned()));
        assert!(none.message.contains("no AWS credentials can be had: none"), "{none:?}");
    }
}

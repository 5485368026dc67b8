//! Hides secrets of requests and responses from the audit.

use crate::gateway::HIDDEN;
use runner_core::mask::Secrets;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Bytes of a text above which only its length and hash are shown.
const MAX_TEXT: usize = 4 << 10;
/// The same limit for documents.
const MAX_CONTENT: usize = 1 << 10;
/// Bytes of a request or response above which only its length is shown.
const MAX_BYTES: usize = 16 << 10;
/// Members that are secrets everywhere, in lower case.
const SECRETS: [&str; 5] =
    ["tokenvalue", "secretaccesskey", "sessiontoken", "authorization", "password"];
/// Members that hold variables, in lower case: names are shown, values are hidden.
const VARIABLES: [&str; 3] =
    ["environment", "environmentvariables", "environmentvariablesoverride"];

/// Shows the content of one call.
pub(super) struct ShownCall<'s> {
    action: &'static str,
    secrets: &'s Secrets,
}

impl<'s> ShownCall<'s> {
    /// For calls of this action; replaces `secrets` everywhere.
    pub(super) fn new(action: &'static str, secrets: &'s Secrets) -> Self {
        ShownCall { action, secrets }
    }

    /// The members of a request, named as in CloudTrail.
    pub(super) fn parameters(&self, body: &Value) -> Value {
        let mut shown = self.bounded(body);
        if let Value::Object(members) = &mut shown {
            // These belong to the query protocol.
            members.retain(|name, _| name != "action" && name != "version");
            if members.is_empty() {
                return Value::Null;
            }
        }
        shown
    }

    /// The members of a response.
    pub(super) fn elements(&self, answer: &Value) -> Value {
        match self.bounded(answer) {
            Value::Object(members) if members.is_empty() => Value::Null,
            shown => shown,
        }
    }

    /// The message of a refusal. Hidden if it might repeat hidden parameters.
    pub(super) fn message(&self, code: &str, text: &str) -> String {
        match self.action {
            "ssm:SendCommand" if !code.starts_with("AccessDenied") => HIDDEN.to_owned(),
            _ => self.text(text),
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.secrets.mask_text(&mut text);
        text
    }

    fn bounded(&self, value: &Value) -> Value {
        let shown = self.value(value, "");
        let length = shown.to_string().len();
        if length <= MAX_BYTES { shown } else { json!({"omitted": format!("{length} bytes")}) }
    }

    /// A value; `name` is the member that holds it.
    fn value(&self, value: &Value, name: &str) -> Value {
        match value {
            Value::Object(members) if name == "parameters" => self.arguments(members),
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| {
                    let name = lower_first(name);
                    let value = self.member(value, &name);
                    (name, value)
                });
                Value::Object(members.collect())
            }
            Value::Array(items) => items.iter().map(|item| self.value(item, name)).collect(),
            Value::String(text) => Value::String(self.string(text, name)),
            other => other.clone(),
        }
    }

    fn member(&self, value: &Value, name: &str) -> Value {
        let lower = name.to_ascii_lowercase();
        if SECRETS.contains(&lower.as_str()) || self.hides(name) {
            return if value.is_null() { Value::Null } else { json!(HIDDEN) };
        }
        if VARIABLES.contains(&lower.as_str())
            && let Value::Array(variables) = value
        {
            return variables.iter().map(|variable| self.variable(variable)).collect();
        }
        self.value(value, name)
    }

    /// Members that AWS hides in single operations.
    fn hides(&self, name: &str) -> bool {
        matches!(
            (self.action, name),
            ("ssm:SendCommand" | "ssm:ListCommands", "parameters")
                | ("codebuild:ImportSourceCredentials", "token")
        )
    }

    /// A variable without its value.
    fn variable(&self, variable: &Value) -> Value {
        let mut shown = self.value(variable, "");
        if let Some(value) = shown.get_mut("value") {
            *value = json!(HIDDEN);
        }
        shown
    }

    /// A document's parameters: their names come from the document.
    fn arguments(&self, members: &Map<String, Value>) -> Value {
        let one = |(name, value): (&String, &Value)| (name.clone(), self.value(value, ""));
        Value::Object(members.iter().map(one).collect())
    }

    fn string(&self, text: &str, name: &str) -> String {
        let most = if name == "content" { MAX_CONTENT } else { MAX_TEXT };
        if text.len() > most {
            let digest = Sha256::digest(text.as_bytes());
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            return format!("{} bytes, sha256 {digest}", text.len());
        }
        self.text(text)
    }
}

/// A member's name as CloudTrail writes it.
fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    match letters.next() {
        Some(first) => first.to_ascii_lowercase().to_string() + letters.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(action: &'static str, body: &Value) -> Value {
        let secrets = Secrets::new([b"the-secret-key".to_vec()]).expect("secrets");
        ShownCall::new(action, &secrets).parameters(body)
    }

    #[test]
    fn names_are_cloudtrails_and_arguments_keep_theirs() {
        let body = json!({"Target": "codebuild:x", "Parameters": {"Cmd": ["ls the-secret-key"]}});
        let wanted = json!({"target": "codebuild:x", "parameters": {"Cmd": ["ls ***"]}});
        assert_eq!(shown("ssm:StartSession", &body), wanted);
        let query = json!({"Action": "X", "Version": "1", "PolicySourceArn": "a"});
        assert_eq!(shown("iam:X", &query), json!({"policySourceArn": "a"}));
        assert_eq!(shown("sts:X", &json!({"Action": "X", "Version": "1"})), Value::Null);
    }

    #[test]
    fn what_is_not_to_be_read_is_hidden() {
        let body =
            json!({"TokenValue": "t", "a": [{"SecretAccessKey": "s"}], "sessionToken": null});
        let wanted =
            json!({"tokenValue": HIDDEN, "a": [{"secretAccessKey": HIDDEN}], "sessionToken": null});
        assert_eq!(shown("x:Y", &body), wanted);
        let body = json!({"Parameters": {"commands": ["x"]}, "DocumentName": "d"});
        let wanted = json!({"parameters": HIDDEN, "documentName": "d"});
        assert_eq!(shown("ssm:SendCommand", &body), wanted);
        let variables = json!([{"name": "A", "value": "v", "type": "PLAINTEXT"}]);
        let hidden = json!([{"name": "A", "value": HIDDEN, "type": "PLAINTEXT"}]);
        for (body, wanted) in [
            (
                json!({"environmentVariablesOverride": variables}),
                json!({"environmentVariablesOverride": hidden}),
            ),
            (
                json!({"environment": {"image": "x", "environmentVariables": variables}}),
                json!({"environment": {"image": "x", "environmentVariables": hidden}}),
            ),
            (
                json!({"overrides": {"containerOverrides": [{"environment": variables}]}}),
                json!({"overrides": {"containerOverrides": [{"environment": hidden}]}}),
            ),
        ] {
            assert_eq!(shown("codebuild:StartBuild", &body), wanted);
        }
    }

    #[test]
    fn what_is_long_is_shown_by_its_length() {
        let text = "x".repeat(1025);
        let content = shown("ssm:CreateDocument", &json!({"Content": text, "Name": "n"}));
        assert!(
            content["content"].as_str().is_some_and(|text| text.starts_with("1025 bytes, sha256 "))
        );
        let many: Vec<String> = (0..70).map(|_| text.clone()).collect();
        let omitted = shown("x:Y", &json!({ "a": many }));
        assert!(
            omitted["omitted"].as_str().is_some_and(|text| text.ends_with(" bytes")),
            "{omitted}"
        );
    }
}

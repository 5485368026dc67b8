//! The texts of the handshake, which agrees on the session's type and encryption.
//!
//! `channel` decides the order of messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The action with which a client creates a data key.
const KMS_ENCRYPTION: &str = "KMSEncryption";

/// Our version, which clients compare. It must have exactly four numbers: with three, clients
/// silently disable every feature that depends on a version. It is high enough for multiplexed
/// forwarding without keep-alive.
pub const AGENT_VERSION: &str = "3.3.0.0";

/// The type of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// A shell on a terminal.
    StandardStream,
    /// A command on a terminal.
    InteractiveCommands,
    /// A command without a terminal.
    NonInteractiveCommands,
    /// Forwarded connections.
    Port,
}

impl SessionType {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SessionType::StandardStream => "Standard_Stream",
            SessionType::InteractiveCommands => "InteractiveCommands",
            SessionType::NonInteractiveCommands => "NonInteractiveCommands",
            SessionType::Port => "Port",
        }
    }
}

/// The KMS key that encrypts a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// ID, ARN or alias.
    pub id: String,
    /// Random text in base64. Clients that support it bind the data key to it.
    pub challenge: String,
}

/// Makes the handshake request. `properties` are sent only for port sessions.
#[must_use]
pub fn request(kind: SessionType, properties: &Value, key: Option<&KmsKey>) -> String {
    let mut actions = vec![json!({
        "ActionType": "SessionType",
        "ActionParameters": {"SessionType": kind.name(), "Properties": properties},
    })];
    actions.extend(key.map(|key| {
        json!({
            "ActionType": KMS_ENCRYPTION,
            "ActionParameters": {"KMSKeyId": key.id, "Challenge": key.challenge},
        })
    }));
    json!({"AgentVersion": AGENT_VERSION, "RequestedClientActions": actions}).to_string()
}

/// Makes the challenge, which the client decrypts and encrypts again with its own key.
#[must_use]
pub fn challenge(sealed: &[u8]) -> String {
    json!({"Challenge": BASE64.encode(sealed)}).to_string()
}

/// Returns the client's answer to a challenge, still encrypted.
#[must_use]
pub fn challenge_response(text: &[u8]) -> Option<Vec<u8>> {
    let response: Value = serde_json::from_slice(text).ok()?;
    BASE64.decode(response.get("Challenge")?.as_str()?).ok()
}

/// Makes the last message of the handshake.
#[must_use]
pub fn complete(took: std::time::Duration, message: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Complete<'a> {
        handshake_time_to_complete: u64,
        customer_message: &'a str,
    }
    let handshake_time_to_complete = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let text = Complete { handshake_time_to_complete, customer_message: message };
    // Serializing two plain fields cannot fail.
    serde_json::to_string(&text).unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    #[serde(default)]
    client_version: String,
    #[serde(default)]
    processed_client_actions: Option<Vec<Action>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Action {
    #[serde(default)]
    action_type: String,
    #[serde(default)]
    action_status: i64,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    action_result: Value,
}

/// The response of a client that supports the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Version of the client.
    pub version: ClientVersion,
    /// The data key, encrypted by KMS, if the session is encrypted.
    pub data_key: Option<DataKey>,
}

/// A data key that only KMS can decrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// The encrypted key.
    pub sealed: Vec<u8>,
    /// Whether it is also bound to the challenge.
    pub has_challenge: bool,
}

fn data_key(result: &Value) -> Option<DataKey> {
    let sealed = BASE64.decode(result.get("KMSCipherTextKey")?.as_str()?).ok()?;
    let has_challenge = result.get("ChallengeAcknowledgement").is_some_and(|value| value == true);
    (!sealed.is_empty()).then_some(DataKey { sealed, has_challenge })
}

/// Parses the client's response.
///
/// # Errors
/// One sentence for the user: the client does not support the session, or the response is invalid.
pub fn response(text: &[u8]) -> Result<Answered, String> {
    const SUCCESS: i64 = 1;
    let response: Response = serde_json::from_slice(text)
        .map_err(|error| format!("the client's handshake cannot be read: {error}"))?;
    let actions = response.processed_client_actions.unwrap_or_default();
    if actions.is_empty() {
        return Err("the client's handshake says nothing about the session".to_owned());
    }
    let mut sealed = None;
    for action in actions {
        if action.action_type == KMS_ENCRYPTION {
            sealed = data_key(&action.action_result);
        }
        if action.action_status != SUCCESS {
            let error = action.error.filter(|error| !error.is_empty());
            return Err(error.unwrap_or_else(|| {
                format!("the client does not support the action {}", action.action_type)
            }));
        }
    }
    let version = ClientVersion::parse(&response.client_version);
    Ok(Answered { version, data_key: sealed })
}

/// A client's version, as numbers. A build from source reports 1.2.0.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientVersion(Vec<u32>);

impl ClientVersion {
    fn parse(text: &str) -> Self {
        let numbers: Result<Vec<u32>, _> = text.split('.').take(8).map(str::parse).collect();
        ClientVersion(numbers.unwrap_or_default())
    }

    /// Whether the client multiplexes connections.
    #[must_use]
    pub fn multiplexes(&self) -> bool {
        self.0.as_slice() >= [1, 1, 70].as_slice()
    }

    /// Whether the client handles error output and exit codes. A build from source counts as the
    /// newest version.
    #[must_use]
    pub fn tells_outputs_apart(&self) -> bool {
        self.0.as_slice() >= [1, 2, 312].as_slice() || self.0 == [1, 2, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_clients() {
        let good = br#"{"ClientVersion":"1.2.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#;
        let Answered { version, data_key } = response(good).expect("good");
        assert_eq!(data_key, None);
        assert!(version.multiplexes() && version.tells_outputs_apart());
        let refused = br#"{"ClientVersion":"1.2.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":2,"ActionResult":null,"Error":"Unknown session type Port"}]}"#;
        assert_eq!(response(refused), Err("Unknown session type Port".to_owned()));
        let unknown = br#"{"ProcessedClientActions":[{"ActionType":"KMSEncryption","ActionStatus":0,"ActionResult":3}],"Errors":["x"]}"#;
        assert!(response(unknown).expect_err("unknown").contains("KMSEncryption"));
        for bad in [&b""[..], b"{}", b"[]", b"{\"ProcessedClientActions\":7}", b"\xff"] {
            assert!(response(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions() {
        for (text, mux, apart) in [
            ("1.1.69.0", false, false),
            ("1.1.70.0", true, false),
            ("1.2.295.0", true, false),
            ("1.2.312.0", true, true),
            ("1.2.764.0", true, true),
            ("2.0", true, true),
            ("", false, false),
            ("dev", false, false),
        ] {
            let version = ClientVersion::parse(text);
            assert_eq!(
                (version.multiplexes(), version.tells_outputs_apart()),
                (mux, apart),
                "{text}"
            );
        }
    }

    #[test]
    fn the_request_is_what_clients_know() {
        assert_eq!(
            request(SessionType::StandardStream, &Value::Null, None),
            r#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionParameters":{"Properties":null,"SessionType":"Standard_Stream"},"ActionType":"SessionType"}]}"#
        );
    }

    #[test]
    fn data_keys() {
        let key = KmsKey { id: "alias/k".to_owned(), challenge: "cmFuZG9t".to_owned() };
        let text = request(SessionType::StandardStream, &Value::Null, Some(&key));
        let text: Value = serde_json::from_str(&text).expect("JSON");
        // In exactly this order.
        assert_eq!(text["RequestedClientActions"][0]["ActionType"], "SessionType");
        assert_eq!(
            text["RequestedClientActions"][1],
            json!({"ActionType": "KMSEncryption",
                "ActionParameters": {"KMSKeyId": "alias/k", "Challenge": "cmFuZG9t"}})
        );
        let answer = |result: Value| {
            let actions = json!([{"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null},
                {"ActionType": "KMSEncryption", "ActionStatus": 1, "ActionResult": result}]);
            let text = json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": actions});
            response(text.to_string().as_bytes()).expect("good").data_key
        };
        let sealed = b"key".to_vec();
        let result = json!({"KMSCipherTextKey": "a2V5", "KMSCipherTextHash": null});
        assert_eq!(answer(result), Some(DataKey { sealed: sealed.clone(), has_challenge: false }));
        let result = json!({"KMSCipherTextKey": "a2V5", "ChallengeAcknowledgement": true});
        assert_eq!(answer(result), Some(DataKey { sealed, has_challenge: true }));
        for bad in [
            json!(null),
            json!({}),
            json!({"KMSCipherTextKey": ""}),
            json!({"KMSCipherTextKey": "%"}),
        ] {
            assert_eq!(answer(bad), None);
        }
        assert_eq!(challenge_response(challenge(b"x").as_bytes()).as_deref(), Some(&b"x"[..]));
        assert_eq!(challenge_response(b"{\"Challenge\":7}"), None);
    }
}

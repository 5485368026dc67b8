//! The handshake: what session this is, and what the client makes of it.
//!
//! The texts of the channel's first messages. Their order is `channel`'s business.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The action by which a client has a data key made.
const KMS_ENCRYPTION: &str = "KMSEncryption";

/// Our version as clients compare it. Exactly four numbers: with three, every feature that depends on
/// a version is silently off. High enough for multiplexed forwarding without keep-alive.
pub const AGENT_VERSION: &str = "3.3.0.0";

/// What runs at this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionType {
    /// A shell on a terminal.
    StandardStream,
    /// A command on a terminal.
    InteractiveCommands,
    /// A command without one.
    NonInteractiveCommands,
    /// Connections.
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

/// The key of AWS KMS that a session is to be encrypted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsKey {
    /// Its id, ARN or alias.
    pub id: String,
    /// Random, in base64: a part of what the data key is bound to, with clients that know of it.
    pub challenge: String,
}

/// The request's text. `properties` are sent for port sessions only.
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

/// The text that a client is to encrypt with its own key: what it gets is encrypted, as it reads with the other.
#[must_use]
pub fn challenge(sealed: &[u8]) -> String {
    json!({"Challenge": BASE64.encode(sealed)}).to_string()
}

/// What a client has answered to a challenge, still encrypted.
#[must_use]
pub fn challenge_response(text: &[u8]) -> Option<Vec<u8>> {
    let response: Value = serde_json::from_slice(text).ok()?;
    BASE64.decode(response.get("Challenge")?.as_str()?).ok()
}

/// The last word's text.
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
    // Two plain fields cannot fail to be written.
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

/// What a client that can do what it was asked has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its version.
    pub version: ClientVersion,
    /// The data key, as AWS KMS has encrypted it, where the session is to have one.
    pub data_key: Option<DataKey>,
}

/// A data key that only AWS KMS can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKey {
    /// Its bytes.
    pub sealed: Vec<u8>,
    /// Whether it is bound to the request's challenge, too.
    pub has_challenge: bool,
}

fn data_key(result: &Value) -> Option<DataKey> {
    let sealed = BASE64.decode(result.get("KMSCipherTextKey")?.as_str()?).ok()?;
    let has_challenge = result.get("ChallengeAcknowledgement").is_some_and(|value| value == true);
    (!sealed.is_empty()).then_some(DataKey { sealed, has_challenge })
}

/// What the client has answered, or why there will be no session.
///
/// # Errors
/// One sentence for the person: the client cannot do what it was asked, or the answer is none.
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

/// A client's version, number by number. One built from source says 1.2.0.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientVersion(Vec<u32>);

impl ClientVersion {
    fn parse(text: &str) -> Self {
        let numbers: Result<Vec<u32>, _> = text.split('.').take(8).map(str::parse).collect();
        ClientVersion(numbers.unwrap_or_default())
    }

    /// Whether it multiplexes connections.
    #[must_use]
    pub fn multiplexes(&self) -> bool {
        self.0.as_slice() >= [1, 1, 70].as_slice()
    }

    /// Whether it knows errors and exit codes as such. One built from source is as new as they come.
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
        // In this order.
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

//! The handshake: what session this is, and what the client makes of it.
//!
//! The texts of the channel's first messages. Their order is `channel`'s business.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// The request's text. `properties` are sent for port sessions only.
#[must_use]
pub fn request(kind: SessionType, properties: &Value) -> String {
    serde_json::json!({
        "AgentVersion": AGENT_VERSION,
        "RequestedClientActions": [{
            "ActionType": "SessionType",
            "ActionParameters": {"SessionType": kind.name(), "Properties": properties},
        }],
    })
    .to_string()
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
}

/// What the client has answered: its version, or why there will be no session.
///
/// # Errors
/// One sentence for the person: the client cannot do what it was asked, or the answer is none.
pub fn response(text: &[u8]) -> Result<ClientVersion, String> {
    const SUCCESS: i64 = 1;
    let response: Response = serde_json::from_slice(text)
        .map_err(|error| format!("the client's handshake cannot be read: {error}"))?;
    let actions = response.processed_client_actions.unwrap_or_default();
    if actions.is_empty() {
        return Err("the client's handshake says nothing about the session".to_owned());
    }
    for action in actions {
        if action.action_status != SUCCESS {
            let error = action.error.filter(|error| !error.is_empty());
            return Err(error.unwrap_or_else(|| {
                format!("the client does not support the action {}", action.action_type)
            }));
        }
    }
    Ok(ClientVersion::parse(&response.client_version))
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
        let version = response(good).expect("good");
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
            request(SessionType::StandardStream, &Value::Null),
            r#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionParameters":{"Properties":null,"SessionType":"Standard_Stream"},"ActionType":"SessionType"}]}"#
        );
    }
}

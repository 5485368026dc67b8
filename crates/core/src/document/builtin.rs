//! The built-in documents: AWS's own, as far as they make sense for a build.

use super::DocumentType;
use serde_json::{Value, json};

/// One of AWS's own documents.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its name in requests.
    pub name: &'static str,
    /// Its type.
    pub kind: DocumentType,
    content: fn() -> Value,
}

impl Builtin {
    /// Its content.
    #[must_use]
    pub fn content(&self) -> Value {
        (self.content)()
    }
}

/// All built-in documents, by name.
pub const BUILTINS: &[Builtin] = &[
    Builtin { name: "AWS-RunShellScript", kind: DocumentType::Command, content: run_shell_script },
    Builtin {
        name: "AWS-StartInteractiveCommand",
        kind: DocumentType::Session,
        content: interactive,
    },
    Builtin {
        name: "AWS-StartNonInteractiveCommand",
        kind: DocumentType::Session,
        content: non_interactive,
    },
    Builtin {
        name: "AWS-StartPortForwardingSession",
        kind: DocumentType::Session,
        content: forwarding,
    },
    Builtin {
        name: "AWS-StartPortForwardingSessionToRemoteHost",
        kind: DocumentType::Session,
        content: forwarding_to_host,
    },
    Builtin {
        name: "AWS-StartPortForwardingSessionToSocket",
        kind: DocumentType::Session,
        content: forwarding_to_socket,
    },
    Builtin { name: "AWS-StartSSHSession", kind: DocumentType::Session, content: ssh },
];

/// Returns the document with this name.
#[must_use]
pub fn builtin(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|document| document.name == name)
}

/// Allowed values of a command's timeout: seconds, up to two days.
pub(super) const EXECUTION_TIMEOUT: &str =
    "([1-9][0-9]{0,4})|(1[0-6][0-9]{4})|(17[0-1][0-9]{3})|(172[0-7][0-9]{2})|(172800)";
/// A port; the second pattern also allows 0 for any port.
const PORT: &str = "^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";
const LOCAL_PORT: &str = "^([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";
/// Allowed prefix of output lines.
const PREFIX: &str = "^[0-9a-zA-Z\\r\\n_:-]{0,30}$";

fn run_shell_script() -> Value {
    json!({
        "schemaVersion": "1.2",
        "description": "Run a shell script or specify the commands to run.",
        "parameters": {
            "commands": {
                "type": "StringList",
                "description": "(Required) Specify a shell script or a command to run.",
                "minItems": 1,
                "displayType": "textarea",
            },
            "workingDirectory": {
                "type": "String",
                "default": "",
                "description": "(Optional) The path to the working directory in the build's container.",
                "maxChars": 4096,
            },
            "executionTimeout": {
                "type": "String",
                "default": "3600",
                "description": "(Optional) The time in seconds for a command to complete before it is considered \
                                to have failed. Default is 3600 (1 hour). Maximum is 172800 (48 hours).",
                "allowedPattern": EXECUTION_TIMEOUT,
            },
        },
        "runtimeConfig": {
            "aws:runShellScript": {
                "properties": [{
                    "id": "0.aws:runShellScript",
                    "runCommand": "{{ commands }}",
                    "workingDirectory": "{{ workingDirectory }}",
                    "timeoutSeconds": "{{ executionTimeout }}",
                }],
            },
        },
    })
}

fn session(kind: &str, description: &str, parameters: &Value, properties: &Value) -> Value {
    json!({
        "schemaVersion": "1.0",
        "description": description,
        "sessionType": kind,
        "parameters": parameters,
        "properties": properties,
    })
}

fn interactive() -> Value {
    session(
        "InteractiveCommands",
        "Document to run single interactive command on an instance",
        &json!({"command": {"type": "String", "description": "(Required) The command to run on a terminal"}}),
        &json!({"linux": {"commands": "{{ command }}", "runAsElevated": false}}),
    )
}

fn non_interactive() -> Value {
    let prefix = |of: &str| {
        json!({
            "type": "String",
            "description": format!("(Optional) What begins each line of {of}"),
            "default": "",
            "allowedPattern": PREFIX,
        })
    };
    session(
        "NonInteractiveCommands",
        "Document to run single non-interactive command on an instance",
        &json!({
            "command": {"type": "String", "description": "(Required) The command to run without a terminal"},
            "separateOutputStream": {
                "type": "String",
                "description": "(Optional) Whether output and errors are sent separately",
                "default": "false",
                "allowedPattern": "(?i)true|false",
            },
            "stdOutSeparatorPrefix": prefix("output"),
            "stdErrSeparatorPrefix": prefix("errors"),
        }),
        &json!({
            "linux": {"commands": "{{ command }}", "runAsElevated": false},
            "separateOutputStream": "{{ separateOutputStream }}",
            "stdOutSeparatorPrefix": "{{ stdOutSeparatorPrefix }}",
            "stdErrSeparatorPrefix": "{{ stdErrSeparatorPrefix }}",
        }),
    )
}

fn port(description: &str, pattern: &str, default: &str) -> Value {
    json!({"type": "String", "description": description, "allowedPattern": pattern, "default": default})
}

fn forwarding() -> Value {
    session(
        "Port",
        "Document to start port forwarding session over Session Manager",
        &json!({
            "portNumber": port("(Optional) Port number of the server on the instance", PORT, "80"),
            "localPortNumber": port("(Optional) Port number on local machine", LOCAL_PORT, "0"),
        }),
        &json!({
            "portNumber": "{{ portNumber }}",
            "type": "LocalPortForwarding",
            "localPortNumber": "{{ localPortNumber }}",
        }),
    )
}

fn forwarding_to_host() -> Value {
    let mut document = forwarding();
    document["description"] =
        json!("Document to start port forwarding session over Session Manager to remote host");
    document["parameters"]["host"] = json!({
        "type": "String",
        "description": "(Required) Hostname or IP address of the destination server",
        "minChars": 1,
        "maxChars": 253,
        "allowedPattern": "[a-zA-Z0-9.:_%\\[\\]-]+",
    });
    document["properties"]["host"] = json!("{{ host }}");
    document
}

fn forwarding_to_socket() -> Value {
    session(
        "Port",
        "Document to start port forwarding session over Session Manager to a local socket",
        &json!({
            "portNumber": port("(Optional) Port number of the server on the instance", PORT, "80"),
            "localUnixSocket": {
                "type": "String",
                "description": "(Required) Path of the socket on local machine",
                "minChars": 1,
            },
        }),
        &json!({
            "portNumber": "{{ portNumber }}",
            "type": "LocalPortForwarding",
            "localConnectionType": "unix",
            "localUnixSocket": "{{ localUnixSocket }}",
        }),
    )
}

fn ssh() -> Value {
    session(
        "Port",
        "Document to start SSH session over Session Manager",
        &json!({"portNumber": port("(Optional) SSH port number to open on the instance", PORT, "22")}),
        &json!({"portNumber": "{{ portNumber }}"}),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Parameters;
    use super::*;

    #[test]
    fn their_parameters_are_declared_well() {
        for document in BUILTINS {
            let content = document.content();
            let read = Parameters::read(content.get("parameters"));
            assert!(read.is_ok(), "{}: {read:?}", document.name);
        }
    }
}

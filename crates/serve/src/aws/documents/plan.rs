//! Plans a session from a document: fills in parameters and applies preferences.

use super::lookup::{DocumentContent, PREFERENCES, found};
use crate::aws::call::RefusedCall;
use crate::gateway::{Destination, Outputs, SessionPlan, SessionWork, User};
use runner_core::agent::AgentConfig;
use runner_core::document::{
    GivenParameters, Preferences, Resolved, SessionDocument, SessionKind, Wrong, is_user,
};
use runner_folder::state::Documents;
use runner_wire::ssm::handshake::SessionType;
use serde_json::{Value, json};
use std::time::Duration;

/// The inputs of a session's plan.
pub(in crate::aws) struct SessionAsking<'a> {
    /// The named document; `None` for a shell.
    pub(in crate::aws) document: Option<&'a DocumentContent>,
    /// The document with preferences for all sessions, if there is one.
    pub(in crate::aws) preferences: Option<&'a DocumentContent>,
    pub(in crate::aws) parameters: &'a GivenParameters,
    pub(in crate::aws) agent: &'a AgentConfig,
    /// The caller's tag `SSMSessionRunAs`.
    pub(in crate::aws) run_as: Option<&'a str>,
}

/// A planned session, with the limits from its preferences.
#[derive(Debug)]
pub(in crate::aws) struct PlannedSession {
    pub(in crate::aws) plan: SessionPlan,
    pub(in crate::aws) idle: Option<Duration>,
    pub(in crate::aws) longest: Option<Duration>,
}

fn refuse(text: impl Into<String>) -> RefusedCall {
    RefusedCall::new("InvalidDocument", text)
}

/// Plans a session.
///
/// # Errors
/// If it cannot be planned: names the parameter or preference at fault.
pub(in crate::aws) fn plan(asking: &SessionAsking<'_>) -> Result<PlannedSession, RefusedCall> {
    let resolved = match asking.document {
        Some(found) => resolved(found, asking.parameters)?,
        // No document was named and there are no defaults: a shell.
        None => {
            if let Some(name) = asking.parameters.keys().next() {
                let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
                return Err(refuse(format!("parameter `{name}` is not defined; there are: none")));
            }
            let kind = SessionKind::StandardStream;
            Resolved { kind, preferences: None, properties: Value::Null }
        }
    };
    let preferences = match (resolved.preferences.clone(), asking.preferences) {
        (Some(own), _) => own,
        (None, Some(found)) => resolved_preferences(found)?.unwrap_or_default(),
        (None, None) => Preferences::default(),
    };
    let mut plan = work(&resolved, asking.agent)?;
    let elevated = resolved.properties.pointer("/linux/runAsElevated").is_some_and(is_true);
    if resolved.kind == SessionKind::Port {
        if !preferences.logs.is_empty() {
            "Port forwarding sessions are not logged.".clone_into(&mut plan.message);
        }
    } else {
        plan.key = Some(preferences.kms_key.clone()).filter(|key| !key.is_empty());
        plan.logs = preferences.logs.clone();
        match user(&preferences, elevated, asking) {
            Ok(user) => plan.user = user,
            Err(Reason::Refused(refusal)) => return Err(refusal),
            Err(Reason::AtStart(text)) => plan.fails = Some(text),
        }
    }
    if let SessionWork::Shell { profile } = &mut plan.work {
        profile.clone_from(&preferences.shell_profile);
    }
    Ok(PlannedSession { plan, idle: preferences.idle, longest: preferences.longest })
}

/// Reads a session's document.
fn session(found: &DocumentContent) -> Result<SessionDocument, RefusedCall> {
    SessionDocument::read(&found.content).map_err(|wrong| {
        let why = match wrong {
            Wrong::Schema(text) => text,
            Wrong::Content(problems) => problems.join("; "),
        };
        refuse(format!("Document {} is none of a session: {why}", found.name()))
    })
}

fn resolved(
    found: &DocumentContent,
    parameters: &GivenParameters,
) -> Result<Resolved, RefusedCall> {
    session(found)?
        .resolve(parameters)
        .map_err(|problems| refuse(format!("Document {}: {}", found.name(), problems.join("; "))))
}

fn resolved_preferences(found: &DocumentContent) -> Result<Option<Preferences>, RefusedCall> {
    Ok(resolved(found, &GivenParameters::new())?.preferences)
}

/// The preferences for sessions that set none; empty without such a document.
pub(in crate::aws) fn preferences(documents: &Documents) -> Result<Preferences, RefusedCall> {
    match found(documents, PREFERENCES, Some("$LATEST"), None) {
        Ok(found) => Ok(resolved_preferences(&found)?.unwrap_or_default()),
        Err(refusal) if refusal.code == "InvalidDocument" => Ok(Preferences::default()),
        Err(refusal) => Err(refusal),
    }
}

/// Why no user could be chosen for a session.
enum Reason {
    Refused(RefusedCall),
    /// Reported when the session starts, as AWS's agent does.
    AtStart(String),
}

/// The user of a session; `None` for root.
fn user(
    preferences: &Preferences,
    elevated: bool,
    asking: &SessionAsking<'_>,
) -> Result<Option<User>, Reason> {
    if asking.agent.container_mode() {
        return match preferences.run_as {
            false => Ok(None),
            true => Err(Reason::Refused(refuse(
                "runAsEnabled asks for another user, but sessions are root's where Agent.ContainerMode is true, as in \
                 CodeBuild: set it to false in a file for --agent-config, or take runAsEnabled out of the document",
            ))),
        };
    }
    if elevated {
        return Ok(None);
    }
    if !preferences.run_as {
        return Ok(Some(User { name: "ssm-user".to_owned(), is_made: true }));
    }
    let name = asking.run_as.unwrap_or(&preferences.run_as_user);
    if name.is_empty() {
        return Err(Reason::AtStart("please set the RunAs default user".to_owned()));
    }
    if !is_user(name) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let text = format!("failed to start pty since RunAs user {shown} does not exist");
        return Err(Reason::AtStart(text));
    }
    Ok(Some(User { name: name.to_owned(), is_made: false }))
}

/// The session's work, from the document's properties.
fn work(resolved: &Resolved, agent: &AgentConfig) -> Result<SessionPlan, RefusedCall> {
    let properties = &resolved.properties;
    match resolved.kind {
        SessionKind::StandardStream => Ok(on_terminal(
            SessionType::StandardStream,
            SessionWork::Shell { profile: String::new() },
        )),
        SessionKind::InteractiveCommands => {
            let work = SessionWork::Interactive(argv(properties, agent)?);
            Ok(on_terminal(SessionType::InteractiveCommands, work))
        }
        SessionKind::NonInteractiveCommands => {
            let apart = text(properties, "separateOutputStream").unwrap_or_default();
            let outputs = match apart.to_ascii_lowercase().as_str() {
                "true" => Outputs::Apart {
                    stdout_prefix: prefix(properties, "stdOutSeparatorPrefix")?,
                    stderr_prefix: prefix(properties, "stdErrSeparatorPrefix")?,
                },
                "false" | "" => Outputs::Merged,
                _ => return Err(refuse("separateOutputStream is to be true or false")),
            };
            let work = SessionWork::Command { argv: argv(properties, agent)?, outputs };
            Ok(on_terminal(SessionType::NonInteractiveCommands, work))
        }
        SessionKind::Port => ports(properties, agent),
    }
}

/// A plan for a command of ECS.
pub(in crate::aws) fn command(text: &str) -> Result<SessionPlan, String> {
    Ok(on_terminal(SessionType::InteractiveCommands, SessionWork::Interactive(words(text)?)))
}

fn on_terminal(kind: SessionType, work: SessionWork) -> SessionPlan {
    SessionPlan::new(kind, Value::Null, work)
}

fn is_true(value: &Value) -> bool {
    value == &Value::Bool(true)
        || value.as_str().is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

/// A property as text, at the top level or below `linux`.
fn text(properties: &Value, name: &str) -> Option<String> {
    let value = properties.get(name).or_else(|| properties.get("linux")?.get(name))?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The program and its arguments. On a machine a shell runs the commands, as with AWS's agent.
fn argv(properties: &Value, agent: &AgentConfig) -> Result<Vec<String>, RefusedCall> {
    let commands =
        properties.pointer("/linux/commands").and_then(Value::as_str).unwrap_or_default();
    let argv = match agent.container_mode() {
        true => words(commands),
        false if commands.trim().is_empty() => Err("the command is empty".to_owned()),
        false if commands.contains('\0') => Err("the command has a NUL in it".to_owned()),
        false => Ok(vec!["sh".to_owned(), "-c".to_owned(), commands.to_owned()]),
    };
    argv.map_err(refuse)
}

/// Splits text into words as a shell does, without any expansion.
fn words(text: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(text).ok_or("the command's quotes do not match")?;
    if words.first().is_none_or(String::is_empty) {
        return Err("the command is empty".to_owned());
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err("the command has a NUL in it".to_owned());
    }
    Ok(words)
}

fn prefix(properties: &Value, name: &str) -> Result<String, RefusedCall> {
    let prefix = text(properties, name).unwrap_or_default();
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "\r\n_:-".contains(c);
    match prefix.len() <= 30 && prefix.chars().all(is_allowed) {
        true => Ok(prefix),
        false => {
            Err(refuse(format!("{name} is to be at most 30 of 0-9 a-z A-Z _ : - and line ends")))
        }
    }
}

fn port(properties: &Value, name: &str, least: u16) -> Result<u16, RefusedCall> {
    let text = text(properties, name).unwrap_or_default();
    let is_plain = text.len() <= 5 && text.chars().all(|c| c.is_ascii_digit());
    let number = text.parse().ok().filter(|port| is_plain && *port >= least);
    number.ok_or_else(|| refuse(format!("{name} is to be a number from {least} to 65535")))
}

/// Connections to a port; all properties are strings. Without a type the session carries a single
/// raw connection.
fn ports(properties: &Value, agent: &AgentConfig) -> Result<SessionPlan, RefusedCall> {
    let port_number = port(properties, "portNumber", 1)?;
    let is_raw = text(properties, "type").is_none_or(|kind| kind.is_empty());
    let mut told = json!({"portNumber": port_number.to_string()});
    let mut host = String::new();
    if !is_raw {
        told["type"] = json!("LocalPortForwarding");
        if text(properties, "localPortNumber").is_some_and(|text| !text.is_empty()) {
            let local = port(properties, "localPortNumber", 0)?;
            told["localPortNumber"] = json!(local.to_string());
        }
        if let Some(socket) = text(properties, "localUnixSocket").filter(|text| !text.is_empty()) {
            if socket.contains('\0') {
                return Err(refuse("localUnixSocket is to be the path of a socket"));
            }
            told["localUnixSocket"] = json!(socket);
            told["localConnectionType"] = json!("unix");
        }
    }
    if let Some(named) = text(properties, "host").filter(|text| !text.is_empty()) {
        host = far(named, agent)?;
        told["host"] = json!(host);
    }
    let work = SessionWork::Ports { to: Destination { host, port: port_number }, is_raw };
    let mut plan = SessionPlan::new(SessionType::Port, told, work);
    plan.denied = agent.denied();
    Ok(plan)
}

fn far(host: String, agent: &AgentConfig) -> Result<String, RefusedCall> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".:-_[]%".contains(c);
    if host.len() > 253 || !host.chars().all(is_allowed) {
        return Err(refuse("host is to be a host's name or address"));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let denied = agent.denied();
    if bare.parse().is_ok_and(|address| runner_engine::dial::is_forbidden(address, &denied)) {
        return Err(refuse(format!("Forwarding to IP address {host} is forbidden.")));
    }
    Ok(host)
}

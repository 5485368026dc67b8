//! Session documents: what a name and parameters ask for.
//!
//! Those of Session Manager's own that concern sessions. Which parameters they have, their defaults
//! and what is allowed are the documents' own.

use super::call::Refusal;
use crate::gateway::{Destination, Outputs, SessionPlan, Work};
use runner_wire::ssm::handshake::SessionType;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Parameters as they come: lists, of which the first counts.
pub(super) type Parameters = BTreeMap<String, Vec<String>>;

/// What a session with this document is to be.
pub(super) fn plan(
    document: Option<&str>,
    parameters: &Parameters,
) -> Result<SessionPlan, Refusal> {
    let name = document.unwrap_or("SSM-SessionManagerRunShell");
    // A full ARN will do as well.
    let name = name.rsplit('/').next().unwrap_or(name);
    let given = Given { name, parameters };
    match name {
        "SSM-SessionManagerRunShell" => {
            given.known(&[])?;
            Ok(on_terminal(SessionType::StandardStream, Work::Shell))
        }
        "AWS-StartInteractiveCommand" => {
            given.known(&["command"])?;
            Ok(on_terminal(SessionType::InteractiveCommands, Work::Interactive(given.command()?)))
        }
        "AWS-StartNonInteractiveCommand" => {
            let apart = "separateOutputStream";
            let prefixes = ["stdOutSeparatorPrefix", "stdErrSeparatorPrefix"];
            given.known(&["command", apart, prefixes[0], prefixes[1]])?;
            let outputs = match given.or(apart, "false").to_ascii_lowercase().as_str() {
                "true" => Outputs::Apart {
                    stdout_prefix: given.prefix(prefixes[0])?,
                    stderr_prefix: given.prefix(prefixes[1])?,
                },
                "false" => Outputs::Merged,
                _ => return Err(given.wrong(apart, "true or false")),
            };
            let work = Work::Command { argv: given.command()?, outputs };
            Ok(on_terminal(SessionType::NonInteractiveCommands, work))
        }
        "AWS-StartPortForwardingSession" => given.forwarding(&["portNumber", "localPortNumber"]),
        "AWS-StartPortForwardingSessionToRemoteHost" => {
            given.forwarding(&["portNumber", "localPortNumber", "host"])
        }
        "AWS-StartPortForwardingSessionToSocket" => {
            given.forwarding(&["portNumber", "localUnixSocket"])
        }
        "AWS-StartSSHSession" => {
            given.known(&["portNumber"])?;
            let port = given.port("portNumber", "22", 1)?;
            let properties = json!({"portNumber": port.to_string()});
            let work = Work::Ports { to: Destination { host: String::new(), port }, is_raw: true };
            Ok(SessionPlan { kind: SessionType::Port, properties, work })
        }
        _ => Err(Refusal::new(
            "InvalidDocument",
            format!("Document with name {} does not exist.", shown(name)),
        )),
    }
}

/// A command of ECS.
pub(super) fn command(text: &str) -> Result<SessionPlan, String> {
    Ok(on_terminal(SessionType::InteractiveCommands, Work::Interactive(words(text)?)))
}

fn on_terminal(kind: SessionType, work: Work) -> SessionPlan {
    SessionPlan { kind, properties: Value::Null, work }
}

/// Parted as a shell does, and no more: no shell reads it.
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

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// A document's name and what was given with it.
struct Given<'a> {
    name: &'a str,
    parameters: &'a Parameters,
}

impl Given<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)?.first().map(String::as_str)
    }

    fn or<'b>(&'b self, name: &str, default: &'b str) -> &'b str {
        self.get(name).unwrap_or(default)
    }

    fn wrong(&self, parameter: &str, allowed: &str) -> Refusal {
        let text =
            format!("Parameter \"{parameter}\" of document {} is to be {allowed}.", self.name);
        Refusal::new("InvalidDocument", text)
    }

    /// Only these.
    fn known(&self, names: &[&str]) -> Result<(), Refusal> {
        match self.parameters.keys().find(|name| !names.contains(&name.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(Refusal::new(
                "InvalidDocument",
                format!(
                    "Parameter \"{}\" is not defined in document {}; it has: {}.",
                    shown(unknown),
                    self.name,
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                ),
            )),
        }
    }

    fn command(&self) -> Result<Vec<String>, Refusal> {
        words(self.or("command", "")).map_err(|error| {
            Refusal::new("InvalidDocument", format!("Document {}: {error}.", self.name))
        })
    }

    fn prefix(&self, name: &str) -> Result<String, Refusal> {
        let prefix = self.or(name, "");
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "\r\n_:-".contains(c);
        if prefix.len() > 30 || !prefix.chars().all(is_allowed) {
            return Err(self.wrong(name, "at most 30 of 0-9 a-z A-Z _ : - and line ends"));
        }
        Ok(prefix.to_owned())
    }

    fn port(&self, name: &str, default: &str, least: u16) -> Result<u16, Refusal> {
        let text = self.or(name, default);
        let is_plain = text.len() <= 5 && text.chars().all(|c| c.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|port| is_plain && *port >= least)
            .ok_or_else(|| self.wrong(name, &format!("a number from {least} to 65535")))
    }

    /// Connections to a port: all properties are texts.
    fn forwarding(&self, names: &[&str]) -> Result<SessionPlan, Refusal> {
        self.known(names)?;
        let port = self.port("portNumber", "80", 1)?;
        let mut properties = json!({"portNumber": port.to_string(), "type": "LocalPortForwarding"});
        let mut host = String::new();
        if names.contains(&"localPortNumber") {
            let local = self.port("localPortNumber", "0", 0)?;
            properties["localPortNumber"] = json!(local.to_string());
        }
        if names.contains(&"host") {
            host = self.host()?;
            properties["host"] = json!(host);
        }
        if names.contains(&"localUnixSocket") {
            let socket = self.get("localUnixSocket").unwrap_or_default();
            if socket.is_empty() || socket.contains('\0') {
                return Err(self.wrong("localUnixSocket", "the path of a socket"));
            }
            properties["localUnixSocket"] = json!(socket);
            properties["localConnectionType"] = json!("unix");
        }
        let work = Work::Ports { to: Destination { host, port }, is_raw: false };
        Ok(SessionPlan { kind: SessionType::Port, properties, work })
    }

    fn host(&self) -> Result<String, Refusal> {
        let host = self.get("host").unwrap_or_default();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || ".:-_[]%".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_allowed) {
            return Err(self.wrong("host", "a host's name or address"));
        }
        if is_forbidden(host) {
            let text = format!("Forwarding to IP address {host} is forbidden.");
            return Err(Refusal::new("InvalidDocument", text));
        }
        Ok(host.to_owned())
    }
}

fn is_forbidden(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().is_ok_and(runner_engine::dial::is_forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(list: &[(&str, &str)]) -> Parameters {
        let one = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![(*value).to_owned()]);
        list.iter().map(one).collect()
    }

    fn refused(document: &str, list: &[(&str, &str)]) -> String {
        plan(Some(document), &parameters(list)).expect_err("refused").message
    }

    #[test]
    fn commands_are_parted_into_words_without_a_shell() {
        let plan = plan(
            Some("AWS-StartInteractiveCommand"),
            &parameters(&[("command", "sh -c 'echo \"a  b\"' x\\ y")]),
        )
        .expect("a plan");
        let words = ["sh", "-c", "echo \"a  b\"", "x y"].map(str::to_owned).to_vec();
        assert_eq!(plan.work, Work::Interactive(words));
        assert!(plan.properties.is_null());
        for command in ["", " ", "'", "\"\""] {
            refused("AWS-StartInteractiveCommand", &[("command", command)]);
        }
    }

    #[test]
    fn port_sessions() {
        let ports = |document: &str, list: &[(&str, &str)]| {
            plan(Some(document), &parameters(list)).expect("a plan")
        };
        let plain = ports("AWS-StartPortForwardingSession", &[("portNumber", "8080")]);
        let wanted =
            json!({"portNumber": "8080", "localPortNumber": "0", "type": "LocalPortForwarding"});
        assert_eq!(plain.properties, wanted);
        let ssh = ports("AWS-StartSSHSession", &[]);
        assert_eq!(ssh.properties, json!({"portNumber": "22"}));
        let remote = ports(
            "AWS-StartPortForwardingSessionToRemoteHost",
            &[("host", "db.local"), ("portNumber", "5432")],
        );
        let to = Destination { host: "db.local".to_owned(), port: 5432 };
        assert_eq!(remote.work, Work::Ports { to, is_raw: false });
        let socket =
            ports("AWS-StartPortForwardingSessionToSocket", &[("localUnixSocket", "/tmp/s")]);
        assert_eq!(socket.properties["localConnectionType"], "unix");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let port = "AWS-StartPortForwardingSession";
        for bad in ["0", "65536", "-1", "+80", "0x50", "", "99999999999"] {
            assert!(refused(port, &[("portNumber", bad)]).contains("portNumber"), "{bad}");
        }
        let host = "AWS-StartPortForwardingSessionToRemoteHost";
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "[fd00:ec2::254]",
            "169.254.170.2",
            "::ffff:a9fe:aa02",
            "169.254.170.23",
            "[fd00:ec2::23]",
        ] {
            assert!(refused(host, &[("host", bad)]).contains("forbidden"), "{bad}");
        }
        assert!(refused(host, &[("host", "a b")]).contains("host"));
        assert!(refused("AWS-StartSSHSession", &[("x", "y")]).contains("not defined"));
        assert!(refused("No-Such", &[]).contains("does not exist"));
        let apart = [("command", "ls"), ("separateOutputStream", "maybe")];
        refused("AWS-StartNonInteractiveCommand", &apart);
    }
}

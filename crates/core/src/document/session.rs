//! Session documents: schema 1.0.

use super::command::CommandDocument;
use super::preferences::Preferences;
use super::{DocumentType, GivenParameters, Parameters, misspelt, shown};
use serde_json::{Map, Value};

/// Maximum size of a document with its parameters filled in, in bytes.
const MAX_RESOLVED: usize = 1 << 20;

/// The type of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A shell on a terminal.
    StandardStream,
    /// A command on a terminal.
    InteractiveCommands,
    /// A command without a terminal.
    NonInteractiveCommands,
    /// Forwarded connections.
    Port,
}

impl SessionKind {
    const ALL: [SessionKind; 4] = [
        SessionKind::StandardStream,
        SessionKind::InteractiveCommands,
        SessionKind::NonInteractiveCommands,
        SessionKind::Port,
    ];

    /// Its name in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SessionKind::StandardStream => "Standard_Stream",
            SessionKind::InteractiveCommands => "InteractiveCommands",
            SessionKind::NonInteractiveCommands => "NonInteractiveCommands",
            SessionKind::Port => "Port",
        }
    }
}

/// What is wrong with a document's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Its schema is not supported.
    Schema(String),
    /// Every other problem, one sentence each.
    Content(Vec<String>),
}

/// A session document.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionDocument {
    kind: SessionKind,
    inputs: Option<Value>,
    properties: Value,
    parameters: Parameters,
}

/// A session with its parameters filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The type of the session.
    pub kind: SessionKind,
    /// Its other settings; `None` if the document has none.
    pub preferences: Option<Preferences>,
    /// What it runs, or where it connects.
    pub properties: Value,
}

impl SessionDocument {
    /// Reads a document's content.
    ///
    /// # Errors
    /// Every problem with it.
    pub fn read(content: &Map<String, Value>) -> Result<Self, Wrong> {
        check_schema(content, DocumentType::Session)?;
        let mut problems = Vec::new();
        let known =
            ["schemaVersion", "description", "sessionType", "inputs", "parameters", "properties"];
        problems.extend(content.keys().filter_map(|name| misspelt(name, &known)));
        let kind = match content.get("sessionType") {
            Some(Value::String(name)) => {
                SessionKind::ALL.into_iter().find(|kind| kind.name() == name)
            }
            _ => None,
        };
        if kind.is_none() {
            let names: Vec<&str> = SessionKind::ALL.iter().map(|kind| kind.name()).collect();
            problems.push(format!("sessionType is to be one of {}", names.join(", ")));
        }
        let parameters = Parameters::read(content.get("parameters"))
            .map_err(|found| problems.extend(found))
            .unwrap_or_default();
        let inputs = content.get("inputs").filter(|inputs| !inputs.is_null()).cloned();
        if let Some(inputs) = &inputs
            && let Err(found) = Preferences::read(inputs, true)
        {
            problems.extend(found);
        }
        let properties = content.get("properties").cloned().unwrap_or(Value::Null);
        problems.extend(kind.and_then(|kind| without_properties(kind, &properties)));
        match kind {
            Some(kind) if problems.is_empty() => {
                Ok(SessionDocument { kind, inputs, properties, parameters })
            }
            _ => Err(Wrong::Content(problems)),
        }
    }

    /// The type of the session.
    #[must_use]
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// Fills in parameters.
    ///
    /// # Errors
    /// Every problem with the values, or with the resulting document, one sentence each.
    pub fn resolve(&self, given: &GivenParameters) -> Result<Resolved, Vec<String>> {
        let values = self.parameters.values(given)?;
        let is_short = |part: &Value| values.fits(part, MAX_RESOLVED);
        if !self.inputs.iter().chain([&self.properties]).all(is_short) {
            return Err(vec!["the document is too long with these parameters".to_owned()]);
        }
        let inputs = self.inputs.as_ref().map(|inputs| values.fill(inputs));
        let preferences = inputs.map(|inputs| Preferences::read(&inputs, false)).transpose()?;
        Ok(Resolved { kind: self.kind, preferences, properties: values.fill(&self.properties) })
    }
}

/// Checks a document's content, as far as its type allows.
///
/// # Errors
/// Every problem with it.
pub fn check(kind: DocumentType, content: &Map<String, Value>) -> Result<(), Wrong> {
    match kind {
        DocumentType::Session => SessionDocument::read(content).map(drop),
        DocumentType::Command => {
            check_schema(content, DocumentType::Command)?;
            let mut problems = Vec::new();
            if let Err(found) = Parameters::read(content.get("parameters")) {
                problems.extend(found);
            }
            if !content.contains_key("runtimeConfig") && !content.contains_key("mainSteps") {
                problems.push("there are no steps".to_owned());
            } else if let Err(problem) = CommandDocument::read(&Value::Object(content.clone())) {
                problems.push(problem);
            }
            if problems.is_empty() { Ok(()) } else { Err(Wrong::Content(problems)) }
        }
    }
}

/// The schema version in a document.
#[must_use]
pub fn schema(content: &Map<String, Value>) -> Option<String> {
    content.get("schemaVersion")?.as_str().map(str::to_owned)
}

fn check_schema(content: &Map<String, Value>, kind: DocumentType) -> Result<(), Wrong> {
    let offered: &[&str] = match kind {
        DocumentType::Session => &["1.0"],
        DocumentType::Command => &["1.2", "2.0", "2.0.1", "2.0.2", "2.0.3", "2.2"],
    };
    match schema(content) {
        Some(schema) if offered.contains(&schema.as_str()) => Ok(()),
        Some(schema) => Err(Wrong::Schema(format!(
            "schemaVersion {} is not offered for documents of type {}; there is {}",
            shown(&schema),
            kind.name(),
            offered.join(", ")
        ))),
        None => Err(Wrong::Schema(format!(
            "schemaVersion is missing; for documents of type {} there is {}",
            kind.name(),
            offered.join(", ")
        ))),
    }
}

/// Returns what is missing for a session of this type.
fn without_properties(kind: SessionKind, properties: &Value) -> Option<String> {
    let missing = match kind {
        SessionKind::StandardStream => return None,
        SessionKind::InteractiveCommands | SessionKind::NonInteractiveCommands => {
            ("/linux/commands", "properties.linux.commands")
        }
        SessionKind::Port => ("/portNumber", "properties.portNumber"),
    };
    let is_there = properties.pointer(missing.0).is_some_and(|value| {
        value.as_str().is_some_and(|text| !text.is_empty()) || value.is_number()
    });
    (!is_there).then(|| format!("a session of type {} needs {}", kind.name(), missing.1))
}

#[cfg(test)]
mod tests {
    use super::super::builtin::BUILTINS;
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().expect("a map").clone()
    }

    fn given(list: &[(&str, &str)]) -> GivenParameters {
        list.iter().map(|(name, text)| ((*name).to_owned(), vec![(*text).to_owned()])).collect()
    }

    #[test]
    fn the_documents_that_are_always_there_are_sound() {
        for document in BUILTINS {
            let content = map(&document.content());
            assert_eq!(check(document.kind, &content), Ok(()), "{}", document.name);
        }
    }

    #[test]
    fn a_command_with_a_pattern() {
        // An example from AWS's manual.
        let document = json!({
            "schemaVersion": "1.0",
            "description": "Document to view a log file on a Linux instance",
            "sessionType": "InteractiveCommands",
            "parameters": {"logpath": {
                "type": "String",
                "description": "The log file path to read.",
                "default": "/var/log/amazon/ssm/amazon-ssm-agent.log",
                "allowedPattern": "^[a-zA-Z0-9-_/]+(.log)$",
            }},
            "properties": {"linux": {"commands": "tail -f {{ logpath }}", "runAsElevated": true}},
        });
        let session = SessionDocument::read(&map(&document)).expect("a document");
        let resolved = session.resolve(&given(&[("logpath", "/var/log/x.log")])).expect("resolved");
        assert_eq!(resolved.properties["linux"]["commands"], "tail -f /var/log/x.log");
        assert_eq!((resolved.kind, resolved.preferences), (SessionKind::InteractiveCommands, None));
        let refused =
            session.resolve(&given(&[("logpath", "/etc/passwd; id")])).expect_err("refused");
        assert!(refused[0].contains("logpath"), "{refused:?}");
    }

    #[test]
    fn inputs_with_parameters() {
        let document = json!({
            "schemaVersion": "1.0",
            "sessionType": "Standard_Stream",
            "parameters": {
                "minutes": {"type": "String", "default": "5"},
                "as": {"type": "Boolean", "default": false},
            },
            "inputs": {"idleSessionTimeout": "{{ minutes }}", "runAsEnabled": "{{ as }}", "runAsDefaultUser": "bob"},
        });
        let session = SessionDocument::read(&map(&document)).expect("a document");
        let preferences = |list: &[(&str, &str)]| {
            session.resolve(&given(list)).map(|resolved| resolved.preferences.expect("preferences"))
        };
        let plain = preferences(&[]).expect("resolved");
        assert_eq!((plain.idle, plain.run_as), (Some(Duration::from_secs(300)), false));
        let other = preferences(&[("minutes", "60"), ("as", "true")]).expect("resolved");
        assert_eq!((other.idle, other.run_as), (Some(Duration::from_secs(3600)), true));
        assert!(preferences(&[("minutes", "61")]).expect_err("refused")[0].contains("idleSession"));
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        let content = map(&json!({
            "schemaVersion": "1.0",
            "sessionType": "Shell",
            "inputs": {"kmsKeyID": "x", "idleSessionTimeout": "0", "cloudWatchStreamingEnabled": "true"},
            "parameter": {},
            "parameters": {"p": {"type": "Text"}},
        }));
        let Err(Wrong::Content(problems)) = check(DocumentType::Session, &content) else {
            panic!("content")
        };
        for wanted in [
            "`parameter` is not known; it is written parameters",
            "sessionType is to be one of Standard_Stream, InteractiveCommands,",
            "`kmsKeyID` is not known; it is written kmsKeyId",
            "idleSessionTimeout is to be a number from 1 to 60",
            "cloudWatchStreamingEnabled is to be true or false, without quotes",
            "parameter `p` has none of the types",
        ] {
            assert!(
                problems.iter().any(|problem| problem.contains(wanted)),
                "{wanted}: {problems:#?}"
            );
        }
        for (version, kind) in [
            ("2.2", DocumentType::Session),
            ("1.0", DocumentType::Command),
            ("0.3", DocumentType::Command),
        ] {
            let content = map(&json!({"schemaVersion": version}));
            assert!(matches!(check(kind, &content), Err(Wrong::Schema(_))), "{version}");
        }
        for kind in ["InteractiveCommands", "NonInteractiveCommands", "Port"] {
            let content =
                map(&json!({"schemaVersion": "1.0", "sessionType": kind, "properties": {}}));
            assert!(
                matches!(check(DocumentType::Session, &content), Err(Wrong::Content(_))),
                "{kind}"
            );
        }
    }
}

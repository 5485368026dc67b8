//! The document that a command is made of.

use crate::aws::call::Refusal;
use crate::aws::resources::last;
use runner_core::document::{self, Type, builtin};
use runner_folder::state::{Documents, Home};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// A document of the type Command, in one version.
pub(super) struct Found {
    pub(super) content: Value,
    /// SHA-256 of the text as it was given; None for AWS's documents.
    hash: Option<String>,
}

fn none(name: &str) -> Refusal {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    Refusal::new(
        "InvalidDocument",
        format!(
            "Document with name {shown} does not exist. Of AWS's own documents for commands there is \
             AWS-RunShellScript; ssm create-document adds others."
        ),
    )
}

/// Finds one by its name or its ARN, and a version: `$LATEST`, `$DEFAULT`, a number, or none.
pub(super) fn find(home: &Home, named: &str, version: Option<&str>) -> Result<Found, Refusal> {
    let name = last(named);
    let version = version.filter(|version| !version.is_empty());
    let unknown = || {
        let shown = version.unwrap_or_default();
        let text = format!("Document {name} has no version {shown}.");
        Refusal::new("InvalidDocumentVersion", text)
    };
    let of_type = |kind: Type| match kind {
        Type::Command => Ok(()),
        Type::Session => Err(Refusal::new(
            "InvalidDocument",
            format!("Document {name} is for sessions; ssm start-session takes it."),
        )),
    };
    if let Some(builtin) = builtin(name) {
        of_type(builtin.kind)?;
        return match version {
            None | Some("$LATEST" | "$DEFAULT" | "1") => {
                Ok(Found { content: builtin.content(), hash: None })
            }
            Some(_) => Err(unknown()),
        };
    }
    let failed = |error: std::io::Error| super::failed(error);
    let documents = Documents::of(home);
    let stored = documents.find(name).map_err(failed)?.ok_or_else(|| none(name))?;
    of_type(stored.kind())?;
    let number = match version {
        None | Some("$DEFAULT") => stored.default,
        Some("$LATEST") => stored.latest().map_or(stored.default, |version| version.number),
        Some(number) => number.parse().map_err(|_| unknown())?,
    };
    let version = stored.version(number).ok_or_else(unknown)?;
    let text = documents.content(name, number).map_err(failed)?.ok_or_else(|| none(name))?;
    let content = document::read(&text, version.format())
        .map_err(|error| Refusal::new("InvalidDocument", format!("Document {name}: {error}.")))?;
    let mut hash = String::new();
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hash, "{byte:02x}");
    }
    Ok(Found { content: Value::Object(content), hash: Some(hash) })
}

impl Found {
    /// Holds it against a hash that the caller knows.
    pub(super) fn check_hash(&self, hash: &str, kind: Option<&str>) -> Result<(), Refusal> {
        let wrong = |text: &str| Err(Refusal::new("InvalidDocument", text));
        match (&self.hash, kind.unwrap_or("Sha256")) {
            (_, "Sha1") => wrong("DocumentHashType: Sha1 is not offered; use Sha256"),
            (None, _) => wrong("DocumentHash: a document of AWS's own has no hash here"),
            (Some(own), "Sha256") if own.eq_ignore_ascii_case(hash) => Ok(()),
            (Some(_), "Sha256") => wrong("DocumentHash is not that of the document's content"),
            _ => wrong("DocumentHashType is Sha256 or Sha1"),
        }
    }
}

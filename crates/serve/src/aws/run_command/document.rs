//! The document of a command.

use crate::aws::call::RefusedCall;
use crate::aws::documents;
use crate::aws::endpoint::Endpoint;
use crate::aws::resources::last;
use runner_core::document::DocumentType;
use serde_json::Value;

/// One version of a document of the type Command.
pub(super) struct CommandDocumentVersion {
    pub(super) content: Value,
    /// SHA-256 of the original text; `None` for AWS's documents.
    hash: Option<String>,
}

fn none(name: &str) -> RefusedCall {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    RefusedCall::new(
        "InvalidDocument",
        format!(
            "Document with name {shown} does not exist. Of AWS's own documents for commands there is \
             AWS-RunShellScript; ssm create-document adds others."
        ),
    )
}

/// Finds a document by name or ARN, and a version: `$LATEST`, `$DEFAULT`, a number or `None`.
pub(super) async fn find(
    endpoint: &Endpoint,
    named: &str,
    version: Option<&str>,
) -> Result<CommandDocumentVersion, RefusedCall> {
    let version = version.filter(|version| !version.is_empty());
    let found = documents::find(endpoint, named, version).await.map_err(|refusal| {
        // Lists the documents for commands instead of only saying that this one is missing.
        if refusal.code == "InvalidDocument" { none(last(named)) } else { refusal }
    })?;
    if found.kind() == DocumentType::Session {
        let text =
            format!("Document {} is for sessions; ssm start-session takes it.", found.name());
        return Err(RefusedCall::new("InvalidDocument", text));
    }
    let hash = found.is_stored().then(|| documents::hash(&found.text));
    Ok(CommandDocumentVersion { content: Value::Object(found.content), hash })
}

impl CommandDocumentVersion {
    /// Compares the document with a hash from the caller.
    pub(super) fn check_hash(&self, hash: &str, kind: Option<&str>) -> Result<(), RefusedCall> {
        let wrong = |text: &str| Err(RefusedCall::new("InvalidDocument", text));
        match (&self.hash, kind.unwrap_or("Sha256")) {
            (_, "Sha1") => wrong("DocumentHashType: Sha1 is not offered; use Sha256"),
            (None, _) => wrong("DocumentHash: a document of AWS's own has no hash here"),
            (Some(own), "Sha256") if own.eq_ignore_ascii_case(hash) => Ok(()),
            (Some(_), "Sha256") => wrong("DocumentHash is not that of the document's content"),
            _ => wrong("DocumentHashType is Sha256 or Sha1"),
        }
    }
}

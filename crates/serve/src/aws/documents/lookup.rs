//! Finds documents by name, and their versions.

use crate::aws::call::RefusedCall;
use crate::aws::endpoint::Endpoint;
use crate::aws::resources::{ResourceNames, last};
use runner_core::document::{self, Builtin, DocumentFormat, DocumentType, builtin};
use runner_folder::state::{Documents, Stored, StoredVersion};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;

/// The document whose `inputs` apply to all sessions whose own document leaves them out.
pub(in crate::aws) const PREFERENCES: &str = "SSM-SessionManagerRunShell";

/// A document of AWS's or of a caller.
#[derive(Clone, Debug)]
pub(super) enum StoredDocument {
    Builtin(&'static Builtin),
    Stored(Box<Stored>),
}

impl StoredDocument {
    pub(super) fn name(&self) -> &str {
        match self {
            StoredDocument::Builtin(document) => document.name,
            StoredDocument::Stored(document) => &document.name,
        }
    }

    pub(super) fn kind(&self) -> DocumentType {
        match self {
            StoredDocument::Builtin(document) => document.kind,
            StoredDocument::Stored(document) => document.kind(),
        }
    }
}

/// A version of a document, with its content.
#[derive(Clone, Debug)]
pub(in crate::aws) struct DocumentContent {
    pub(super) document: StoredDocument,
    /// The content as it was given.
    pub(in crate::aws) text: String,
    pub(super) format: DocumentFormat,
    /// The parsed text.
    pub(in crate::aws) content: Map<String, Value>,
    pub(in crate::aws) version: u64,
}

impl DocumentContent {
    pub(in crate::aws) fn name(&self) -> &str {
        self.document.name()
    }

    pub(in crate::aws) fn kind(&self) -> DocumentType {
        self.document.kind()
    }

    /// Whether a caller has put it here.
    pub(in crate::aws) fn is_stored(&self) -> bool {
        matches!(self.document, StoredDocument::Stored(_))
    }
}

pub(in crate::aws) fn hash(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |mut hash, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// The error for unusable document files.
pub(super) fn broken(error: &io::Error) -> RefusedCall {
    RefusedCall::new("InternalServerError", format!("documents cannot be stored or read: {error}"))
        .with_status(500)
}

/// The error for a missing document.
pub(super) fn unknown(name: &str) -> RefusedCall {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    RefusedCall::new("InvalidDocument", format!("Document with name {shown} does not exist."))
}

/// Works with the documents on a blocking thread.
pub(super) async fn with<T: Send + 'static>(
    endpoint: &Endpoint,
    work: impl FnOnce(&Documents) -> Result<T, RefusedCall> + Send + 'static,
) -> Result<T, RefusedCall> {
    let documents = Documents::of(&endpoint.home);
    let done = tokio::task::spawn_blocking(move || work(&documents)).await;
    done.unwrap_or_else(|error| Err(broken(&io::Error::other(error))))
}

/// The document with this name or ARN.
pub(super) fn known(
    documents: &Documents,
    name: &str,
) -> Result<Option<StoredDocument>, RefusedCall> {
    let name = last(name);
    if let Some(document) = builtin(name) {
        return Ok(Some(StoredDocument::Builtin(document)));
    }
    let stored = documents.find(name).map_err(|error| broken(&error))?;
    Ok(stored.map(|stored| StoredDocument::Stored(Box::new(stored))))
}

/// The version for a call: `$LATEST`, `$DEFAULT`, a number or a version's name; without any, the
/// default version.
pub(super) fn version<'s>(
    stored: &'s Stored,
    asked: Option<&str>,
    named: Option<&str>,
) -> Result<&'s StoredVersion, RefusedCall> {
    let by_number = match asked {
        None if named.is_some() => None,
        None | Some("$DEFAULT") => Some(stored.default),
        Some("$LATEST") => stored.latest().map(|version| version.number),
        // No version has the number zero.
        Some(number) => Some(number.parse().unwrap_or(0)),
    };
    let found = stored.versions.iter().find(|version| {
        by_number.is_none_or(|number| version.number == number)
            && named.is_none_or(|name| version.name.as_deref() == Some(name))
    });
    found.ok_or_else(|| {
        let wanted = named.or(asked).unwrap_or("$DEFAULT");
        let wanted: String = wanted.chars().filter(|c| !c.is_control()).take(128).collect();
        let text = format!("Document {} has no version {wanted}.", stored.name);
        RefusedCall::new("InvalidDocumentVersion", text)
    })
}

/// Attempts to read a document that keeps changing.
const READS: usize = 5;

/// A version of the document with this name or ARN, with its content.
pub(super) fn found(
    documents: &Documents,
    name: &str,
    asked: Option<&str>,
    named: Option<&str>,
) -> Result<DocumentContent, RefusedCall> {
    for _ in 0..READS {
        if let Some(found) = found_once(documents, name, asked, named)? {
            return Ok(found);
        }
    }
    let text = format!(
        "Document {} cannot be read: its content is not the one that its document.json describes",
        last(name)
    );
    Err(broken(&io::Error::other(text)))
}

/// Like `found`; `None` if the metadata and the content do not match, because the document is being
/// deleted or replaced.
fn found_once(
    documents: &Documents,
    name: &str,
    asked: Option<&str>,
    named: Option<&str>,
) -> Result<Option<DocumentContent>, RefusedCall> {
    match known(documents, name)? {
        None => Err(unknown(last(name))),
        Some(StoredDocument::Builtin(document)) => {
            if !matches!(asked, None | Some("$DEFAULT" | "$LATEST" | "1")) || named.is_some() {
                let text = format!("Document {} has version 1 and no other.", document.name);
                return Err(RefusedCall::new("InvalidDocumentVersion", text));
            }
            let content = document.content();
            Ok(Some(DocumentContent {
                text: document::write(&content, DocumentFormat::Json),
                format: DocumentFormat::Json,
                content: content.as_object().cloned().unwrap_or_default(),
                version: 1,
                document: StoredDocument::Builtin(document),
            }))
        }
        Some(StoredDocument::Stored(stored)) => {
            let version = version(&stored, asked, named)?;
            let (number, format) = (version.number, version.format());
            let text = documents.content(&stored.name, number).map_err(|error| broken(&error))?;
            let Some(text) = text.filter(|text| hash(text) == version.hash) else {
                return Ok(None);
            };
            let content = document::read(&text, format)
                .map_err(|error| RefusedCall::new("InvalidDocumentContent", error.to_string()))?;
            let document = StoredDocument::Stored(stored);
            Ok(Some(DocumentContent { text, format, content, version: number, document }))
        }
    }
}

/// A version of the document with this name or ARN, for a session or a command.
///
/// # Errors
/// If there is none, or it cannot be read.
pub(in crate::aws) async fn find(
    endpoint: &Endpoint,
    name: &str,
    asked: Option<&str>,
) -> Result<DocumentContent, RefusedCall> {
    let (name, asked) = (name.to_owned(), asked.map(str::to_owned));
    with(endpoint, move |documents| found(documents, &name, asked.as_deref(), None)).await
}

/// A document as a resource, with its tags.
pub(in crate::aws) async fn resource(endpoint: &Endpoint, name: &str) -> ResourceNames {
    let resource = ResourceNames::document(name);
    let name = name.to_owned();
    let tags = with(endpoint, move |documents| {
        Ok(match known(documents, &name)? {
            Some(StoredDocument::Stored(stored)) => stored.tags,
            _ => std::collections::BTreeMap::new(),
        })
    });
    // A document that cannot be read has no tags; the call itself then reports the error.
    let tags = tags.await.unwrap_or_default();
    resource.tagged(tags)
}

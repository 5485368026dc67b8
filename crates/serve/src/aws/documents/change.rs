//! Calls that create, update and delete documents.

use super::lookup::{DocumentContent, StoredDocument, broken, hash, known, unknown, version, with};
use super::{PREFERENCES, resource, shape};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::last;
use runner_core::arn::ACCOUNT;
use runner_core::document::{
    self, ContentError, DocumentFormat, DocumentType, SessionDocument, SessionKind, Wrong,
};
use runner_folder::state::{Documents, DocumentsWriter, Stored, StoredVersion};
use runner_host::clock;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Most documents, and most versions of one document, as at AWS.
const MAX_DOCUMENTS: usize = 500;
const MAX_VERSIONS: usize = 1000;

fn invalid(text: impl Into<String>) -> RefusedCall {
    RefusedCall::new("ValidationException", text)
}

/// Validated content.
struct CheckedContent {
    text: String,
    format: DocumentFormat,
    content: Map<String, Value>,
}

impl CheckedContent {
    fn new(
        name: &str,
        kind: DocumentType,
        format: DocumentFormat,
        text: String,
    ) -> Result<Self, RefusedCall> {
        let content = document::read(&text, format).map_err(|error| {
            let code = match error {
                ContentError::TooLong(_) => "MaxDocumentSizeExceeded",
                ContentError::Malformed(_) => "InvalidDocumentContent",
            };
            let is_yaml = format == DocumentFormat::Json
                && document::read(&text, DocumentFormat::Yaml).is_ok();
            let hint = if is_yaml { "; it is YAML: DocumentFormat says so" } else { "" };
            RefusedCall::new(code, format!("{error}{hint}"))
        })?;
        document::check(kind, &content).map_err(|wrong| match wrong {
            Wrong::Schema(text) => RefusedCall::new("InvalidDocumentSchemaVersion", text),
            Wrong::Content(problems) => {
                RefusedCall::new("InvalidDocumentContent", problems.join("; "))
            }
        })?;
        if name == PREFERENCES {
            let kind = SessionDocument::read(&content).map(|session| session.kind());
            if kind != Ok(SessionKind::StandardStream) {
                let text = format!("{PREFERENCES} is to have the sessionType Standard_Stream");
                return Err(RefusedCall::new("InvalidDocumentContent", text));
            }
        }
        Ok(CheckedContent { text, format, content })
    }

    fn version(&self, number: u64, named: Option<String>) -> StoredVersion {
        let schema = document::schema(&self.content).unwrap_or_default();
        let now = clock::wall();
        let mut version = StoredVersion::new(number, self.format, hash(&self.text), schema, now);
        version.name = named;
        version
    }

    fn found(self, stored: Stored, version: u64) -> DocumentContent {
        let CheckedContent { text, format, content } = self;
        DocumentContent {
            document: StoredDocument::Stored(Box::new(stored)),
            text,
            format,
            content,
            version,
        }
    }
}

fn format(named: Option<&str>) -> Result<DocumentFormat, RefusedCall> {
    match named {
        None => Ok(DocumentFormat::Json),
        Some("TEXT") => Err(invalid("DocumentFormat TEXT is not offered; there are JSON and YAML")),
        Some(name) => {
            DocumentFormat::named(name).ok_or_else(|| invalid("DocumentFormat is JSON or YAML"))
        }
    }
}

/// Checks the name of a version.
fn version_name(name: Option<&str>) -> Result<(), RefusedCall> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match name {
        Some(name) if !(1..=128).contains(&name.len()) || !name.chars().all(is_part) => {
            Err(invalid("VersionName has 1 to 128 letters, digits, dots, dashes and underscores"))
        }
        _ => Ok(()),
    }
}

/// Refuses members that AWS knows and we do not, unless they are empty.
fn not_offered(members: &[(&str, &Option<Value>)]) -> Result<(), RefusedCall> {
    let is_something = |value: &Value| {
        !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()) && value != ""
    };
    match members.iter().find(|(_, value)| value.as_ref().is_some_and(is_something)) {
        Some((name, _)) => Err(invalid(format!("{name} is not offered"))),
        None => Ok(()),
    }
}

fn writing(documents: &Documents) -> Result<DocumentsWriter<'_>, RefusedCall> {
    documents.lock().map_err(|error| broken(&error))
}

/// A document that callers may change.
fn own(documents: &Documents, name: &str) -> Result<Stored, RefusedCall> {
    match known(documents, name)? {
        Some(StoredDocument::Stored(stored)) => Ok(*stored),
        Some(StoredDocument::Builtin(document)) => {
            let text = format!("Document {} is AWS's own and cannot be changed.", document.name);
            Err(RefusedCall::new("InvalidDocumentOperation", text))
        }
        None => Err(unknown(last(name))),
    }
}

#[derive(Deserialize)]
struct DocumentTag {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "Value")]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct CreateDocument {
    name: String,
    content: String,
    document_type: Option<String>,
    document_format: Option<String>,
    version_name: Option<String>,
    target_type: Option<String>,
    display_name: Option<Value>,
    requires: Option<Value>,
    attachments: Option<Value>,
    #[serde(default)]
    tags: Vec<DocumentTag>,
}

impl CreateDocument {
    fn check(&self) -> Result<(DocumentType, DocumentFormat), RefusedCall> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if !(3..=128).contains(&self.name.len()) || !self.name.chars().all(is_part) {
            return Err(invalid("Name has 3 to 128 letters, digits, dots, dashes and underscores"));
        }
        let plain = self.name.to_ascii_lowercase();
        if let Some(reserved) = ["aws", "amazon", "amzn"].iter().find(|it| plain.starts_with(*it)) {
            return Err(invalid(format!("names that begin with {reserved} are AWS's own")));
        }
        let kind = self.document_type.as_deref().unwrap_or("Command");
        let kind = DocumentType::named(kind).ok_or_else(|| {
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(64).collect();
            invalid(format!("DocumentType {kind} is not offered; there are Command and Session"))
        })?;
        version_name(self.version_name.as_deref())?;
        not_offered(&[
            ("DisplayName", &self.display_name),
            ("Requires", &self.requires),
            ("Attachments", &self.attachments),
        ])?;
        let is_tag = |tag: &DocumentTag| {
            (1..=128).contains(&tag.key.chars().count())
                && tag.value.chars().count() <= 256
                && !tag.key.starts_with("aws:")
                && !tag.key.chars().chain(tag.value.chars()).any(char::is_control)
        };
        let keys: BTreeMap<&str, ()> = self.tags.iter().map(|tag| (tag.key.as_str(), ())).collect();
        if self.tags.len() > 50 || keys.len() < self.tags.len() || !self.tags.iter().all(is_tag) {
            return Err(invalid(
                "Tags are at most 50, with different keys of 1 to 128 characters that do not begin with aws:, and \
                 values of at most 256",
            ));
        }
        Ok((kind, format(self.document_format.as_deref())?))
    }

    fn make(
        self,
        documents: &Documents,
        kind: DocumentType,
        format: DocumentFormat,
    ) -> Result<Value, RefusedCall> {
        let writing = writing(documents)?;
        if known(documents, &self.name)?.is_some() {
            let text = format!("Document with same name {} already exists", self.name);
            return Err(RefusedCall::new("DocumentAlreadyExists", text));
        }
        let checked = CheckedContent::new(&self.name, kind, format, self.content)?;
        if documents.names().map_err(|error| broken(&error))?.len() >= MAX_DOCUMENTS {
            let text = format!("there are {MAX_DOCUMENTS} documents already");
            return Err(RefusedCall::new("DocumentLimitExceeded", text));
        }
        let first = checked.version(1, self.version_name);
        let mut stored = Stored::new(&self.name, kind, ACCOUNT, first);
        stored.tags =
            self.tags.into_iter().map(|DocumentTag { key, value }| (key, value)).collect();
        stored.target_type = self.target_type;
        writing.save(&stored, Some(&checked.text)).map_err(|error| broken(&error))?;
        Ok(json!({"DocumentDescription": shape::description(&checked.found(stored, 1))}))
    }
}

impl OperationInput for CreateDocument {
    type Subject = (DocumentType, DocumentFormat);

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let checked = self.check()?;
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), checked))
    }

    async fn answer(
        self,
        (kind, format): Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        with(endpoint, move |documents| self.make(documents, kind, format)).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct UpdateDocument {
    name: String,
    content: String,
    document_version: Option<String>,
    document_format: Option<String>,
    version_name: Option<String>,
    target_type: Option<String>,
    display_name: Option<Value>,
    attachments: Option<Value>,
}

impl UpdateDocument {
    fn make(self, documents: &Documents, format: DocumentFormat) -> Result<Value, RefusedCall> {
        let writing = writing(documents)?;
        let mut stored = own(documents, &self.name)?;
        let asked = self.document_version.as_deref().unwrap_or("$LATEST");
        let updated = version(&stored, Some(asked), None)?.number;
        if stored.latest().is_some_and(|latest| latest.number != updated) {
            let text = format!("only the latest version of document {} is updated", stored.name);
            return Err(RefusedCall::new("InvalidDocumentVersion", text));
        }
        let checked = CheckedContent::new(&stored.name, stored.kind(), format, self.content)?;
        let hash = hash(&checked.text);
        if let Some(same) = stored.versions.iter().find(|version| version.hash == hash) {
            let text = format!("the content is that of version {}", same.number);
            return Err(RefusedCall::new("DuplicateDocumentContent", text));
        }
        if let Some(name) = &self.version_name
            && stored.versions.iter().any(|version| version.name.as_ref() == Some(name))
        {
            let text = format!("document {} has a version {name} already", stored.name);
            return Err(RefusedCall::new("DuplicateDocumentVersionName", text));
        }
        if stored.versions.len() >= MAX_VERSIONS {
            let text = format!("document {} has {MAX_VERSIONS} versions already", stored.name);
            return Err(RefusedCall::new("DocumentVersionLimitExceeded", text));
        }
        let number = stored.last + 1;
        stored.last = number;
        stored.versions.push(checked.version(number, self.version_name));
        stored.target_type = self.target_type.or(stored.target_type);
        writing.save(&stored, Some(&checked.text)).map_err(|error| broken(&error))?;
        Ok(json!({"DocumentDescription": shape::description(&checked.found(stored, number))}))
    }
}

impl OperationInput for UpdateDocument {
    type Subject = DocumentFormat;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, DocumentFormat), RefusedCall> {
        version_name(self.version_name.as_deref())?;
        not_offered(&[("DisplayName", &self.display_name), ("Attachments", &self.attachments)])?;
        let format = format(self.document_format.as_deref())?;
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), format))
    }

    async fn answer(
        self,
        format: DocumentFormat,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        with(endpoint, move |documents| self.make(documents, format)).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct UpdateDocumentDefaultVersion {
    name: String,
    document_version: String,
}

impl OperationInput for UpdateDocumentDefaultVersion {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        if self.document_version.parse::<u64>().is_err() {
            return Err(invalid("DocumentVersion is a number"));
        }
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        with(endpoint, move |documents| {
            let writing = writing(documents)?;
            let mut stored = own(documents, &self.name)?;
            let version = version(&stored, Some(&self.document_version), None)?.clone();
            stored.default = version.number;
            writing.save(&stored, None).map_err(|error| broken(&error))?;
            let number = version.number.to_string();
            let mut shape = json!({"Name": stored.name, "DefaultVersion": number});
            if let Some(name) = version.name {
                shape["DefaultVersionName"] = json!(name);
            }
            Ok(json!({"Description": shape}))
        })
        .await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct DeleteDocument {
    name: String,
    document_version: Option<String>,
    version_name: Option<String>,
}

impl DeleteDocument {
    fn remove(&self, documents: &Documents) -> Result<Value, RefusedCall> {
        let writing = writing(documents)?;
        let mut stored = own(documents, &self.name)?;
        let (asked, named) = (self.document_version.as_deref(), self.version_name.as_deref());
        if asked.is_none() && named.is_none() {
            writing.remove(&stored.name).map_err(|error| broken(&error))?;
            return Ok(json!({}));
        }
        let number = version(&stored, asked, named)?.number;
        if number == stored.default {
            let text = format!(
                "version {number} is the default version of document {}: make another one the default first, or delete \
                 the whole document",
                stored.name
            );
            return Err(RefusedCall::new("InvalidDocumentOperation", text));
        }
        stored.versions.retain(|version| version.number != number);
        writing.save(&stored, None).map_err(|error| broken(&error))?;
        // The document no longer lists this version, so a leftover file is never read.
        let _ = writing.remove_content(&stored.name, number);
        Ok(json!({}))
    }
}

impl OperationInput for DeleteDocument {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        with(endpoint, move |documents| self.remove(documents)).await
    }
}

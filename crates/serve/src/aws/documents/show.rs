//! Calls that read documents.

use super::lookup::{StoredDocument, broken, found, known, unknown, with};
use super::shape::{self, AMAZON};
use super::{find, resource};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::page::page;
use crate::aws::resources::last;
use runner_core::arn::ACCOUNT;
use runner_core::document::{BUILTINS, DocumentFormat};
use serde::Deserialize;
use serde_json::{Value, json};

fn invalid(text: impl Into<String>) -> RefusedCall {
    RefusedCall::new("ValidationException", text)
}

fn bad_token() -> RefusedCall {
    RefusedCall::new("InvalidNextToken", "NextToken is none of this list")
}

/// Checks the number of entries on a page.
fn most(asked: Option<usize>) -> Result<usize, RefusedCall> {
    match asked.unwrap_or(50) {
        most @ 1..=50 => Ok(most),
        _ => Err(invalid("MaxResults is a number from 1 to 50")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct GetDocument {
    name: String,
    document_version: Option<String>,
    version_name: Option<String>,
    document_format: Option<String>,
}

impl OperationInput for GetDocument {
    type Subject = Option<DocumentFormat>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let format = self.document_format.as_deref().map(|name| {
            DocumentFormat::named(name).ok_or_else(|| invalid("DocumentFormat is JSON or YAML"))
        });
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), format.transpose()?))
    }

    async fn answer(
        self,
        format: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let found = with(endpoint, move |documents| {
            let (asked, named) = (self.document_version.as_deref(), self.version_name.as_deref());
            found(documents, &self.name, asked, named)
        });
        Ok(shape::content(&found.await?, format))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct DescribeDocument {
    name: String,
    document_version: Option<String>,
    version_name: Option<String>,
}

impl OperationInput for DescribeDocument {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let found = match self.version_name {
            None => find(endpoint, &self.name, self.document_version.as_deref()).await?,
            Some(named) => {
                let asked = self.document_version;
                with(endpoint, move |documents| {
                    found(documents, &self.name, asked.as_deref(), Some(&named))
                })
                .await?
            }
        };
        Ok(json!({"Document": shape::description(&found)}))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct ListDocumentVersions {
    name: String,
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl OperationInput for ListDocumentVersions {
    type Subject = usize;

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, usize), RefusedCall> {
        Ok((RequestScope::of([resource(endpoint, &self.name).await]), most(self.max_results)?))
    }

    async fn answer(
        self,
        most: usize,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let name = self.name;
        let listed = with(endpoint, move |documents| match known(documents, &name)? {
            None => Err(unknown(last(&name))),
            Some(StoredDocument::Builtin(builtin)) => Ok(vec![shape::only(builtin)]),
            Some(StoredDocument::Stored(stored)) => {
                Ok(stored.versions.iter().map(|version| shape::listed(&stored, version)).collect())
            }
        })
        .await?;
        let number =
            |version: &Value| version["DocumentVersion"].as_str().unwrap_or_default().to_owned();
        let named: Vec<(String, Value)> =
            listed.into_iter().map(|version| (number(&version), version)).collect();
        answer("DocumentVersions", &named, self.next_token.as_deref(), most)
    }
}

/// A page of entries, ordered by name.
fn answer(
    list: &str,
    named: &[(String, Value)],
    token: Option<&str>,
    most: usize,
) -> Result<Value, RefusedCall> {
    let page = page(named, |(name, _)| name.as_str(), token, most).ok_or_else(bad_token)?;
    let shown: Vec<&Value> = page.items.iter().map(|(_, shape)| shape).collect();
    let mut answer = json!({list: shown});
    if let Some(next) = page.next {
        answer["NextToken"] = json!(next);
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::aws) struct ListDocuments {
    #[serde(default)]
    filters: Vec<DocumentFilter>,
    #[serde(default)]
    document_filter_list: Vec<OldDocumentFilter>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DocumentFilter {
    key: String,
    #[serde(default)]
    values: Vec<String>,
}

/// A filter in the form of older clients.
#[derive(Deserialize)]
struct OldDocumentFilter {
    key: String,
    value: String,
}

impl OperationInput for ListDocuments {
    type Subject = usize;

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, usize), RefusedCall> {
        if !self.filters.is_empty() && !self.document_filter_list.is_empty() {
            return Err(invalid("Filters and DocumentFilterList are not used together"));
        }
        Ok((RequestScope::all(), most(self.max_results)?))
    }

    async fn answer(
        self,
        most: usize,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let old = self.document_filter_list.into_iter();
        let old =
            old.map(|OldDocumentFilter { key, value }| DocumentFilter { key, values: vec![value] });
        let filters: Vec<DocumentFilter> = self.filters.into_iter().chain(old).collect();
        if let Some(filter) = filters.iter().find(|filter| !filter.is_known()) {
            let key: String = filter.key.chars().filter(|c| !c.is_control()).take(128).collect();
            return Err(RefusedCall::new("InvalidFilterKey", format!("there is no filter {key}")));
        }
        let named = with(endpoint, move |documents| {
            let mut all: Vec<StoredDocument> =
                BUILTINS.iter().map(StoredDocument::Builtin).collect();
            for name in documents.names().map_err(|error| broken(&error))? {
                // A document deleted meanwhile is left out.
                let stored = documents.find(&name).map_err(|error| broken(&error))?;
                all.extend(stored.map(|stored| StoredDocument::Stored(Box::new(stored))));
            }
            all.retain(|document| filters.iter().all(|filter| filter.takes(document)));
            let mut named: Vec<(String, Value)> = all
                .iter()
                .map(|document| (document.name().to_owned(), shape::identifier(document)))
                .collect();
            named.sort_by(|one, other| one.0.cmp(&other.0));
            Ok(named)
        })
        .await?;
        answer("DocumentIdentifiers", &named, self.next_token.as_deref(), most)
    }
}

impl DocumentFilter {
    fn is_known(&self) -> bool {
        matches!(self.key.as_str(), "Name" | "Owner" | "DocumentType" | "PlatformTypes")
            || self.key.starts_with("tag:")
    }

    /// Whether one of the filter's values matches the document.
    fn takes(&self, document: &StoredDocument) -> bool {
        let is_ours = matches!(document, StoredDocument::Stored(_));
        self.values.iter().any(|value| match self.key.as_str() {
            // A name matches by its prefix, as at AWS.
            "Name" => document.name().starts_with(value.as_str()),
            "DocumentType" => document.kind().name() == value,
            "PlatformTypes" => value.eq_ignore_ascii_case("Linux"),
            "Owner" => match value.as_str() {
                "All" => true,
                "Self" | "Private" | ACCOUNT => is_ours,
                "Public" | AMAZON => !is_ours,
                _ => false,
            },
            key => match (document, key.strip_prefix("tag:")) {
                (StoredDocument::Stored(stored), Some(key)) => stored.tags.get(key) == Some(value),
                _ => false,
            },
        })
    }
}

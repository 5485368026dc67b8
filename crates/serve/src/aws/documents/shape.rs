//! Documents in the form of AWS's responses.

use super::lookup::{DocumentContent, StoredDocument, hash};
use runner_core::arn::ACCOUNT;
use runner_core::document::{Builtin, DocumentFormat, Parameters, schema, write};
use runner_folder::state::{Stored, StoredVersion};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Creation time given for AWS's own documents, in seconds since 1970.
const OF_AWS: f64 = 1_700_000_000.0;
/// The owner of AWS's own documents.
pub(super) const AMAZON: &str = "Amazon";

/// A document's metadata, without its content.
pub(super) fn identifier(document: &StoredDocument) -> Value {
    match document {
        StoredDocument::Builtin(builtin) => {
            let content = builtin.content();
            let schema = content.as_object().and_then(schema).unwrap_or_default();
            json!({
                "Name": builtin.name,
                "CreatedDate": OF_AWS,
                "Owner": AMAZON,
                "PlatformTypes": ["Linux"],
                "DocumentVersion": "1",
                "DocumentType": builtin.kind.name(),
                "SchemaVersion": schema,
                "DocumentFormat": DocumentFormat::Json.name(),
                "Tags": [],
            })
        }
        StoredDocument::Stored(stored) => {
            let mut shape = json!({
                "Name": stored.name,
                "Owner": ACCOUNT,
                "PlatformTypes": ["Linux"],
                "DocumentType": stored.kind().name(),
                "Tags": tags(&stored.tags),
            });
            if let Some(version) = stored.version(stored.default) {
                of_version(&mut shape, version);
                shape["SchemaVersion"] = json!(version.schema);
            }
            if let Some(target) = &stored.target_type {
                shape["TargetType"] = json!(target);
            }
            shape
        }
    }
}

fn of_version(shape: &mut Value, version: &StoredVersion) {
    shape["DocumentVersion"] = json!(version.number.to_string());
    shape["CreatedDate"] = json!(version.created().epoch_seconds());
    shape["DocumentFormat"] = json!(version.format().name());
    if let Some(name) = &version.name {
        shape["VersionName"] = json!(name);
    }
}

fn tags(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// An entry in the list of a document's versions.
pub(super) fn listed(stored: &Stored, version: &StoredVersion) -> Value {
    let mut shape = json!({
        "Name": stored.name,
        "IsDefaultVersion": version.number == stored.default,
        "Status": "Active",
    });
    of_version(&mut shape, version);
    shape
}

/// The only version of a document of AWS's.
pub(super) fn only(builtin: &Builtin) -> Value {
    json!({
        "Name": builtin.name,
        "IsDefaultVersion": true,
        "Status": "Active",
        "DocumentVersion": "1",
        "CreatedDate": OF_AWS,
        "DocumentFormat": DocumentFormat::Json.name(),
    })
}

/// The description of a document, without its content.
pub(super) fn description(found: &DocumentContent) -> Value {
    let mut shape = identifier(&found.document);
    shape["Hash"] = json!(hash(&found.text));
    shape["HashType"] = json!("Sha256");
    shape["Status"] = json!("Active");
    shape["Parameters"] = parameters(&found.content);
    shape["SchemaVersion"] = json!(schema(&found.content).unwrap_or_default());
    if let Some(text) = found.content.get("description").and_then(Value::as_str) {
        shape["Description"] = json!(text);
    }
    let (latest, default) = match &found.document {
        StoredDocument::Builtin(_) => (1, 1),
        StoredDocument::Stored(stored) => {
            if let Some(version) = stored.version(found.version) {
                // The default version's name does not apply to this version.
                if let Value::Object(map) = &mut shape {
                    map.remove("VersionName");
                }
                of_version(&mut shape, version);
            }
            (stored.latest().map_or(1, |version| version.number), stored.default)
        }
    };
    shape["LatestVersion"] = json!(latest.to_string());
    shape["DefaultVersion"] = json!(default.to_string());
    shape
}

fn parameters(content: &Map<String, Value>) -> Value {
    let parameters = Parameters::read(content.get("parameters")).unwrap_or_default();
    let shown = parameters.iter().map(|(name, parameter)| {
        let mut shape = json!({"Name": name, "Type": parameter.kind.name()});
        if let Some(description) = &parameter.description {
            shape["Description"] = json!(description);
        }
        if let Some(default) = &parameter.default {
            // AWS's model declares a string, whatever the value is.
            let text = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            shape["DefaultValue"] = json!(text);
        }
        shape
    });
    shown.collect()
}

/// The content, converted to `format` if one is given.
pub(super) fn content(found: &DocumentContent, format: Option<DocumentFormat>) -> Value {
    let format = format.unwrap_or(found.format);
    let text = match format == found.format {
        true => found.text.clone(),
        false => write(&Value::Object(found.content.clone()), format),
    };
    let mut shape = json!({
        "Name": found.name(),
        "Content": text,
        "DocumentType": found.kind().name(),
        "DocumentVersion": found.version.to_string(),
        "DocumentFormat": format.name(),
        "Status": "Active",
        "CreatedDate": OF_AWS,
    });
    if let StoredDocument::Stored(stored) = &found.document
        && let Some(version) = stored.version(found.version)
    {
        of_version(&mut shape, version);
        shape["DocumentFormat"] = json!(format.name());
    }
    shape
}

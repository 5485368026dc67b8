//! The buildspec language as JSON Schema, for editors.
//!
//! Made from the table that documents are checked against, so the two always agree.

use super::language::{DOCUMENT, LanguageKey, ValueShape};
use serde_json::{Map, Value, json};

/// The schema, draft 2020-12. It is stricter than the parser in one way: the parser only warns
/// about unknown keys, but the schema rejects them.
#[must_use]
pub fn schema() -> Value {
    let mut schema = value(&DOCUMENT);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "CodeBuild buildspec",
        "anyOf": [{"required": ["phases"]}, {"required": ["batch"]}],
    });
    if let (Some(schema), Value::Object(head)) = (schema.as_object_mut(), head) {
        schema.extend(head);
    }
    schema
}

fn value(shape: &ValueShape) -> Value {
    let scalar = json!({"type": ["string", "number", "boolean"]});
    match shape {
        ValueShape::Any => json!({}),
        ValueShape::Text => scalar,
        ValueShape::Flag => json!({"anyOf": [
            {"enum": [true, false, "yes", "no", "true", "false", "on", "off"]},
            {"type": "string", "pattern": ecma("(?i)^(yes|no|true|false|on|off|y|n)$")},
        ]}),
        ValueShape::Count => {
            let digits = json!({"type": "string", "pattern": "^[0-9]+$"});
            json!({"anyOf": [{"type": "integer", "minimum": 0}, digits]})
        }
        ValueShape::Choice(known) => {
            // Names that editors offer, and a pattern for all accepted spellings.
            json!({"anyOf": [
                {"enum": known},
                {"type": "string", "pattern": ecma(&format!("(?i)^({})$", known.join("|")))},
            ]})
        }
        // Patterns in JSON Schema do not apply to numbers.
        ValueShape::Form(pattern) => json!({
            "anyOf": [{"type": "string", "pattern": ecma(pattern)}, {"type": "number"}],
        }),
        ValueShape::Texts | ValueShape::Commands(_) => json!({"anyOf": [
            scalar,
            {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}},
        ]}),
        ValueShape::Maps(keys) => json!({"type": "array", "items": object(keys)}),
        ValueShape::Map(keys) => object(keys),
        ValueShape::Names(_, inner) => {
            let mut schema = value(inner);
            // A variable may be empty.
            if matches!(inner, ValueShape::Text | ValueShape::Texts) {
                allow_nothing(&mut schema);
            }
            let inner = schema;
            json!({"type": ["object", "null"], "additionalProperties": inner})
        }
    }
}

fn object(keys: &[LanguageKey]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut schema = value(&key.shape);
            if !key.is_required {
                allow_nothing(&mut schema);
            }
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), json!(key.about));
            }
            (key.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.is_required).map(|key| key.name).collect();
    let mut object = json!({
        "type": if required.is_empty() { json!(["object", "null"]) } else { json!("object") },
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// An optional value may also be empty.
fn allow_nothing(schema: &mut Value) {
    let nothing = json!("null");
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(json!({ "type": nothing }));
        return;
    }
    match schema.get_mut("type") {
        Some(Value::Array(types)) if !types.contains(&nothing) => types.push(nothing),
        Some(one @ Value::String(_)) => *one = json!([one.take(), nothing]),
        _ => {}
    }
}

/// Patterns in JSON Schema have no flags, so match each letter in both cases.
fn ecma(pattern: &str) -> String {
    let Some(plain) = pattern.strip_prefix("(?i)") else { return pattern.to_owned() };
    plain
        .chars()
        .map(|c| match c.is_ascii_alphabetic() {
            true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
            false => c.to_string(),
        })
        .collect()
}

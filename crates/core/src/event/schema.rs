//! Checks the published schema against the types, and against logs of this and the previous
//! version.

use super::{Event, EventBody, SCHEMA, SCHEMA_VERSION};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A log with every type of event, as this version writes it.
const LOG: &str = include_str!("../../../../tests/fixtures/events/form2.jsonl");
/// A log in the previous format.
const FORMER: &str = include_str!("../../../../tests/fixtures/events/form1.jsonl");

/// Returns why a value does not match a schema. Supports only the features of JSON Schema that our
/// schema uses. A field that no schema names is an error here, so that the schema stays complete.
fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("a definition");
        return misfit(root, target, value, at);
    }
    let no = |why: &str| Some(format!("{at}: {why}: {value}"));
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match &schema["type"] {
        Value::String(wanted) if wanted != kind => return no("type"),
        Value::Array(wanted) if !wanted.contains(&json!(kind)) => return no("type"),
        _ => {}
    }
    let is_other = |wanted: &Value| !wanted.is_null() && wanted != value;
    let is_none_of = |known: &Vec<Value>| !known.contains(value);
    if is_other(&schema["const"]) || schema["enum"].as_array().is_some_and(is_none_of) {
        return no("value");
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let misfits: Vec<_> = all.iter().map(|schema| misfit(root, schema, value, at)).collect();
        let fitting = misfits.iter().filter(|misfit| misfit.is_none()).count();
        return (fitting != 1).then(|| format!("{at}: {fitting} of {misfits:?}"));
    }
    if let (Some(items), false) = (value.as_array(), schema["items"].is_null()) {
        return items.iter().find_map(|item| misfit(root, &schema["items"], item, at));
    }
    let (Some(fields), Some(known)) = (value.as_object(), schema["properties"].as_object()) else {
        return None;
    };
    let mut required =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.find(|name| !fields.contains_key(*name)) {
        return no(&format!("without {missing}"));
    }
    fields.iter().find_map(|(name, field)| match known.get(name) {
        Some(schema) => misfit(root, schema, field, &format!("{at}.{name}")),
        None => no(&format!("{name} is not in the schema")),
    })
}

/// Like [`misfit`], for a whole line.
fn line_misfit(schema: &Value, line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).expect("JSON");
    let head = json!({"properties": schema["properties"], "required": schema["required"]});
    let body = json!({"type": value["type"], "data": value["data"]});
    misfit(schema, &head, &value, "event").or_else(|| {
        let types = schema["oneOf"].as_array().expect("a list");
        let of_type = types.iter().find(|one| one["properties"]["type"]["const"] == value["type"]);
        match of_type {
            Some(one) => misfit(schema, one, &body, "event"),
            None => Some(format!("no type {}", value["type"])),
        }
    })
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("JSON")
}

/// All event types, as listed by the deserializer.
fn types() -> BTreeSet<String> {
    let error = serde_json::from_value::<EventBody>(json!({"type": "", "data": {}}))
        .expect_err("no event is called that");
    let error = error.to_string();
    let (_, known) = error.split_once("expected one of ").expect("a list of them");
    known.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_type_is_in_the_schema_and_in_the_log() {
    let schema = schema();
    let published = schema["oneOf"].as_array().expect("a list").iter();
    let published = published.map(|one| one["properties"]["type"]["const"].as_str());
    let published: BTreeSet<_> = published.map(|name| name.expect("a name").to_owned()).collect();
    assert_eq!(published, types());
    let logged = LOG.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let logged: BTreeSet<_> =
        logged.map(|line| line["type"].as_str().expect("a type").to_owned()).collect();
    assert_eq!(logged, types());
    assert_eq!(schema["properties"]["schemaVersion"]["const"], SCHEMA_VERSION);
}

#[test]
fn logs_of_this_version_are_read_and_written_as_they_are() {
    let schema = schema();
    for line in LOG.lines() {
        let event = Event::from_line(line).expect(line);
        assert_eq!(event.to_line().expect("serialises"), line);
        assert_eq!(line_misfit(&schema, line), None);
    }
    for line in FORMER.lines() {
        let event = Event::from_line(line).expect(line);
        let line = event.to_line().expect("serialises");
        assert_eq!(line_misfit(&schema, &line), None);
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let schema = schema();
    let line = |kind: &str, data: &str| {
        format!(
            "{{\"schemaVersion\":2,\"seq\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\
             \"buildId\":\"p:u\",\"type\":\"{kind}\",\"data\":{data}}}"
        )
    };
    assert_eq!(line_misfit(&schema, &line("agent", "{\"text\":\"a\"}")), None);
    for (kind, data) in [
        ("agent", "{}"),
        ("agent", "{\"text\":1}"),
        ("agent", "{\"text\":\"a\",\"more\":1}"),
        ("agents", "{\"text\":\"a\"}"),
        ("phase_started", "{\"phase\":\"build\"}"),
        (
            "command_ended",
            "{\"command\":1,\"outcome\":{\"kind\":\"cut\",\"value\":1},\"durationMs\":1}",
        ),
    ] {
        assert!(line_misfit(&schema, &line(kind, data)).is_some(), "{kind} {data}");
    }
}

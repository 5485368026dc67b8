//! Reads one config file as AWS's agent does, but reports more problems.
//!
//! As in AWS's agent, names match in any case, a value of the wrong type makes the file unusable,
//! and a number out of range falls back to the default. The fallback is also reported.

use super::property::{PROPERTIES, Property, PropertyKind};
use crate::placed::{self, DocumentProblem, DocumentProblems, JsonNode, JsonValue};
use crate::spec::shape::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Size limit of a config file, in bytes.
pub const MAX_BYTES: usize = 64 << 10;

/// Values set by one config file, by property name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyLayer(BTreeMap<String, Value>);

impl PropertyLayer {
    /// Reads a config file. Returns its values, and notices of one sentence each.
    ///
    /// # Errors
    /// Every problem that makes the file unusable, with its place.
    pub fn read(text: &str) -> Result<(Self, Vec<String>), Vec<DocumentProblem>> {
        let mut reader = PropertyReader {
            values: BTreeMap::new(),
            notices: Vec::new(),
            problems: DocumentProblems::default(),
        };
        if let Some(root) = placed::read(text, &mut reader.problems) {
            reader.file(&root);
        }
        let PropertyReader { values, notices, problems } = reader;
        problems.or(Some((PropertyLayer(values), notices)))
    }

    /// Returns the file's value for a property.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }
}

struct PropertyReader {
    values: BTreeMap<String, Value>,
    notices: Vec<String>,
    problems: DocumentProblems,
}

impl PropertyReader {
    fn file(&mut self, root: &JsonNode) {
        let mut sections: Vec<&str> = PROPERTIES.iter().map(Property::section).collect();
        sections.dedup();
        for member in root.map("the configuration", &mut self.problems) {
            // Unknown sections are not an error, as in AWS's agent.
            let Some(section) =
                sections.iter().find(|name| name.eq_ignore_ascii_case(&member.name))
            else {
                self.unknown(&member.name, "", &sections);
                continue;
            };
            if matches!(member.node.json, JsonValue::Null) {
                continue;
            }
            let known: Vec<&Property> =
                PROPERTIES.iter().filter(|property| property.section() == *section).collect();
            for member in member.node.map(section, &mut self.problems) {
                let found = known.iter().find(|it| it.key().eq_ignore_ascii_case(&member.name));
                match found {
                    Some(property) => self.property(property, &member.node),
                    None => {
                        let keys: Vec<&str> = known.iter().map(|it| it.key()).collect();
                        self.unknown(&member.name, &format!("{section}."), &keys);
                    }
                }
            }
        }
    }

    fn unknown(&mut self, name: &str, before: &str, known: &[&str]) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let meant = nearest(name, known.iter().copied());
        let meant = meant.map(|meant| format!("; is {before}{meant} meant?")).unwrap_or_default();
        self.notices.push(format!("{before}{shown} is not known and has no effect{meant}"));
    }

    fn property(&mut self, property: &Property, node: &JsonNode) {
        let name = property.name;
        let value = match (property.kind, &node.json) {
            (_, JsonValue::Null) => return,
            (PropertyKind::Flag(_), JsonValue::Bool(flag)) => Value::from(*flag),
            (PropertyKind::Number { default, least, most }, JsonValue::Number(text)) => {
                match (text.parse::<u64>(), text.starts_with('-')) {
                    (Ok(number), _) if (least..=most).contains(&number) => Value::from(number),
                    (Ok(number), _) if number > most => {
                        return self.out_of_range(name, text, "above", most, default);
                    }
                    (Ok(_), _) | (Err(_), true) => {
                        return self.out_of_range(name, text, "below", least, default);
                    }
                    // Too large for any integer type.
                    (Err(_), false) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                        return self.out_of_range(name, text, "above", most, default);
                    }
                    (Err(_), false) => return self.wrong(property, node),
                }
            }
            (PropertyKind::Text(_), JsonValue::Text(text)) => Value::from(text.as_str()),
            (PropertyKind::Choice(choices), JsonValue::Text(text)) => {
                if !choices.contains(&text.as_str()) {
                    let choices: Vec<String> =
                        choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                    return self.notices.push(format!(
                        "{name} is none of {}; {} is used",
                        choices.join(", "),
                        choices.first().map_or("", String::as_str)
                    ));
                }
                Value::from(text.as_str())
            }
            (PropertyKind::Folder(default), JsonValue::Text(text)) => {
                let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
                let is_name = text.chars().all(is_plain) && text.chars().any(|c| c != '.');
                if !is_name || text.len() > 64 {
                    let what = format!("{name} is not the name of a folder; {default} is used");
                    return self.notices.push(what);
                }
                Value::from(text.as_str())
            }
            (PropertyKind::Texts(_), JsonValue::List(items)) => match self.texts(property, items) {
                Some(texts) => Value::from(texts),
                None => return,
            },
            (PropertyKind::Maps, JsonValue::List(items))
                if items.iter().all(|item| matches!(item.json, JsonValue::Map(_))) =>
            {
                Value::from(vec![Value::Object(serde_json::Map::new()); items.len()])
            }
            _ => return self.wrong(property, node),
        };
        self.values.insert(name.to_owned(), value);
    }

    fn texts(&mut self, property: &Property, items: &[JsonNode]) -> Option<Vec<String>> {
        let mut texts = Vec::new();
        for item in items {
            let JsonValue::Text(text) = &item.json else {
                self.wrong(property, item);
                return None;
            };
            let is_address = property.name.ends_with("IPs");
            if is_address && text.parse::<IpAddr>().is_err() {
                let shown: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
                self.notices.push(format!("{}: {shown} is not an IP address", property.name));
                continue;
            }
            texts.push(text.clone());
        }
        Some(texts)
    }

    fn wrong(&mut self, property: &Property, node: &JsonNode) {
        let wanted = match property.kind {
            PropertyKind::Flag(_) => "true or false",
            PropertyKind::Number { .. } => "a whole number",
            PropertyKind::Text(_) | PropertyKind::Choice(_) | PropertyKind::Folder(_) => "a text",
            PropertyKind::Texts(_) => "a list of texts",
            PropertyKind::Maps => "a list of maps",
        };
        let text = format!("{} is {wanted}, not {}", property.name, node.kind());
        self.problems.add(node.place, text);
    }

    fn out_of_range(&mut self, name: &str, text: &str, side: &str, bound: u64, default: u64) {
        let shown: String = text.chars().take(32).collect();
        self.notices.push(format!("{name} {shown} is {side} {bound}; {default} is used"));
    }
}

impl Property {
    fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_file() {
        let text = r#"{
            "Mds": {"CommandWorkersLimit": 0, "StopTimeoutMillis": 2000000, "CommandRetryLimit": -1},
            "Ssm": {"SessionLogsDestination": "disc", "HealthFrequencyMinute": 5, "Endpoint": null},
            "Mgs": {"DeniedPortForwardingRemoteIPs": ["10.0.0.1", "host"]},
            "Agent": {"OrchestrationRootDir": "../up", "ContainerMode": false},
            "Agents": {},
            "Identity": {"CustomIdentities": [{"InstanceID": "x"}]}
        }"#;
        let (layer, notices) = PropertyLayer::read(text).expect("a layer");
        assert_eq!(
            notices,
            [
                "Mds.CommandWorkersLimit 0 is below 1; 5 is used",
                "Mds.StopTimeoutMillis 2000000 is above 1000000; 20000 is used",
                "Mds.CommandRetryLimit -1 is below 1; 15 is used",
                "Ssm.SessionLogsDestination is none of \"none\", \"disk\"; \"none\" is used",
                "Ssm.HealthFrequencyMinute is not known and has no effect; is Ssm.HealthFrequencyMinutes meant?",
                "Mgs.DeniedPortForwardingRemoteIPs: host is not an IP address",
                "Agent.OrchestrationRootDir is not the name of a folder; orchestration is used",
                "Agents is not known and has no effect; is Agent meant?",
            ]
        );
        assert_eq!(layer.get("Agent.ContainerMode"), Some(&Value::Bool(false)));
        assert_eq!(layer.get("Mds.CommandWorkersLimit"), None);
        assert_eq!(
            layer.get("Mgs.DeniedPortForwardingRemoteIPs"),
            Some(&Value::from(vec!["10.0.0.1"]))
        );
    }

    #[test]
    fn what_makes_a_file_unusable_is_told_with_places() {
        let problems = PropertyLayer::read("{\"Mds\": {\"CommandWorkersLimit\": \"5\"},\n \"Agent\": {\"ContainerMode\": 1},\n\"Os\": []}")
            .expect_err("problems");
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "1:33: Mds.CommandWorkersLimit is a whole number, not a text",
                "2:29: Agent.ContainerMode is true or false, not a number",
                "3:7: Os is a map, not a list",
            ]
        );
        for text in
            ["", "{", "[]", "{\"Mds\": {\"StopTimeoutMillis\": 1.5}}", "{\"Os\": {}, \"Os\": {}}"]
        {
            assert!(PropertyLayer::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_default_is_one_that_is_allowed() {
        for property in PROPERTIES {
            let (section, key) = (property.section(), property.key());
            let text = serde_json::json!({section: {key: property.default_value()}}).to_string();
            let (layer, notices) = PropertyLayer::read(&text).expect(property.name);
            assert!(notices.is_empty(), "{}: {notices:?}", property.name);
            assert_eq!(layer.get(property.name), Some(&property.default_value()));
        }
    }
}

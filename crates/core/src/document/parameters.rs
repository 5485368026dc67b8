//! The parameters that a document declares, and the values a caller may give.

use super::shown;
use super::{AllowedPattern, ParameterValues};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Parameters in a request: lists of texts by name. A single value is a list of one.
pub type GivenParameters = BTreeMap<String, Vec<String>>;

/// Maximum number of parameters in a document.
const MAX_PARAMETERS: usize = 200;

/// The type of a parameter's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterType {
    /// A text.
    String,
    /// A list of texts.
    StringList,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A list of maps.
    MapList,
    /// A map.
    StringMap,
}

impl ParameterType {
    const ALL: [ParameterType; 6] = [
        ParameterType::String,
        ParameterType::StringList,
        ParameterType::Boolean,
        ParameterType::Integer,
        ParameterType::MapList,
        ParameterType::StringMap,
    ];

    /// Its name in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ParameterType::String => "String",
            ParameterType::StringList => "StringList",
            ParameterType::Boolean => "Boolean",
            ParameterType::Integer => "Integer",
            ParameterType::MapList => "MapList",
            ParameterType::StringMap => "StringMap",
        }
    }

    fn is_list(self) -> bool {
        matches!(self, ParameterType::StringList | ParameterType::MapList)
    }

    /// Converts the texts of a request to a value of this type.
    fn of_texts(self, texts: &[String]) -> Result<Value, String> {
        if self.is_list() {
            let items: Result<Vec<Value>, String> = texts
                .iter()
                .map(|text| match self {
                    ParameterType::MapList => map_of(text),
                    _ => Ok(Value::from(text.as_str())),
                })
                .collect();
            return items.map(Value::Array);
        }
        let [text] = texts else {
            return Err(format!("is a {} and takes one value, not {}", self.name(), texts.len()));
        };
        match self {
            ParameterType::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(format!("is to be true or false, not {}", shown(text))),
            },
            ParameterType::Integer => match text.trim().parse::<i64>() {
                Ok(number) => Ok(Value::from(number)),
                Err(_) => Err(format!("is to be a whole number, not {}", shown(text))),
            },
            ParameterType::StringMap => map_of(text),
            _ => Ok(Value::from(text.as_str())),
        }
    }

    /// Converts a value in a document, where `"true"` may stand for `true`.
    fn of_value(self, value: &Value) -> Result<Value, String> {
        let wrong = || format!("is to be a {}", self.name());
        match (self, value) {
            (ParameterType::StringMap, Value::Object(_)) => Ok(value.clone()),
            (ParameterType::StringList, Value::Array(items))
                if items.iter().all(|i| text(i).is_some()) =>
            {
                Ok(Value::Array(items.iter().filter_map(text).map(Value::from).collect()))
            }
            (ParameterType::MapList, Value::Array(items)) if items.iter().all(Value::is_object) => {
                Ok(value.clone())
            }
            (ParameterType::StringList | ParameterType::MapList | ParameterType::StringMap, _) => {
                Err(wrong())
            }
            _ => self.of_texts(&[text(value).ok_or_else(wrong)?]),
        }
    }
}

fn map_of(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err(format!("is to be a map in JSON, not {}", shown(text))),
    }
}

/// A single value as text. Documents may write numbers and booleans in either form.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A parameter as its document declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The type of its values.
    pub kind: ParameterType,
    /// Its purpose.
    pub description: Option<String>,
    /// Its default; if absent, the caller must give a value.
    pub default: Option<Value>,
    /// Allowed values, as texts; `None` allows all.
    allowed: Option<Vec<String>>,
    pattern: Option<AllowedPattern>,
    /// Allowed number of items in a list.
    items: ParameterRange,
    /// Allowed number of characters in a text.
    chars: ParameterRange,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ParameterRange {
    least: Option<u64>,
    most: Option<u64>,
}

impl ParameterRange {
    fn problem(self, count: usize, of: &str) -> Option<String> {
        let count = count as u64;
        match self {
            ParameterRange { least: Some(least), .. } if count < least => {
                Some(format!("has {count} {of}, fewer than {least}"))
            }
            ParameterRange { most: Some(most), .. } if count > most => {
                Some(format!("has {count} {of}, more than {most}"))
            }
            _ => None,
        }
    }
}

impl Parameter {
    /// Returns what is wrong with a value of the right type.
    fn problem(&self, value: &Value) -> Option<String> {
        if let Value::Array(items) = value {
            if let Some(problem) = self.items.problem(items.len(), "items") {
                return Some(problem);
            }
            return items.iter().find_map(|item| self.item_problem(item));
        }
        self.item_problem(value)
    }

    fn item_problem(&self, item: &Value) -> Option<String> {
        let text = text(item).unwrap_or_else(|| item.to_string());
        if let Some(problem) = self.chars.problem(text.chars().count(), "characters") {
            return Some(problem);
        }
        if let Some(allowed) = &self.allowed
            && !allowed.contains(&text)
        {
            let names: Vec<String> = allowed.iter().map(|text| shown(text)).collect();
            return Some(format!("is to be one of {}, not {}", names.join(", "), shown(&text)));
        }
        let pattern = self.pattern.as_ref().filter(|pattern| !pattern.allows(&text))?;
        Some(format!("is to match the pattern `{}`; {} does not", pattern.text(), shown(&text)))
    }
}

/// The parameters of a document, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters(BTreeMap<String, Parameter>);

impl Parameters {
    /// Reads the member `parameters` of a document, which may be missing.
    ///
    /// # Errors
    /// Every problem, one sentence each.
    pub fn read(declared: Option<&Value>) -> Result<Self, Vec<String>> {
        let map = match declared {
            None | Some(Value::Null) => return Ok(Parameters::default()),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(vec!["parameters is to be a map".to_owned()]),
        };
        if map.len() > MAX_PARAMETERS {
            return Err(vec![format!(
                "there are {} parameters, more than {MAX_PARAMETERS}",
                map.len()
            )]);
        }
        let (mut parameters, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, declared) in map {
            let mut found = Vec::new();
            let parameter = declaration(name, declared, &mut found);
            let lines = found.into_iter().map(|what| format!("parameter {} {what}", shown(name)));
            problems.extend(lines);
            if let Some(parameter) = parameter {
                parameters.insert(name.clone(), parameter);
            }
        }
        if problems.is_empty() { Ok(Parameters(parameters)) } else { Err(problems) }
    }

    /// All parameters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.0.iter().map(|(name, parameter)| (name.as_str(), parameter))
    }

    /// Returns the values for a request: the given ones, and defaults for the rest.
    ///
    /// # Errors
    /// Every problem with the given values, one sentence each, which names the parameter.
    pub fn values(&self, given: &GivenParameters) -> Result<ParameterValues, Vec<String>> {
        let mut problems = Vec::new();
        for name in given.keys().filter(|name| !self.0.contains_key(*name)) {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            problems.push(format!("parameter {} is not defined; there are: {known}", shown(name)));
        }
        let mut values = BTreeMap::new();
        for (name, parameter) in &self.0 {
            let value = match (given.get(name), &parameter.default) {
                (Some(texts), _) => parameter.kind.of_texts(texts),
                (None, Some(default)) => Ok(default.clone()),
                (None, None) => Err("is required".to_owned()),
            };
            match value.and_then(|value| parameter.problem(&value).map_or(Ok(value), Err)) {
                Ok(value) => drop(values.insert(name.clone(), value)),
                Err(what) => problems.push(format!("parameter {} {what}", shown(name))),
            }
        }
        if problems.is_empty() { Ok(ParameterValues::new(values)) } else { Err(problems) }
    }
}

/// Reads one parameter, if its type is known.
fn declaration(name: &str, declared: &Value, problems: &mut Vec<String>) -> Option<Parameter> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        problems.push("has a name of more than letters and digits".to_owned());
    }
    let Value::Object(map) = declared else {
        problems.push("is to be a map".to_owned());
        return None;
    };
    let kind = match map.get("type") {
        Some(Value::String(name)) => {
            ParameterType::ALL.into_iter().find(|kind| kind.name() == name)
        }
        _ => None,
    };
    let Some(kind) = kind else {
        let names: Vec<&str> = ParameterType::ALL.iter().map(|kind| kind.name()).collect();
        problems.push(format!("has none of the types {}", names.join(", ")));
        return None;
    };
    let mut parameter = Parameter {
        kind,
        description: map.get("description").and_then(text),
        default: None,
        allowed: texts(map, "allowedValues", problems),
        pattern: pattern(map, problems),
        items: range(map, "Items", problems),
        chars: range(map, "Chars", problems),
    };
    if let Some(default) = map.get("default").filter(|default| !default.is_null()) {
        let checked = kind
            .of_value(default)
            .and_then(|value| parameter.problem(&value).map_or(Ok(value), Err));
        match checked {
            Ok(value) => parameter.default = Some(value),
            Err(what) => problems.push(format!("has a default that {what}")),
        }
    }
    Some(parameter)
}

fn texts(map: &Map<String, Value>, name: &str, problems: &mut Vec<String>) -> Option<Vec<String>> {
    match map.get(name)? {
        Value::Null => None,
        Value::Array(items) if items.iter().all(|item| text(item).is_some()) => {
            Some(items.iter().filter_map(text).collect())
        }
        _ => {
            problems.push(format!("has {name} that is not a list of values"));
            None
        }
    }
}

fn pattern(map: &Map<String, Value>, problems: &mut Vec<String>) -> Option<AllowedPattern> {
    let read = match map.get("allowedPattern")? {
        Value::Null => return None,
        Value::String(text) => AllowedPattern::new(text),
        _ => Err("an allowedPattern that is not a string".to_owned()),
    };
    read.map_err(|what| problems.push(format!("has {what}"))).ok()
}

fn range(map: &Map<String, Value>, of: &str, problems: &mut Vec<String>) -> ParameterRange {
    let mut bound = |name: String| {
        let value = map.get(&name).filter(|value| !value.is_null())?;
        let number = text(value).and_then(|text| text.parse().ok());
        if number.is_none() {
            problems.push(format!("has {name} that is not a number"));
        }
        number
    };
    ParameterRange { least: bound(format!("min{of}")), most: bound(format!("max{of}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn given(list: &[(&str, &[&str])]) -> GivenParameters {
        let one = |(name, texts): &(&str, &[&str])| {
            ((*name).to_owned(), texts.iter().map(|text| (*text).to_owned()).collect())
        };
        list.iter().map(one).collect()
    }

    fn all() -> Parameters {
        Parameters::read(Some(&json!({
            "text": {"type": "String", "allowedPattern": "[a-z]+", "maxChars": 5, "description": "d"},
            "mode": {"type": "String", "default": "fast", "allowedValues": ["fast", "slow"]},
            "list": {"type": "StringList", "default": ["a"], "minItems": 1, "maxItems": 2, "minChars": "1"},
            "flag": {"type": "Boolean", "default": "true"},
            "count": {"type": "Integer", "default": 3, "allowedPattern": "[0-9]"},
            "maps": {"type": "MapList", "default": []},
            "map": {"type": "StringMap", "default": {}},
        })))
        .expect("parameters")
    }

    #[test]
    fn values_are_given_or_the_defaults() {
        let values = all().values(&given(&[("text", &["abc"])])).expect("values");
        assert_eq!(values.get("mode"), Some(&json!("fast")));
        assert_eq!(values.get("flag"), Some(&json!(true)));
        assert_eq!(values.get("count"), Some(&json!(3)));
        let values = all()
            .values(&given(&[
                ("text", &["x"]),
                ("list", &["p q", "r"]),
                ("flag", &["False"]),
                ("count", &["7"]),
                ("maps", &["{\"a\": 1}", "{}"]),
                ("map", &["{\"k\": \"v\"}"]),
            ]))
            .expect("values");
        assert_eq!(values.get("list"), Some(&json!(["p q", "r"])));
        assert_eq!(values.get("flag"), Some(&json!(false)));
        assert_eq!(values.get("maps"), Some(&json!([{"a": 1}, {}])));
        assert_eq!(values.get("map"), Some(&json!({"k": "v"})));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let problems = all()
            .values(&given(&[
                ("other", &["x"]),
                ("mode", &["medium"]),
                ("list", &["a", "b", "c"]),
                ("flag", &["maybe"]),
                ("count", &["12"]),
                ("maps", &["[]"]),
                ("map", &["{", "{}"]),
            ]))
            .expect_err("problems");
        for (at, wanted) in [
            "`other` is not defined; there are: count, flag, list, map, maps, mode, text",
            "`count` is to match the pattern `[0-9]`; `12` does not",
            "`flag` is to be true or false, not `maybe`",
            "`list` has 3 items, more than 2",
            "`map` is a StringMap and takes one value, not 2",
            "`maps` is to be a map in JSON, not `[]`",
            "`mode` is to be one of `fast`, `slow`, not `medium`",
            "`text` is required",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(problems[at], format!("parameter {wanted}"));
        }
        let refused = |name: &str, texts: &[&str]| {
            all().values(&given(&[("text", &["a"]), (name, texts)])).expect_err(name).join("; ")
        };
        assert!(refused("text", &["abcdef"]).contains("6 characters, more than 5"));
        assert!(refused("text", &["aB"]).contains("pattern"));
        assert!(refused("text", &[]).contains("not 0"));
        assert!(refused("list", &[]).contains("0 items, fewer than 1"));
        assert!(refused("list", &["a", ""]).contains("0 characters, fewer than 1"));
    }

    #[test]
    fn declarations_that_are_none() {
        let problems = Parameters::read(Some(&json!({
            "a-b": {"type": "String"},
            "bad": 7,
            "kind": {"type": "SecureString"},
            "look": {"type": "String", "allowedPattern": "(?=x)"},
            "range": {"type": "String", "minChars": "few"},
            "wrong": {"type": "Integer", "default": "x"},
            "outside": {"type": "String", "default": "c", "allowedValues": ["a", "b"]},
        })))
        .expect_err("problems");
        assert_eq!(problems.len(), 7, "{problems:#?}");
        assert!(problems.iter().any(|p| p.contains("`look`") && p.contains("(?=x)")));
        assert!(
            problems.iter().any(|p| p.contains("`outside` has a default that is to be one of"))
        );
        assert!(Parameters::read(Some(&json!([]))).is_err());
        assert_eq!(Parameters::read(None), Ok(Parameters::default()));
    }
}

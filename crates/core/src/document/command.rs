//! Documents of type Command: their steps, and what each step does.
//!
//! [`CommandDocument::read`] takes parsed content, [`CommandDocument::steps`] fills in parameters,
//! and `command_run` runs through the steps. Messages match those of AWS's agent, because people
//! search for them.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// The supported plugin.
pub const SHELL_SCRIPT: &str = "aws:runShellScript";
/// A plugin that AWS's agent supports on Windows only.
const POWER_SHELL: &str = "aws:runPowerShellScript";

/// Time limit of a script in seconds, if none is given or it is not in [`TIMEOUTS`].
const DEFAULT_TIMEOUT: f64 = 3600.0;
/// Valid time limits, in seconds.
const TIMEOUTS: std::ops::RangeInclusive<f64> = 5.0..=172_800.0;

/// Maximum number of steps in a document.
const MAX_STEPS: usize = 100;

/// The schema version of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// `runtimeConfig`, by plugin.
    V1_2,
    /// `mainSteps`.
    V2_0,
    /// `mainSteps` with preconditions.
    V2_2,
}

/// A document of type Command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandDocument {
    /// Its schema version.
    pub schema: Schema,
    steps: Vec<RawStep>,
}

/// A step as written in the document.
#[derive(Clone, Debug, PartialEq)]
struct RawStep {
    name: String,
    folder: String,
    plugin: String,
    inputs: Value,
    timeout: Option<Value>,
    precondition: Option<Value>,
    on_failure: StepFailureAction,
    exits_on_success: bool,
    is_finally: bool,
}

/// What follows a failed step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StepFailureAction {
    /// The next step.
    #[default]
    GoOn,
    /// No further step.
    Exit,
    /// No further step, and the failed step counts as successful.
    SucceedAndExit,
}

/// A step with its parameters filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentStep {
    /// Its name in API calls: the plugin's name in 1.2, the step's own in 2.x.
    pub name: String,
    /// Its name in folders and keys.
    pub folder: String,
    /// The plugin that runs it.
    pub plugin: String,
    /// The work to do.
    pub work: StepWork,
    /// What follows a failure.
    pub on_failure: StepFailureAction,
    /// Whether no further step follows a success.
    pub exits_on_success: bool,
    /// Whether the step runs even if the rest is skipped.
    pub is_finally: bool,
}

/// The work of a step once parameters are filled in.
#[derive(Clone, Debug, PartialEq)]
pub enum StepWork {
    /// A script.
    Script(StepScript),
    /// Nothing; the step is skipped for this reason.
    Skip(String),
    /// Nothing; the step fails for this reason.
    Fail(String),
}

/// A script for `sh`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepScript {
    /// Content of the script file; empty if there is no command.
    pub text: String,
    /// Working directory; empty for the build's own.
    pub directory: String,
    /// Variables in addition to the build's.
    pub environment: BTreeMap<String, String>,
    /// Time limit.
    pub timeout: Duration,
}

impl CommandDocument {
    /// Reads the content of a document.
    ///
    /// # Errors
    /// Why the document cannot be run.
    pub fn read(content: &Value) -> Result<Self, String> {
        let version = content.get("schemaVersion").and_then(Value::as_str).unwrap_or_default();
        let schema = match version {
            "1.2" => Schema::V1_2,
            "2.0" | "2.0.1" | "2.0.2" | "2.0.3" => Schema::V2_0,
            "2.2" => Schema::V2_2,
            _ => {
                return Err(format!(
                    "Document with schema version {version} is not supported by this version of ssm \
                     agent, please update to latest version"
                ));
            }
        };
        let steps = match schema {
            Schema::V1_2 => by_plugin(content)?,
            Schema::V2_0 | Schema::V2_2 => main_steps(content)?,
        };
        if steps.is_empty() || steps.len() > MAX_STEPS {
            return Err(format!("a document has 1 to {MAX_STEPS} steps, not {}", steps.len()));
        }
        Ok(CommandDocument { schema, steps })
    }

    /// Returns the steps. `put_in` replaces the placeholders in a value.
    pub fn steps(&self, put_in: impl Fn(&Value) -> Value) -> Vec<DocumentStep> {
        let step = |raw: &RawStep| DocumentStep {
            name: raw.name.clone(),
            folder: raw.folder.clone(),
            plugin: raw.plugin.clone(),
            work: self.work(raw, &put_in),
            on_failure: raw.on_failure,
            exits_on_success: raw.exits_on_success,
            is_finally: raw.is_finally,
        };
        self.steps.iter().map(step).collect()
    }

    fn work(&self, raw: &RawStep, put_in: &impl Fn(&Value) -> Value) -> StepWork {
        let name = &raw.name;
        if let Some(precondition) = &raw.precondition {
            if self.schema != Schema::V2_2 {
                return StepWork::Fail(format!(
                    "Precondition is not supported for document schema version prior to 2.2. Step name: {name}"
                ));
            }
            match holds(&put_in(precondition)) {
                Ok(None) => {}
                Ok(Some(unsatisfied)) => {
                    return StepWork::Skip(format!(
                        "Step execution skipped due to unsatisfied preconditions: '{unsatisfied}'. Step \
                         name: {name}"
                    ));
                }
                Err(why) => {
                    return StepWork::Fail(format!(
                        "Unrecognized precondition(s): '{why}', please update agent to latest version. \
                         Step name: {name}"
                    ));
                }
            }
        }
        match raw.plugin.as_str() {
            SHELL_SCRIPT => StepWork::Script(script(&put_in(&raw.inputs), raw.timeout.as_ref())),
            POWER_SHELL if self.schema == Schema::V2_2 => StepWork::Skip(format!(
                "Step execution skipped due to unsupported plugin: {POWER_SHELL}. Step name: {name}"
            )),
            plugin => StepWork::Fail(format!(
                "Plugin with name {plugin} is not supported by this version of ssm agent, please update to \
                 latest version. Step name: {name}"
            )),
        }
    }
}

/// Reads the steps of schema 1.2.
fn by_plugin(content: &Value) -> Result<Vec<RawStep>, String> {
    let config = object(content, "runtimeConfig")?;
    let mut steps = Vec::new();
    for (plugin, value) in config {
        let properties = match value.get("properties") {
            Some(Value::Array(list)) => list.clone(),
            Some(one @ Value::Object(_)) => vec![one.clone()],
            _ => return Err(format!("runtimeConfig.{plugin}.properties is to be a list")),
        };
        let is_alone = properties.len() == 1;
        for (index, inputs) in properties.into_iter().enumerate() {
            let default = format!("{index}.{plugin}");
            let id = inputs.get("id").and_then(Value::as_str).unwrap_or(&default).to_owned();
            let name = if is_alone { plugin.clone() } else { id.clone() };
            let folder = folder(&id)?;
            is_plugin(plugin)?;
            steps.push(RawStep {
                name,
                folder,
                plugin: plugin.clone(),
                inputs,
                timeout: None,
                precondition: None,
                on_failure: StepFailureAction::GoOn,
                exits_on_success: false,
                is_finally: false,
            });
        }
    }
    unlike(&steps)?;
    Ok(steps)
}

/// Rejects invalid plugin names: a plugin's letters and digits become a folder name.
fn is_plugin(name: &str) -> Result<(), String> {
    let has_any = name.chars().any(|c| c.is_ascii_alphanumeric());
    match has_any && name.len() <= 128 {
        true => Ok(()),
        false => Err(format!("{} is not the name of a plugin", super::shown(name))),
    }
}

/// Reads the steps of schema 2.x.
fn main_steps(content: &Value) -> Result<Vec<RawStep>, String> {
    let list =
        content.get("mainSteps").and_then(Value::as_array).ok_or("mainSteps is to be a list")?;
    let mut steps = Vec::new();
    for (index, step) in list.iter().enumerate() {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        let at = |key: &str| format!("mainSteps[{index}].{key}");
        let name =
            text("name").ok_or_else(|| format!("{} is to be a text", at("name")))?.to_owned();
        let plugin = text("action").ok_or_else(|| format!("{} is to be a text", at("action")))?;
        is_plugin(plugin)?;
        let on_failure = match text("onFailure") {
            None => StepFailureAction::GoOn,
            Some("exit") => StepFailureAction::Exit,
            Some("successAndExit") => StepFailureAction::SucceedAndExit,
            Some(other) => {
                return Err(format!("{} is exit or successAndExit, not {other}", at("onFailure")));
            }
        };
        let exits_on_success = match text("onSuccess") {
            None => false,
            Some("exit") => true,
            Some(other) => return Err(format!("{} is exit, not {other}", at("onSuccess"))),
        };
        let is_finally = match step.get("finallyStep") {
            None => false,
            Some(Value::Bool(is)) => *is,
            Some(Value::String(text)) if text == "true" || text == "false" => text == "true",
            Some(_) => return Err(format!("{} is true or false", at("finallyStep"))),
        };
        if is_finally && index + 1 != list.len() {
            return Err(format!("{}: only the last step may be one", at("finallyStep")));
        }
        let inputs = step.get("inputs").cloned().unwrap_or_else(|| Value::Object(Map::new()));
        if !inputs.is_object() {
            return Err(format!("{} is to be a map", at("inputs")));
        }
        steps.push(RawStep {
            folder: folder(&name)?,
            name,
            plugin: plugin.to_owned(),
            inputs,
            timeout: step.get("timeoutSeconds").cloned(),
            precondition: step.get("precondition").cloned(),
            on_failure,
            exits_on_success,
            is_finally,
        });
    }
    unlike(&steps)?;
    Ok(steps)
}

fn object<'a>(content: &'a Value, key: &str) -> Result<&'a Map<String, Value>, String> {
    content.get(key).and_then(Value::as_object).ok_or_else(|| format!("{key} is to be a map"))
}

/// Returns a step's folder name, used on this machine and in the build.
fn folder(name: &str) -> Result<String, String> {
    let folder: String = name.chars().filter(|c| *c != ':').collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_plain = !folder.is_empty()
        && folder.len() <= 128
        && !folder.starts_with(['.', '_'])
        && folder.chars().all(is_part);
    if is_plain {
        return Ok(folder);
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    Err(format!(
        "the step's name `{shown}` is to be 1 to 128 of a-z A-Z 0-9 _ . : -, a letter or digit first"
    ))
}

fn unlike(steps: &[RawStep]) -> Result<(), String> {
    for (index, step) in steps.iter().enumerate() {
        if steps[..index].iter().any(|earlier| earlier.folder == step.folder) {
            return Err(format!("two steps are named {}", step.name));
        }
    }
    Ok(())
}

/// Checks the preconditions. Returns the first one that does not hold, or `None`.
fn holds(precondition: &Value) -> Result<Option<String>, String> {
    let Some(operators) = precondition.as_object() else {
        return Err("a precondition is to be a map".to_owned());
    };
    for (operator, operands) in operators {
        if operator != "StringEquals" {
            return Err(format!("unrecognized operator: \"{operator}\""));
        }
        let texts: Vec<String> = operands.as_array().into_iter().flatten().map(text_of).collect();
        let [one, other] = texts.as_slice() else {
            return Err(format!("\"{operator}\": expects exactly 2 arguments"));
        };
        let value =
            |text: &str| if text == "platformType" { "Linux".to_owned() } else { text.to_owned() };
        if value(one) != value(other) {
            return Ok(Some(format!("\"{operator}\": [{one}, {other}]")));
        }
    }
    Ok(None)
}

/// A value as text.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The value of the first key that exists.
fn one_of<'a>(inputs: &'a Value, keys: [&str; 2]) -> Option<&'a Value> {
    keys.iter().find_map(|key| inputs.get(key))
}

fn script(inputs: &Value, of_step: Option<&Value>) -> StepScript {
    let mut lines = Vec::new();
    if let Some(commands) = one_of(inputs, ["runCommand", "RunCommand"]) {
        gather(commands, &mut lines);
    }
    let environment = one_of(inputs, ["environment", "Environment"]).and_then(Value::as_object);
    let environment =
        environment.into_iter().flatten().map(|(key, value)| (key.clone(), text_of(value)));
    let directory = one_of(inputs, ["workingDirectory", "WorkingDirectory"]).map(text_of);
    let timeout = one_of(inputs, ["timeoutSeconds", "TimeoutSeconds"]).or(of_step);
    StepScript {
        text: if lines.is_empty() { String::new() } else { lines.join("\n") + "\n" },
        directory: directory.unwrap_or_default().trim().to_owned(),
        environment: environment.collect(),
        timeout: seconds(timeout),
    }
}

/// Flattens lists, because a placeholder in a list may stand for a list.
fn gather(value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| gather(value, lines)),
        Value::Null => {}
        other => lines.push(text_of(other)),
    }
}

fn seconds(value: Option<&Value>) -> Duration {
    let seconds = match value {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| TIMEOUTS.contains(seconds)).unwrap_or(DEFAULT_TIMEOUT);
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(content: &Value) -> Vec<DocumentStep> {
        CommandDocument::read(content).expect("a document").steps(Value::clone)
    }

    fn one(schema: &str, step: Value) -> DocumentStep {
        let mut step = step;
        if step.get("name").is_none() {
            step["name"] = json!("a");
        }
        read(&json!({"schemaVersion": schema, "mainSteps": [step]})).remove(0)
    }

    fn shell(inputs: &Value) -> StepScript {
        let step = one("2.2", json!({"action": SHELL_SCRIPT, "inputs": inputs}));
        let StepWork::Script(script) = step.work else { panic!("{step:?}") };
        script
    }

    #[test]
    fn schemas() {
        let steps =
            json!([{"action": SHELL_SCRIPT, "name": "a", "inputs": {"runCommand": ["true"]}}]);
        for version in ["2.0", "2.0.1", "2.0.3", "2.2"] {
            let read =
                CommandDocument::read(&json!({"schemaVersion": version, "mainSteps": steps}));
            assert!(read.is_ok(), "{version}");
        }
        let refused = |version: &str| {
            CommandDocument::read(&json!({"schemaVersion": version, "mainSteps": steps}))
                .expect_err("refused")
        };
        assert_eq!(
            refused("3.0"),
            "Document with schema version 3.0 is not supported by this version of ssm agent, please update \
             to latest version"
        );
        assert!(refused("0.3").contains("0.3") && refused("").contains("not supported"));
        let properties =
            json!([{"id": "0.aws:runShellScript", "runCommand": "x", "timeoutSeconds": "60"}]);
        let old = json!({"schemaVersion": "1.2", "runtimeConfig": {SHELL_SCRIPT: {"properties": properties}}});
        let step = read(&old).remove(0);
        assert_eq!((&*step.name, &*step.folder), (SHELL_SCRIPT, "0.awsrunShellScript"));
        let StepWork::Script(script) = step.work else { panic!() };
        assert_eq!((&*script.text, script.timeout.as_secs()), ("x\n", 60));
    }

    #[test]
    fn scripts_are_their_commands_line_by_line() {
        assert_eq!(
            shell(&json!({"runCommand": ["#!/bin/bash", "echo a", ["b", "c"]]})).text,
            "#!/bin/bash\necho a\nb\nc\n"
        );
        assert_eq!(shell(&json!({"runCommand": []})).text, "");
        assert_eq!(shell(&json!({})).text, "");
        let script = shell(
            &json!({"runCommand": "x", "workingDirectory": "/w", "environment": {"A": "1", "B": 2}}),
        );
        assert_eq!((&*script.text, &*script.directory), ("x\n", "/w"));
        assert_eq!(
            script.environment.into_iter().collect::<Vec<_>>(),
            [("A".into(), "1".into()), ("B".into(), "2".into())]
        );
    }

    #[test]
    fn what_is_no_time_is_an_hour() {
        for (given, wanted) in [
            (json!("10"), 10.0),
            (json!(10), 10.0),
            (json!(10.5), 10.5),
            (json!("172800"), 172_800.0),
            (json!("172801"), 3600.0),
            (json!(4), 3600.0),
            (json!("x"), 3600.0),
            (json!("NaN"), 3600.0),
            (json!([]), 3600.0),
            (json!("-7"), 3600.0),
        ] {
            let script = shell(&json!({"runCommand": "x", "timeoutSeconds": given}));
            assert_eq!(script.timeout.as_secs_f64(), wanted, "{given}");
        }
        let of_step =
            one("2.2", json!({"action": SHELL_SCRIPT, "timeoutSeconds": 7, "inputs": {}}));
        assert!(matches!(of_step.work, StepWork::Script(script) if script.timeout.as_secs() == 7));
    }

    #[test]
    fn preconditions() {
        let with = |schema: &str, name: &str, precondition: Value| {
            one(schema, json!({"action": SHELL_SCRIPT, "name": name, "precondition": precondition}))
                .work
        };
        let met = with("2.2", "a", json!({"StringEquals": ["platformType", "Linux"]}));
        assert!(matches!(met, StepWork::Script(_)), "{met:?}");
        assert_eq!(
            with("2.2", "win", json!({"StringEquals": ["platformType", "Windows"]})),
            StepWork::Skip("Step execution skipped due to unsatisfied preconditions: '\"StringEquals\": [platformType, Windows]'. Step name: win".into())
        );
        assert_eq!(
            with("2.2", "bad", json!({"NumericEquals": ["1", "1"]})),
            StepWork::Fail("Unrecognized precondition(s): 'unrecognized operator: \"NumericEquals\"', please update agent to latest version. Step name: bad".into())
        );
        assert_eq!(
            with("2.0", "a", json!({"StringEquals": ["platformType", "Linux"]})),
            StepWork::Fail("Precondition is not supported for document schema version prior to 2.2. Step name: a".into())
        );
        for odd in [json!([]), json!({"StringEquals": ["x"]}), json!({"StringEquals": "x"})] {
            assert!(matches!(with("2.2", "a", odd.clone()), StepWork::Fail(_)), "{odd}");
        }
    }

    #[test]
    fn plugins_that_are_not_there() {
        let of =
            |schema: &str, plugin: &str| one(schema, json!({"action": plugin, "name": "p"})).work;
        let unknown = "Plugin with name aws:nope is not supported by this version of ssm agent, please update to latest version. Step name: p";
        assert_eq!(of("2.2", "aws:nope"), StepWork::Fail(unknown.into()));
        let skipped = "Step execution skipped due to unsupported plugin: aws:runPowerShellScript. Step name: p";
        assert_eq!(of("2.2", POWER_SHELL), StepWork::Skip(skipped.into()));
        assert!(matches!(of("2.0", POWER_SHELL), StepWork::Fail(_)));
    }

    #[test]
    fn documents_that_cannot_be_carried_out() {
        let step = |name: &str| json!({"action": SHELL_SCRIPT, "name": name});
        let refused = |steps: Value| {
            CommandDocument::read(&json!({"schemaVersion": "2.2", "mainSteps": steps}))
                .expect_err("refused")
        };
        assert!(refused(json!([])).contains("1 to 100"));
        assert!(refused(json!([step("a"), step("a")])).contains("two steps"));
        for name in ["", "..", "a/b", ".a", "a\0", "_x"] {
            assert!(refused(json!([step(name)])).contains("name"), "{name}");
        }
        let mut first = step("a");
        first["finallyStep"] = json!(true);
        assert!(refused(json!([first, step("b")])).contains("last step"));
        let mut other = step("a");
        other["onFailure"] = json!("stop");
        assert!(refused(json!([other])).contains("successAndExit"));
        assert!(refused(json!({})).contains("list"));
        assert!(
            CommandDocument::read(&json!({"schemaVersion": "1.2", "runtimeConfig": []})).is_err()
        );
    }

    #[test]
    fn placeholders_are_replaced_in_inputs_and_preconditions() {
        let content = json!({"schemaVersion": "2.2", "mainSteps": [{
            "action": SHELL_SCRIPT, "name": "a",
            "precondition": {"StringEquals": ["{{ x }}", "yes"]},
            "inputs": {"runCommand": ["{{ x }}"]},
        }]});
        let put_in = |value: &Value| {
            serde_json::from_str(&value.to_string().replace("{{ x }}", "yes")).expect("JSON")
        };
        let step = CommandDocument::read(&content).expect("a document").steps(put_in).remove(0);
        assert!(matches!(step.work, StepWork::Script(script) if script.text == "yes\n"));
    }
}

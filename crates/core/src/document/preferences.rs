//! `inputs` of a session document: settings for all its sessions.

use super::{misspelt, shown};
use crate::destination::{Bucket, Destinations, Form, LogGroup};
use serde_json::{Map, Value};
use std::time::Duration;

/// A document's session settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preferences {
    /// Where transcripts go.
    pub logs: Destinations,
    /// KMS key for encryption; empty for none.
    pub kms_key: String,
    /// Whether sessions run as a named user: from a tag of the caller, or from `run_as_user`.
    pub run_as: bool,
    /// The user if the caller has no such tag.
    pub run_as_user: String,
    /// How long a session may be idle.
    pub idle: Option<Duration>,
    /// Maximum duration of a session.
    pub longest: Option<Duration>,
    /// Text typed when a shell starts.
    pub shell_profile: String,
}

const KNOWN: [&str; 12] = [
    "s3BucketName",
    "s3KeyPrefix",
    "s3EncryptionEnabled",
    "cloudWatchLogGroupName",
    "cloudWatchEncryptionEnabled",
    "cloudWatchStreamingEnabled",
    "kmsKeyId",
    "runAsEnabled",
    "runAsDefaultUser",
    "idleSessionTimeout",
    "maxSessionDuration",
    "shellProfile",
];

impl Preferences {
    /// Reads `inputs`. In a `template`, texts with placeholders are not checked.
    ///
    /// # Errors
    /// Every problem, one sentence each.
    pub fn read(inputs: &Value, template: bool) -> Result<Self, Vec<String>> {
        let Value::Object(map) = inputs else {
            return Err(vec!["inputs is to be a map".to_owned()]);
        };
        let mut reader = PreferencesReader { map, template, problems: Vec::new() };
        reader.problems.extend(map.keys().filter_map(|name| misspelt(name, &KNOWN)));
        let preferences = Preferences {
            logs: reader.logs(),
            kms_key: reader.text("kmsKeyId"),
            run_as: reader.flag("runAsEnabled", false),
            run_as_user: reader.user(),
            idle: reader.minutes("idleSessionTimeout", 60),
            longest: reader.minutes("maxSessionDuration", 1440),
            shell_profile: reader.profile(),
        };
        if reader.problems.is_empty() { Ok(preferences) } else { Err(reader.problems) }
    }
}

struct PreferencesReader<'m> {
    map: &'m Map<String, Value>,
    template: bool,
    problems: Vec<String>,
}

impl PreferencesReader<'_> {
    /// Returns a value to check. Null means the default, and placeholders in a template are not
    /// checked.
    fn get(&self, name: &str) -> Option<&Value> {
        let is_open =
            |value: &Value| self.template && value.as_str().is_some_and(|text| text.contains("{{"));
        self.map.get(name).filter(|value| !value.is_null() && !is_open(value))
    }

    fn text(&mut self, name: &str) -> String {
        match self.get(name) {
            None => String::new(),
            Some(Value::String(text)) if !text.chars().any(char::is_control) => text.clone(),
            Some(_) => {
                self.problems.push(format!("{name} is to be a text of one line"));
                String::new()
            }
        }
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        let known = match self.get(name) {
            None => Some(default),
            Some(Value::Bool(flag)) => Some(*flag),
            Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "" => Some(default),
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            Some(_) => None,
        };
        known.unwrap_or_else(|| {
            self.problems.push(format!("{name} is to be true or false"));
            default
        })
    }

    fn logs(&mut self) -> Destinations {
        let is_named = |name: &String| !name.is_empty();
        let (name, prefix) = (self.text("s3BucketName"), self.text("s3KeyPrefix"));
        let must_be_encrypted = self.flag("s3EncryptionEnabled", true);
        let bucket = Some(name).filter(is_named);
        let bucket = bucket.map(|name| Bucket { name, prefix, must_be_encrypted });
        let name = self.text("cloudWatchLogGroupName");
        let must_be_encrypted = self.flag("cloudWatchEncryptionEnabled", true);
        let form = if self.streams() { Form::Json } else { Form::AtEnd };
        let group = Some(name).filter(is_named);
        let group = group.map(|name| LogGroup { name, must_be_encrypted, is_made: false, form });
        Destinations { group, bucket }
    }

    /// The one flag for which AWS's agent accepts only a boolean.
    fn streams(&mut self) -> bool {
        let name = "cloudWatchStreamingEnabled";
        match self.get(name) {
            None => false,
            Some(Value::Bool(streams)) => *streams,
            Some(_) => {
                self.problems.push(format!("{name} is to be true or false, without quotes"));
                false
            }
        }
    }

    fn minutes(&mut self, name: &str, most: u64) -> Option<Duration> {
        let minutes = match self.get(name)? {
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => text.trim().parse().ok(),
            Value::Number(number) => number.as_u64(),
            _ => None,
        };
        let minutes = minutes.filter(|minutes| (1..=most).contains(minutes));
        if minutes.is_none() {
            self.problems.push(format!("{name} is to be a number from 1 to {most}, in minutes"));
        }
        minutes.map(|minutes| Duration::from_secs(60 * minutes))
    }

    fn user(&mut self) -> String {
        let name = self.text("runAsDefaultUser");
        if !name.is_empty() && !is_user(&name) {
            self.problems.push(format!("runAsDefaultUser {} is not a user name", shown(&name)));
        }
        name
    }

    fn profile(&mut self) -> String {
        const MOST: usize = 512;
        let profiles = match self.get("shellProfile") {
            None => return String::new(),
            Some(Value::Object(profiles)) => profiles.clone(),
            Some(_) => {
                self.problems.push("shellProfile is to be a map".to_owned());
                return String::new();
            }
        };
        self.problems.extend(profiles.keys().filter_map(|name| {
            misspelt(name, &["linux", "windows"]).map(|what| format!("shellProfile: {what}"))
        }));
        match profiles.get("linux") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) if text.chars().count() <= MOST && !text.contains('\0') => {
                text.clone()
            }
            Some(_) => {
                let what =
                    format!("shellProfile.linux is to be a text of at most {MOST} characters");
                self.problems.push(what);
                String::new()
            }
        }
    }
}

/// Whether a text is a valid user name for `/etc/passwd`, and not a number.
#[must_use]
pub fn is_user(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.@$-".contains(c);
    (1..=256).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_input() {
        let inputs = json!({
            "s3BucketName": "b", "s3KeyPrefix": "p", "s3EncryptionEnabled": "true",
            "cloudWatchLogGroupName": "g", "cloudWatchEncryptionEnabled": false,
            "cloudWatchStreamingEnabled": true, "kmsKeyId": "k", "runAsEnabled": "True",
            "runAsDefaultUser": "bob", "idleSessionTimeout": "1", "maxSessionDuration": 1440,
            "shellProfile": {"linux": "cd /\nexport A=1", "windows": "date"}, "someOther": 7,
        });
        let read = Preferences::read(&inputs, false).expect("preferences");
        let wanted = Preferences {
            logs: Destinations {
                group: Some(LogGroup {
                    name: "g".to_owned(),
                    must_be_encrypted: false,
                    is_made: false,
                    form: Form::Json,
                }),
                bucket: Some(Bucket {
                    name: "b".to_owned(),
                    prefix: "p".to_owned(),
                    must_be_encrypted: true,
                }),
            },
            kms_key: "k".to_owned(),
            run_as: true,
            run_as_user: "bob".to_owned(),
            idle: Some(Duration::from_secs(60)),
            longest: Some(Duration::from_secs(86_400)),
            shell_profile: "cd /\nexport A=1".to_owned(),
        };
        assert_eq!(read, wanted);
        // What the AWS console writes if nothing is set.
        let empty = json!({
            "s3BucketName": "", "s3KeyPrefix": "", "s3EncryptionEnabled": true, "kmsKeyId": "",
            "cloudWatchLogGroupName": "", "cloudWatchEncryptionEnabled": true, "maxSessionDuration": "",
            "runAsEnabled": false, "runAsDefaultUser": "", "idleSessionTimeout": "20",
            "shellProfile": {"windows": "", "linux": ""},
        });
        let read = Preferences::read(&empty, false).expect("preferences");
        let idle = Some(Duration::from_secs(1200));
        assert_eq!(read, Preferences { idle, ..Preferences::default() });
    }

    #[test]
    fn values_that_are_none() {
        for (name, value) in [
            ("s3BucketName", json!(7)),
            ("runAsEnabled", json!("yes")),
            ("runAsDefaultUser", json!("bob smith")),
            ("runAsDefaultUser", json!("1000")),
            ("idleSessionTimeout", json!("61")),
            ("idleSessionTimeout", json!("1.5")),
            ("maxSessionDuration", json!(0)),
            ("shellProfile", json!("bash")),
            ("shellProfile", json!({"linux": "x".repeat(513)})),
            ("shellProfile", json!({"linus": "x"})),
        ] {
            let problems = Preferences::read(&json!({name: value}), false).expect_err(name);
            assert!(problems[0].contains(name), "{problems:?}");
        }
    }
}

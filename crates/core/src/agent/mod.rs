//! `amazon-ssm-agent.json`: the configuration of AWS's agent, as far as it applies to a build.
//!
//! [`PROPERTIES`] lists every property, with a reason for each one that has no effect here. A
//! [`PropertyLayer`] holds the values of one file. [`AgentConfig`] combines the files of the host,
//! and [`AgentConfig::tightened`] adds the image's file, which is untrusted and can only make
//! settings stricter.

mod layer;
mod property;

pub use crate::placed::DocumentProblem;
pub use layer::{MAX_BYTES, PropertyLayer};
pub use property::{PROPERTIES, Property, PropertyEffect};

use crate::run_command::StatusDetails;
use property::FromImage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Path of the config file inside an image.
pub const IN_IMAGE: &str = "/etc/amazon/ssm/amazon-ssm-agent.json";

/// The file that a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PropertyOrigin {
    /// The file named on the command line.
    Named,
    /// The file in the state folder.
    Home,
    /// The file in the image.
    Image,
    /// No file: the default value.
    Default,
}

impl PropertyOrigin {
    /// A description for users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PropertyOrigin::Named => "--agent-config",
            PropertyOrigin::Home => "$RUNNER_HOME/amazon-ssm-agent.json",
            PropertyOrigin::Image => "the image",
            PropertyOrigin::Default => "default",
        }
    }
}

/// The effective configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentConfig(BTreeMap<String, (Value, PropertyOrigin)>);

impl AgentConfig {
    /// Combines the files of the host. The named file takes precedence.
    #[must_use]
    pub fn of_host(named: Option<PropertyLayer>, home: Option<PropertyLayer>) -> Self {
        let mut values = BTreeMap::new();
        for (layer, origin) in [(home, PropertyOrigin::Home), (named, PropertyOrigin::Named)] {
            let given = layer.into_iter().flat_map(PropertyLayer::into_values);
            values.extend(given.map(|(name, value)| (name, (value, origin))));
        }
        AgentConfig(values)
    }

    /// Applies the image's file where it makes a setting stricter. Also returns the names of
    /// properties that the image may not set.
    #[must_use]
    pub fn tightened(&self, image: &PropertyLayer) -> (Self, Vec<&'static str>) {
        let (mut config, mut ignored) = (self.clone(), Vec::new());
        for property in PROPERTIES {
            let Some(value) = image.get(property.name) else { continue };
            let stricter = match property.from_image {
                FromImage::Nothing => {
                    ignored.push(property.name);
                    continue;
                }
                FromImage::Presence => continue,
                FromImage::Lower => {
                    let most = self.number(property.name);
                    value.as_u64().filter(|number| *number < most).map(Value::from)
                }
                FromImage::True => value.as_bool().filter(|flag| *flag).map(Value::from),
                FromImage::More => {
                    let mut all = self.denied_texts();
                    let given = value.as_array().into_iter().flatten();
                    let more = given.filter_map(Value::as_str).filter(|text| {
                        text.parse::<IpAddr>().is_ok() && !all.iter().any(|have| have == text)
                    });
                    let more: Vec<String> = more.map(str::to_owned).collect();
                    (!more.is_empty()).then(|| {
                        all.extend(more);
                        Value::from(all)
                    })
                }
            };
            if let Some(stricter) = stricter {
                config.0.insert(property.name.to_owned(), (stricter, PropertyOrigin::Image));
            }
        }
        (config, ignored)
    }

    /// Returns a property's value and its origin.
    #[must_use]
    pub fn value(&self, property: &Property) -> (Value, PropertyOrigin) {
        match self.0.get(property.name) {
            Some((value, origin)) => (value.clone(), *origin),
            None => (property.default_value(), PropertyOrigin::Default),
        }
    }

    /// Whether a file on the host sets this property.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|(_, origin)| *origin != PropertyOrigin::Image)
    }

    fn get(&self, name: &str) -> Value {
        let property = PROPERTIES.iter().find(|property| property.name == name);
        property.map_or(Value::Null, |property| self.value(property).0)
    }

    /// Returns a boolean property by name.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or_default()
    }

    /// Returns a numeric property by name.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).as_u64().unwrap_or_default()
    }

    /// Returns a text property by name.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        self.get(name).as_str().unwrap_or_default().to_owned()
    }

    /// Whether sessions run as root, as in CodeBuild, and run commands without a shell.
    #[must_use]
    pub fn container_mode(&self) -> bool {
        self.flag("Agent.ContainerMode")
    }

    /// Limit of sessions in one build.
    #[must_use]
    pub fn session_workers(&self) -> usize {
        usize::try_from(self.number("Mgs.SessionWorkersLimit")).unwrap_or(usize::MAX)
    }

    /// Returns a copy with this limit of concurrent scripts in one build.
    #[must_use]
    pub fn with_command_workers(&self, limit: usize) -> Self {
        let mut config = self.clone();
        let value = (Value::from(limit), PropertyOrigin::Home);
        config.0.insert("Mds.CommandWorkersLimit".to_owned(), value);
        config
    }

    /// Limit of concurrent scripts in one build.
    #[must_use]
    pub fn command_workers(&self) -> usize {
        usize::try_from(self.number("Mds.CommandWorkersLimit")).unwrap_or(usize::MAX)
    }

    /// How long sessions have to send their clients a last message when the endpoint stops.
    #[must_use]
    pub fn sessions_stop(&self) -> Duration {
        Duration::from_millis(self.number("Mgs.StopTimeoutMillis"))
    }

    /// How long scripts may go on when the endpoint stops.
    #[must_use]
    pub fn commands_stop(&self) -> Duration {
        Duration::from_millis(self.number("Mds.StopTimeoutMillis"))
    }

    /// How long the full output of commands is kept.
    #[must_use]
    pub fn command_outputs_kept(&self) -> Duration {
        let hours = self.number("Ssm.RunCommandLogsRetentionDurationHours");
        Duration::from_secs(hours.saturating_mul(3600))
    }

    /// The Region given to scripts, if a file sets one.
    #[must_use]
    pub fn region(&self) -> Option<String> {
        Some(self.text("Agent.Region")).filter(|region| !region.is_empty())
    }

    /// The AWS profile that scripts use.
    #[must_use]
    pub fn shared_profile(&self) -> Option<String> {
        let profile = self.text("Profile.ShareProfile");
        (self.flag("Profile.ShareCreds") && !profile.is_empty()).then_some(profile)
    }

    /// The folder for command output on a node, if a file sets one.
    #[must_use]
    pub fn orchestration_folder(&self) -> Option<String> {
        let name = "Agent.OrchestrationRootDir";
        self.is_given(name).then(|| self.text(name))
    }

    /// Whether to remove a command's full output as soon as it has ended with this status.
    #[must_use]
    pub fn removes_outputs(&self, how: StatusDetails, is_uploaded: bool) -> bool {
        let by_plugin = match self.text("Ssm.PluginLocalOutputCleanup").as_str() {
            "after-execution" => true,
            "after-upload" => is_uploaded,
            _ => false,
        };
        by_plugin
            || match self.text("Ssm.OrchestrationDirectoryCleanup").as_str() {
                "clean-success" => how == StatusDetails::Success,
                "clean-success-failed" => {
                    matches!(
                        how,
                        StatusDetails::Success
                            | StatusDetails::Failed
                            | StatusDetails::ExecutionTimedOut
                    )
                }
                _ => false,
            }
    }

    /// What AWS's agent reports about its system.
    #[must_use]
    pub fn system(&self) -> BTreeMap<String, String> {
        let names = [("lang", "Os.Lang"), ("name", "Os.Name"), ("version", "Os.Version")];
        names.map(|(short, name)| (short.to_owned(), self.text(name))).into()
    }

    /// How long older audit files are kept, if a file sets it.
    #[must_use]
    pub fn audit_kept(&self) -> Option<Duration> {
        let name = "Agent.AuditExpirationDay";
        let days = self.number(name);
        self.is_given(name).then(|| Duration::from_secs(days.saturating_mul(24 * 3600)))
    }

    /// Addresses that port sessions never connect to, under any host name.
    #[must_use]
    pub fn denied(&self) -> Vec<IpAddr> {
        self.denied_texts().iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn denied_texts(&self) -> Vec<String> {
        let value = self.get("Mgs.DeniedPortForwardingRemoteIPs");
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(value: &Value) -> PropertyLayer {
        PropertyLayer::read(&value.to_string()).expect("a layer").0
    }

    #[test]
    fn the_named_file_counts_before_that_of_the_state_folder() {
        let named = layer(&json!({"Mds": {"CommandWorkersLimit": 2}}));
        let home =
            layer(&json!({"mds": {"commandworkerslimit": 9}, "Agent": {"Region": "eu-west-1"}}));
        let config = AgentConfig::of_host(Some(named), Some(home));
        assert_eq!(
            (config.command_workers(), config.text("Agent.Region")),
            (2, "eu-west-1".to_owned())
        );
        assert_eq!(config.session_workers(), 1000);
        assert!(config.container_mode() && config.is_given("Agent.Region"));
        assert!(!config.is_given("Agent.ContainerMode"));
        assert_eq!(config.denied().len(), 9);
        assert_eq!(config.sessions_stop(), Duration::from_secs(20));
    }

    #[test]
    fn what_run_command_takes_of_it() {
        let plain = AgentConfig::default();
        assert_eq!((plain.region(), plain.shared_profile()), (None, None));
        assert_eq!((plain.orchestration_folder(), plain.audit_kept()), (None, None));
        assert_eq!(plain.system().get("lang").map(String::as_str), Some("en-US"));
        let said = |value: Value| AgentConfig::of_host(Some(layer(&value)), None);
        let config = said(json!({
            "Profile": {"ShareProfile": "dev"},
            "Agent": {"Region": "eu-west-1", "OrchestrationRootDir": "out", "AuditExpirationDay": 3},
            "Os": {"Name": "other"},
        }));
        assert_eq!(config.region().as_deref(), Some("eu-west-1"));
        assert_eq!(config.shared_profile().as_deref(), Some("dev"));
        assert_eq!(config.orchestration_folder().as_deref(), Some("out"));
        assert_eq!(config.audit_kept(), Some(Duration::from_secs(3 * 24 * 3600)));
        assert_eq!(config.system().get("name").map(String::as_str), Some("other"));
        let config = said(json!({"Profile": {"ShareProfile": "dev", "ShareCreds": false}}));
        assert_eq!(config.shared_profile(), None);
        let all = [
            StatusDetails::Success,
            StatusDetails::Failed,
            StatusDetails::ExecutionTimedOut,
            StatusDetails::Cancelled,
        ];
        for (section, uploaded, wanted) in [
            (json!({}), true, [false; 4]),
            (json!({"PluginLocalOutputCleanup": "after-execution"}), false, [true; 4]),
            (json!({"PluginLocalOutputCleanup": "after-upload"}), false, [false; 4]),
            (json!({"PluginLocalOutputCleanup": "after-upload"}), true, [true; 4]),
            (
                json!({"OrchestrationDirectoryCleanup": "clean-success"}),
                false,
                [true, false, false, false],
            ),
            (
                json!({"OrchestrationDirectoryCleanup": "clean-success-failed"}),
                false,
                [true, true, true, false],
            ),
        ] {
            let config = said(json!({"Ssm": section}));
            let removed = all.map(|how| config.removes_outputs(how, uploaded));
            assert_eq!(removed, wanted, "{section}");
        }
    }

    #[test]
    fn an_image_can_only_tighten() {
        let host = AgentConfig::of_host(
            Some(layer(&json!({
                "Mgs": {"SessionWorkersLimit": 5, "DeniedPortForwardingRemoteIPs": ["10.0.0.1"]},
                "Agent": {"ContainerMode": true},
            }))),
            None,
        );
        let (config, ignored) = host.tightened(&layer(&json!({
            "Mgs": {"SessionWorkersLimit": 6, "DeniedPortForwardingRemoteIPs": ["10.0.0.2", "10.0.0.1"],
                "StopTimeoutMillis": 1},
            "Mds": {"CommandWorkersLimit": 1},
            "Agent": {"ContainerMode": false, "Region": "x"},
            "Kms": {"RequireKMSChallengeResponse": true, "Endpoint": "http://evil"},
            "Profile": {"ShareProfile": "prod"},
        })));
        assert_eq!((config.session_workers(), config.command_workers()), (5, 1));
        assert!(config.container_mode() && config.flag("Kms.RequireKMSChallengeResponse"));
        let addresses: Vec<String> = config.denied().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(config.sessions_stop(), Duration::from_secs(20));
        assert_eq!(config.text("Agent.Region") + &config.text("Profile.ShareProfile"), "");
        assert_eq!(
            ignored,
            ["Profile.ShareProfile", "Mgs.StopTimeoutMillis", "Agent.Region", "Kms.Endpoint"]
        );
        // Whatever the image's file says, no setting of the host becomes weaker.
        let (config, _) = host.tightened(&layer(&json!({
            "Mgs": {"DeniedPortForwardingRemoteIPs": []},
            "Kms": {"RequireKMSChallengeResponse": false},
        })));
        assert_eq!(config, host);
    }
}

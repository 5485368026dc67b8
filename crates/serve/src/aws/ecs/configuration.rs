//! A cluster's settings for sessions in its tasks: `executeCommandConfiguration`, validated on
//! arrival.

use super::invalid;
use crate::aws::call::RefusedCall;
use crate::aws::places;
use runner_core::destination::{Bucket, Destinations, Form, LogGroup};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The log of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Logging {
    None,
    /// Where the build's own log goes.
    #[default]
    Default,
    /// The targets set in the cluster.
    Override,
}

/// The member `executeCommandConfiguration`, in the form of ECS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExecConfiguration {
    #[serde(default)]
    pub(super) kms_key_id: String,
    #[serde(default)]
    pub(super) logging: Logging,
    #[serde(default)]
    pub(super) log_configuration: Option<LogConfiguration>,
}

/// The log targets for [`Logging::Override`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogConfiguration {
    pub(super) cloud_watch_log_group_name: String,
    pub(super) cloud_watch_encryption_enabled: bool,
    pub(super) s3_bucket_name: String,
    pub(super) s3_encryption_enabled: bool,
    pub(super) s3_key_prefix: String,
}

impl ExecConfiguration {
    /// Where to log sessions at AWS; `own` is the log group of the build's own log.
    pub(super) fn destinations(&self, own: Option<&str>) -> Destinations {
        // We send text during a session; AWS sends it at the end.
        let form = Form::Text;
        match (self.logging, &self.log_configuration) {
            (Logging::None, _) | (Logging::Override, None) => Destinations::default(),
            (Logging::Default, _) => {
                // Created like the build's own stream, which may begin later.
                let group = own.map(|name| LogGroup {
                    name: name.to_owned(),
                    must_be_encrypted: false,
                    is_made: true,
                    form,
                });
                Destinations { group, bucket: None }
            }
            (Logging::Override, Some(log)) => {
                let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
                let group = named(&log.cloud_watch_log_group_name).map(|name| LogGroup {
                    name,
                    must_be_encrypted: log.cloud_watch_encryption_enabled,
                    is_made: false,
                    form,
                });
                let bucket = named(&log.s3_bucket_name).map(|name| Bucket {
                    name,
                    prefix: log.s3_key_prefix.clone(),
                    must_be_encrypted: log.s3_encryption_enabled,
                });
                Destinations { group, bucket }
            }
        }
    }
}

const KNOWN: [&str; 2] = ["executeCommandConfiguration", "managedStorageConfiguration"];

/// Validates a cluster's `configuration`. Returns its settings for sessions.
///
/// # Errors
/// If something is wrong with it, with the reason.
pub(super) fn check(configuration: &Value) -> Result<ExecConfiguration, RefusedCall> {
    let map = configuration.as_object().ok_or_else(|| invalid("configuration is a map."))?;
    if let Some(name) = map.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(invalid(format!("configuration has no member {name}.")));
    }
    let exec = exec(Some(configuration))?;
    if exec.kms_key_id.chars().count() > 2048 || exec.kms_key_id.chars().any(char::is_control) {
        return Err(invalid("kmsKeyId has at most 2048 characters, and no control characters."));
    }
    match (exec.logging, &exec.log_configuration) {
        (Logging::Override, None) => {
            Err(invalid("logConfiguration is required where logging is OVERRIDE."))
        }
        (Logging::Override, Some(log))
            if log.cloud_watch_log_group_name.is_empty() && log.s3_bucket_name.is_empty() =>
        {
            Err(invalid("logConfiguration names neither a CloudWatch log group nor an S3 bucket."))
        }
        (Logging::None | Logging::Default, Some(_)) => {
            Err(invalid("logConfiguration can only be given where logging is OVERRIDE."))
        }
        (Logging::Override, Some(log)) => {
            let group = ("cloudWatchLogGroupName", log.cloud_watch_log_group_name.as_str());
            let bucket = ("s3BucketName", log.s3_bucket_name.as_str());
            let wrong = [places::wrong_group(group), places::wrong_bucket(bucket)];
            let prefix = ("s3KeyPrefix", log.s3_key_prefix.as_str());
            let wrong: Vec<String> =
                wrong.into_iter().chain([places::wrong_prefix(prefix)]).flatten().collect();
            if wrong.is_empty() { Ok(exec) } else { Err(invalid(wrong.join("; "))) }
        }
        (Logging::None | Logging::Default, None) => Ok(exec),
    }
}

/// The settings for sessions in a cluster's `configuration`.
///
/// # Errors
/// If the member has another form.
pub(super) fn exec(configuration: Option<&Value>) -> Result<ExecConfiguration, RefusedCall> {
    let none = Value::Object(Map::new());
    let exec = configuration.and_then(|map| map.get("executeCommandConfiguration"));
    let exec = exec.filter(|exec| !exec.is_null()).unwrap_or(&none);
    ExecConfiguration::deserialize(exec)
        .map_err(|error| invalid(format!("executeCommandConfiguration: {error}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations() {
        let checked = |exec: Value| check(&json!({"executeCommandConfiguration": exec}));
        let log =
            json!({"cloudWatchLogGroupName": "g", "s3BucketName": "kept", "s3KeyPrefix": "p"});
        let override_with = |log: Value| json!({"logging": "OVERRIDE", "logConfiguration": log});
        for good in [
            json!({}),
            json!({"kmsKeyId": "alias/k", "logging": "NONE"}),
            json!({"logging": "DEFAULT"}),
            json!({"logging": "OVERRIDE", "logConfiguration": log}),
        ] {
            assert_eq!(checked(good.clone()).map(drop), Ok(()), "{good}");
        }
        for (bad, wanted) in [
            (json!({"logging": "OVERRIDE"}), "is required"),
            (json!({"logging": "OVERRIDE", "logConfiguration": {}}), "names neither"),
            (json!({"logging": "NONE", "logConfiguration": log}), "only be given"),
            (json!({"logConfiguration": log}), "only be given"),
            (json!({"logging": "SOME"}), "unknown variant"),
            (json!({"kmsKeyId": 1}), "invalid type"),
            (override_with(json!({"s3BucketName": "kept/b"})), "the name of a bucket alone"),
            (override_with(json!({"s3BucketName": "Big"})), "cannot be the name of a bucket"),
            (override_with(json!({"cloudWatchLogGroupName": "a b"})), "cloudWatchLogGroupName"),
            (override_with(json!({"s3BucketName": "good", "s3KeyPrefix": "a\n"})), "s3KeyPrefix"),
        ] {
            let refusal = checked(bad.clone()).expect_err("refused");
            assert!(refusal.message.contains(wanted), "{bad}: {}", refusal.message);
        }
        assert!(check(&json!({"executeCommandConfig": {}})).is_err());
        assert!(check(&json!([])).is_err());
        // Without any settings logging is DEFAULT.
        assert_eq!(exec(None).expect("a default"), ExecConfiguration::default());
        assert_eq!(ExecConfiguration::default().logging, Logging::Default);
    }

    #[test]
    fn where_sessions_are_logged() {
        let to = |exec: Value, own: Option<&str>| {
            let configuration = json!({"executeCommandConfiguration": exec});
            super::exec(Some(&configuration)).expect("one").destinations(own)
        };
        let group = |name: &str, must_be_encrypted, is_made| {
            Some(LogGroup { name: name.to_owned(), must_be_encrypted, is_made, form: Form::Text })
        };
        assert!(to(json!({"logging": "NONE"}), Some("own")).is_empty());
        for default in [json!({}), json!({"logging": "DEFAULT"})] {
            assert!(to(default.clone(), None).is_empty());
            let own = to(default, Some("own"));
            assert_eq!(own, Destinations { group: group("own", false, true), bucket: None });
        }
        let log = json!({"cloudWatchLogGroupName": "g", "cloudWatchEncryptionEnabled": true,
            "s3BucketName": "kept", "s3KeyPrefix": "p", "s3EncryptionEnabled": false});
        let both = to(json!({"logging": "OVERRIDE", "logConfiguration": log}), Some("own"));
        let (name, prefix) = ("kept".to_owned(), "p".to_owned());
        let bucket = Some(Bucket { name, prefix, must_be_encrypted: false });
        assert_eq!(both, Destinations { group: group("g", true, false), bucket });
        let log = json!({"s3BucketName": "kept"});
        let one = to(json!({"logging": "OVERRIDE", "logConfiguration": log}), None);
        assert!(one.group.is_none() && !one.must_be_encrypted());
    }
}

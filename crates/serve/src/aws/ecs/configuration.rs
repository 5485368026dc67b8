//! What a cluster says of sessions in its tasks: `executeCommandConfiguration`, checked when it comes.

use super::invalid;
use crate::aws::call::Refusal;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Where sessions are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Logging {
    None,
    /// Where the build's own log goes.
    #[default]
    Default,
    /// Where the cluster says.
    Override,
}

/// As ECS has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Exec {
    #[serde(default)]
    pub(super) kms_key_id: String,
    #[serde(default)]
    pub(super) logging: Logging,
    #[serde(default)]
    pub(super) log_configuration: Option<LogConfiguration>,
}

/// Where sessions are logged with [`Logging::Override`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogConfiguration {
    pub(super) cloud_watch_log_group_name: String,
    pub(super) cloud_watch_encryption_enabled: bool,
    pub(super) s3_bucket_name: String,
    pub(super) s3_encryption_enabled: bool,
    pub(super) s3_key_prefix: String,
}

const KNOWN: [&str; 2] = ["executeCommandConfiguration", "managedStorageConfiguration"];

/// Checks a cluster's `configuration`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(configuration: &Value) -> Result<(), Refusal> {
    let map = configuration.as_object().ok_or_else(|| invalid("configuration is a map."))?;
    if let Some(name) = map.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(invalid(format!("configuration has no member {name}.")));
    }
    let exec = exec(Some(configuration))?;
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
        _ => Ok(()),
    }
}

/// What a cluster's `configuration` says of sessions.
///
/// # Errors
/// It is none.
pub(super) fn exec(configuration: Option<&Value>) -> Result<Exec, Refusal> {
    let none = Value::Object(Map::new());
    let exec = configuration.and_then(|map| map.get("executeCommandConfiguration"));
    let exec = exec.filter(|exec| !exec.is_null()).unwrap_or(&none);
    Exec::deserialize(exec)
        .map_err(|error| invalid(format!("executeCommandConfiguration: {error}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn configurations() {
        let checked = |exec: Value| check(&json!({"executeCommandConfiguration": exec}));
        let log = json!({"cloudWatchLogGroupName": "g", "s3BucketName": "b", "s3KeyPrefix": "p"});
        for good in [
            json!({}),
            json!({"kmsKeyId": "alias/k", "logging": "NONE"}),
            json!({"logging": "DEFAULT"}),
            json!({"logging": "OVERRIDE", "logConfiguration": log}),
        ] {
            assert_eq!(checked(good.clone()), Ok(()), "{good}");
        }
        for (bad, wanted) in [
            (json!({"logging": "OVERRIDE"}), "is required"),
            (json!({"logging": "OVERRIDE", "logConfiguration": {}}), "names neither"),
            (json!({"logging": "NONE", "logConfiguration": log}), "only be given"),
            (json!({"logConfiguration": log}), "only be given"),
            (json!({"logging": "SOME"}), "unknown variant"),
            (json!({"kmsKeyId": 1}), "invalid type"),
        ] {
            let refusal = checked(bad.clone()).expect_err("refused");
            assert!(refusal.message.contains(wanted), "{bad}: {}", refusal.message);
        }
        assert!(check(&json!({"executeCommandConfig": {}})).is_err());
        assert!(check(&json!([])).is_err());
        // Nothing said is DEFAULT.
        assert_eq!(exec(None).expect("a default"), Exec::default());
        assert_eq!(Exec::default().logging, Logging::Default);
    }
}

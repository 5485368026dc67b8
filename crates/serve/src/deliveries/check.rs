//! Checks whether a session may begin with these log targets. The messages are those of AWS's
//! agent, with added causes.

use super::Deliveries;
use runner_cloud::{CLOUDWATCH_LOGS, SIMPLE_STORAGE, logs};
use runner_core::destination::{Bucket, Destinations, LogGroup};

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckedDestinations {
    /// Why no session may begin.
    pub refusal: Option<String>,
    /// Sentences for the user.
    pub notices: Vec<String>,
    /// The usable targets.
    pub to: Destinations,
}

const NO_KEY: &str = "We couldn't start the session because encryption is not set up on the selected CloudWatch \
                      Logs log group. Either encrypt the log group or choose an option to enable logging without \
                      encryption.";
const NO_ENCRYPTION: &str = "We couldn't start the session because encryption is not set up on the selected Amazon \
                             S3 bucket. Either encrypt the bucket or choose an option to enable logging without \
                             encryption.";

/// The refusal of a session that must be logged and cannot be: the reason and a sentence.
pub(crate) fn not_logged(why: &str) -> String {
    format!("{why} Sessions begin only where they are logged: --require-session-log.")
}

/// The result for one target.
enum DestinationFinding {
    Fine,
    /// No session may begin.
    Refused(String),
    /// The target takes no log.
    Missing(String),
}

impl Deliveries {
    pub(super) async fn checked(&self, to: Destinations, thoroughly: bool) -> CheckedDestinations {
        let mut checked = CheckedDestinations { to: to.clone(), ..CheckedDestinations::default() };
        let (group, bucket) = tokio::join!(
            async {
                match &to.group {
                    Some(group) => self.group(group, thoroughly).await,
                    None => DestinationFinding::Fine,
                }
            },
            async {
                match &to.bucket {
                    Some(bucket) => self.bucket(bucket, thoroughly).await,
                    None => DestinationFinding::Fine,
                }
            },
        );
        if let DestinationFinding::Missing(_) = group {
            checked.to.group = None;
        }
        if let DestinationFinding::Missing(_) = bucket {
            checked.to.bucket = None;
        }
        if !matches!((&group, &bucket), (DestinationFinding::Fine, DestinationFinding::Fine)) {
            self.doubt();
        }
        let is_nowhere = checked.to.is_empty();
        for found in [group, bucket] {
            match found {
                DestinationFinding::Fine => {}
                DestinationFinding::Refused(why) => {
                    checked.refusal.get_or_insert(why);
                }
                DestinationFinding::Missing(why) => {
                    let place = if is_nowhere { "" } else { " there" };
                    checked.notices.push(format!("This session is not logged{place}: {why}."));
                }
            }
        }
        checked
    }

    async fn group(&self, group: &LogGroup, thoroughly: bool) -> DestinationFinding {
        let name = &group.name;
        let failed = |error: &str| {
            DestinationFinding::Refused(format!(
                "Couldn't start the session because we are unable to validate encryption on CloudWatch Logs log group \
                 {name}. Error: {error}"
            ))
        };
        let cloud = match self.cloud(CLOUDWATCH_LOGS).await {
            Ok(cloud) => cloud,
            Err(error) if group.must_be_encrypted => return failed(&error),
            Err(error) => return DestinationFinding::Missing(error),
        };
        match logs::group(&cloud.amazon, name).await {
            Ok(None) if group.is_made && !group.must_be_encrypted => DestinationFinding::Fine,
            Ok(None) => DestinationFinding::Missing(format!("log group {name} does not exist")),
            Ok(Some(found)) if group.must_be_encrypted && !found.has_key => {
                DestinationFinding::Refused(NO_KEY.to_owned())
            }
            Ok(Some(_)) => DestinationFinding::Fine,
            Err(error) if group.must_be_encrypted => failed(&error.to_string()),
            Err(error) if thoroughly => {
                DestinationFinding::Missing(format!("log group {name}: {error}"))
            }
            // A caller without the right to look may still be allowed to write.
            Err(error) => {
                tracing::debug!(%error, group = name, "cannot look for a log group");
                DestinationFinding::Fine
            }
        }
    }

    async fn bucket(&self, bucket: &Bucket, thoroughly: bool) -> DestinationFinding {
        let failed = |error: &str| {
            DestinationFinding::Refused(format!(
                "Couldn't start the session because we are unable to validate encryption on Amazon S3 bucket. Error: \
                 {error}"
            ))
        };
        let cloud = match self.cloud(SIMPLE_STORAGE).await {
            Ok(cloud) => cloud,
            Err(error) if bucket.must_be_encrypted => return failed(&error),
            Err(error) => return DestinationFinding::Missing(error),
        };
        if !bucket.must_be_encrypted && !thoroughly {
            return DestinationFinding::Fine;
        }
        match cloud.s3.bucket_encryption(&bucket.name).await {
            Ok(None) if bucket.must_be_encrypted => {
                DestinationFinding::Refused(NO_ENCRYPTION.to_owned())
            }
            Ok(_) => DestinationFinding::Fine,
            Err(error) if bucket.must_be_encrypted => failed(&error.to_string()),
            Err(error) => DestinationFinding::Missing(format!("bucket {}: {error}", bucket.name)),
        }
    }
}

//! Predicts how sessions in a build would fare at AWS, for `runner doctor`.

use super::builds::Builds;
use super::call::RefusedCall;
use super::documents::{self, PREFERENCES};
use super::ecs;
use crate::deliveries::{CheckedDestinations, Deliveries, DeliverySettings};
use runner_cloud::CloudIdentity;
use runner_core::agent::AgentConfig;
use runner_core::arn::REGION;
use runner_core::destination::Destinations;
use runner_folder::state::{Documents, Home};
use std::sync::Arc;

/// The AWS resources that a kind of session needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The log targets.
    pub logs: Destinations,
    /// The key of AWS KMS for encryption.
    pub key: Option<String>,
}

/// The needs of Session Manager's sessions, from the preferences.
///
/// # Errors
/// If the preferences cannot be read.
pub async fn session_needs(home: &Home) -> Result<Needs, String> {
    let documents = Documents::of(home);
    let read = move || documents::preferences(&documents);
    let read = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    let preferences = match read {
        Ok(preferences) => preferences,
        Err(RefusedCall { message, .. }) => return Err(format!("{PREFERENCES}: {message}")),
    };
    let key = Some(preferences.kms_key).filter(|key| !key.is_empty());
    Ok(Needs { logs: preferences.logs, key })
}

/// The needs of ECS Exec's sessions, from the configuration of the build's cluster.
///
/// # Errors
/// If the cluster cannot be read.
pub async fn task_needs(home: &Home, uuid: &str) -> Result<Needs, String> {
    let builds = Builds::of(home);
    let known = builds.get(uuid).await.ok_or("its cluster cannot be read")?;
    let table = builds.clusters.current().map_err(|error| error.to_string())?;
    let cluster = table.cluster(&known.task.cluster);
    let configuration = cluster.and_then(|cluster| cluster.configuration);
    let (logs, key) = ecs::asked_for(configuration.as_ref(), &known)
        .map_err(|refusal| format!("cluster {}: {}", known.task.cluster, refusal.message))?;
    Ok(Needs { logs, key })
}

/// Checks AWS in the way an endpoint with this configuration would call it from here.
pub struct Outlook(Arc<Deliveries>);

impl Outlook {
    /// Uses the settings of the state folder's endpoints.
    pub fn new(home: &Home, identity: CloudIdentity, agent: &AgentConfig) -> Self {
        let settings = DeliverySettings {
            identity,
            s3_endpoint: agent.text("S3.Endpoint"),
            kms_endpoint: agent.text("Kms.Endpoint"),
        };
        // Nothing is sent.
        Outlook(Deliveries::new(home, settings, Arc::new(|_, _| ())))
    }

    /// Whether a session with these log targets may begin, and whether each target exists.
    pub async fn logs(&self, to: Destinations) -> CheckedDestinations {
        let mut seen = self.0.check(to, true);
        let _ = seen.wait_for(Option::is_some).await;
        seen.borrow().clone().unwrap_or_default()
    }

    /// The ARN of a key, and whether it is enabled.
    ///
    /// # Errors
    /// If AWS KMS cannot be asked or refuses, with the reason.
    pub async fn key(&self, key: &str) -> Result<(String, bool), String> {
        let described = self.0.describe_key(key, REGION).await;
        let described = described.map_err(|error| error.to_string())?;
        let about = &described["KeyMetadata"];
        let name = about["Arn"].as_str().unwrap_or(key).to_owned();
        Ok((name, about["Enabled"].as_bool().unwrap_or(false)))
    }
}

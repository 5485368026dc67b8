//! What sessions in a build would meet at AWS, before anybody asks for one: for `runner doctor`.

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

/// What a kind of session needs of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Where what it shows is to be.
    pub logs: Destinations,
    /// The key of AWS KMS that it is encrypted with.
    pub key: Option<String>,
}

/// What sessions of Session Manager need, by the preferences.
///
/// # Errors
/// The preferences cannot be read.
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

/// What sessions of ECS Exec need, by the configuration of the build's cluster.
///
/// # Errors
/// The cluster cannot be read.
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

/// AWS, as an endpoint with this configuration would call it from here.
pub struct Outlook(Arc<Deliveries>);

impl Outlook {
    /// For the state folder's endpoints.
    pub fn new(home: &Home, identity: CloudIdentity, agent: &AgentConfig) -> Self {
        let settings = DeliverySettings {
            identity,
            s3_endpoint: agent.text("S3.Endpoint"),
            kms_endpoint: agent.text("Kms.Endpoint"),
        };
        // Nothing is sent.
        Outlook(Deliveries::new(home, settings, Arc::new(|_, _| ())))
    }

    /// Whether a session may begin that is logged there, and whether each place is there.
    pub async fn logs(&self, to: Destinations) -> CheckedDestinations {
        let mut seen = self.0.check(to, true);
        let _ = seen.wait_for(Option::is_some).await;
        seen.borrow().clone().unwrap_or_default()
    }

    /// The ARN of a key, and whether it can be used.
    ///
    /// # Errors
    /// AWS KMS does not say so: why.
    pub async fn key(&self, key: &str) -> Result<(String, bool), String> {
        let described = self.0.describe_key(key, REGION).await;
        let described = described.map_err(|error| error.to_string())?;
        let about = &described["KeyMetadata"];
        let name = about["Arn"].as_str().unwrap_or(key).to_owned();
        Ok((name, about["Enabled"].as_bool().unwrap_or(false)))
    }
}

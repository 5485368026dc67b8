//! Simulates policies: the evaluator's answers without a call.
//!
//! Used by IAM's operations and by `runner iam simulate`. Names of builds and tasks stand for the
//! builds with all names and tags, so the result is the same as for a call.

use super::builds::{Builds, VisibleBuild};
use super::keys::KeyPair;
use super::policy::{identified, tagged};
use super::resources::{ResourceNames, last};
use super::users::{Users, owner};
use runner_cloud::{Amazon, CloudIdentity};
use runner_core::arn::ACCOUNT;
use runner_core::iam::{self, Directory, IamPolicy, PolicyDecision};
use runner_folder::state::Home;
use std::collections::BTreeSet;
use std::time::Duration;

/// The name of the tasks' role.
pub(super) const ROLE: &str = "runner-build";
/// Longest wait for credentials.
const SOON: Duration = Duration::from_secs(5);

/// The input of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Simulation {
    pub actions: Vec<String>,
    /// ARNs, or `*`.
    pub resources: Vec<String>,
    /// Condition keys and their values.
    pub context: Vec<(String, Vec<String>)>,
}

/// The result for one action on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    pub action: String,
    pub resource: String,
    /// `allowed`, `explicitDeny` or `implicitDeny`.
    pub decision: &'static str,
    /// The deciding statement.
    pub by: Option<String>,
    /// Condition keys that the policies use and nobody supplied.
    pub missing: Vec<String>,
}

/// Whose policies to simulate.
pub(super) enum SimulatedIdentity<'d> {
    Owner,
    /// The tasks' role: this program itself, and its identity at AWS.
    Role,
    User(&'d iam::IamUser),
    Group(&'d iam::IamGroup),
    /// Policies that belong to nobody.
    Policies(&'d [IamPolicy]),
}

/// The ARN of a user.
pub(super) fn user_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{name}")
}

impl<'d> SimulatedIdentity<'d> {
    /// The identity of an ARN, if it exists.
    pub(super) fn named(arn: &str, directory: &'d Directory) -> Option<Self> {
        let rest = arn.strip_prefix("arn:aws:iam::")?.strip_prefix(ACCOUNT)?;
        match rest.strip_prefix(':')?.split_once('/')? {
            ("role", ROLE) => Some(SimulatedIdentity::Role),
            ("user", name) if name == owner().0 => Some(SimulatedIdentity::Owner),
            ("user", name) => directory.user(name).map(SimulatedIdentity::User),
            ("group", name) => directory.group(name).map(SimulatedIdentity::Group),
            _ => None,
        }
    }

    fn policies(&self, directory: &'d Directory) -> Vec<&'d IamPolicy> {
        match self {
            SimulatedIdentity::Owner | SimulatedIdentity::Role => Vec::new(),
            SimulatedIdentity::User(user) => directory.policies(user).collect(),
            SimulatedIdentity::Group(group) => group.policies.iter().collect(),
            SimulatedIdentity::Policies(policies) => policies.iter().collect(),
        }
    }
}

/// Simulates one user of a state folder.
///
/// # Errors
/// If there is no such user; lists the existing ones.
pub async fn simulate(
    home: &Home,
    users: &Users,
    user: &str,
    asked: &Simulation,
) -> Result<Vec<Simulated>, String> {
    let directory = users.current();
    let Some(subject) = SimulatedIdentity::named(&user_arn(user), &directory) else {
        let names: Vec<&str> = directory.names().collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(format!("there is no user {user}; there is {there}"));
    };
    let (builds, identity) = (Builds::of(home), CloudIdentity::Default);
    Ok(ask(&builds, &identity, &directory, &subject, asked).await)
}

/// Simulates every action on every resource.
pub(super) async fn ask<'d>(
    builds: &Builds,
    identity: &CloudIdentity,
    directory: &'d Directory,
    subject: &SimulatedIdentity<'d>,
    asked: &Simulation,
) -> Vec<Simulated> {
    let policies = subject.policies(directory);
    let has_identity = match subject {
        SimulatedIdentity::Role => has_identity(builds.home(), identity).await,
        _ => false,
    };
    let keys: BTreeSet<&str> = policies.iter().flat_map(|policy| policy.keys()).collect();
    let mut answers = Vec::with_capacity(asked.actions.len() * asked.resources.len());
    for name in &asked.resources {
        let resource = resource(name, builds).await;
        let context = context(subject, &resource, asked);
        let missing: Vec<String> =
            keys.iter().filter(|key| !context.has(key)).map(|key| (*key).to_owned()).collect();
        for action in &asked.actions {
            let request = iam::IamRequest::new(action, &resource.names, &resource.also, &context);
            let (decision, by) = match subject {
                SimulatedIdentity::Owner => ("allowed", None),
                SimulatedIdentity::Role => (of_role(action, has_identity), None),
                _ => decided(&iam::evaluate(policies.iter().copied(), &request)),
            };
            answers.push(Simulated {
                action: action.clone(),
                resource: name.clone(),
                decision,
                by,
                missing: missing.clone(),
            });
        }
    }
    answers
}

/// The decision for the tasks' role. It may use what happens inside this program. At AWS it may do
/// what this program's identity may, which only AWS knows.
fn of_role(action: &str, has_identity: bool) -> &'static str {
    let service = action.split(':').next().unwrap_or_default().to_ascii_lowercase();
    match service.as_str() {
        "ssmmessages" => "allowed",
        "kms" | "s3" | "logs" if has_identity => "allowed",
        _ => "implicitDeny",
    }
}

/// Whether this program has credentials for AWS. The machine's own key pair does not count; it is
/// found if AWS's clients are pointed at it.
async fn has_identity(home: &Home, identity: &CloudIdentity) -> bool {
    let amazon = Amazon::load(identity).await;
    let asked = tokio::time::timeout(SOON, amazon.credentials()).await;
    let Ok(Ok(found)) = asked else { return false };
    let own = KeyPair::existing(home).ok().flatten();
    own.is_none_or(|own| own.id != found.access_key_id())
}

fn decided(decision: &PolicyDecision<'_>) -> (&'static str, Option<String>) {
    let by = match decision {
        PolicyDecision::Allowed(statement) | PolicyDecision::ExplicitDeny(statement) => {
            Some(statement.to_string())
        }
        PolicyDecision::ImplicitDeny => None,
    };
    (decision.name(), by)
}

/// The resource of an ARN: a build with all its names, or just this name.
async fn resource(arn: &str, builds: &Builds) -> ResourceNames {
    let known = match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
        [_, _, "ecs", _, _, thing] if thing.starts_with("task/") => builds.get(last(thing)).await,
        [_, _, "codebuild", _, _, thing] if thing.starts_with("build/") => {
            builds.get(thing.rsplit(':').next().unwrap_or_default()).await
        }
        _ => None,
    };
    let found: Option<&VisibleBuild> = known.as_ref();
    let mut resource = match found {
        Some(known) if arn.contains(":ecs:") => {
            ResourceNames::task(&known.task.cluster, arn, Some(known))
        }
        Some(known) => ResourceNames::build(arn, Some(known)),
        None => ResourceNames::default(),
    };
    // Checked under the given name, whatever its other names are.
    resource.names = vec![arn.to_owned()];
    resource
}

/// The condition keys; given ones override known ones.
fn context(
    subject: &SimulatedIdentity<'_>,
    resource: &ResourceNames,
    asked: &Simulation,
) -> iam::RequestContext {
    let mut context = iam::RequestContext::default();
    if let SimulatedIdentity::User(user) = subject {
        identified(&mut context, user, &user_arn(&user.name));
    }
    tagged(&mut context, resource);
    for (key, values) in &asked.context {
        context.clear(key);
        for value in values {
            context.add(key, value.as_str());
        }
    }
    context
}

//! The targets of sessions, builds and tasks, and whether sessions can be opened in them.
//!
//! Used by `ssm` and `ecs`, which start sessions.

use super::builds::VisibleBuild;
use super::call::RefusedCall;
use super::endpoint::Endpoint;
use crate::gateway::{NoSession, SessionPlan};
use runner_core::agent::AgentConfig;
use std::time::Duration;

/// The prefix of a build's uuid in a target.
pub(super) const TARGET: &str = "codebuild:";
/// The cluster of calls that name none.
pub(super) const CLUSTER: &str = runner_folder::state::DEFAULT_CLUSTER;
/// Sessions in tasks end after this long without input, whatever the configuration says.
pub(super) const ECS_IDLE: Duration = Duration::from_secs(20 * 60);

/// The cluster and the task in `ecs:<cluster>_<task>_<runtime>`. Cluster names may contain
/// underscores.
pub(super) fn parts_of_task(target: &str) -> Option<(&str, &str)> {
    let mut parts = target.strip_prefix("ecs:")?.rsplitn(3, '_');
    let (runtime, task, cluster) = (parts.next()?, parts.next()?, parts.next()?);
    (runtime.starts_with(task) && !cluster.is_empty()).then_some((cluster, task))
}

/// The cluster and the build's uuid in `ecs:<cluster>_<task>_<runtime>`.
pub(super) fn task_of_target(target: &str) -> Option<(&str, String)> {
    let (cluster, task) = parts_of_task(target)?;
    let uuid = uuid::Uuid::try_parse(task).ok()?;
    Some((cluster, uuid.hyphenated().to_string()))
}

/// The first characters of the build's uuid, from the managed node `mi-<17 digits>`.
fn node_of_target(target: &str) -> Option<String> {
    let digits = target.strip_prefix("mi-")?;
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    if digits.len() != 17 || !digits.chars().all(is_digit) {
        return None;
    }
    let (start, rest) = digits.split_at(8);
    let parts = [start, rest.get(..4)?, rest.get(4..8)?, rest.get(8..)?];
    Some(parts.join("-"))
}

pub(super) fn no_session(error: &NoSession) -> RefusedCall {
    match error {
        NoSession::Unknown(_) => RefusedCall::new("DoesNotExistException", error.to_string()),
        NoSession::TooMany(_) | NoSession::TooManyOfBuild(_) => {
            RefusedCall::new("ThrottlingException", error.to_string())
        }
        NoSession::Random(_) => {
            RefusedCall::new("InternalServerError", error.to_string()).with_status(500)
        }
    }
}

/// A build that can take sessions.
pub(super) struct Reachable {
    pub(super) known: VisibleBuild,
    /// How long a session may last without input.
    pub(super) idle: Duration,
    /// Whether the user who started the build set that limit.
    pub(super) is_idle_given: bool,
    /// Whether that limit overrides preferences.
    pub(super) is_idle_fixed: bool,
    /// The longest duration of a session.
    pub(super) longest: Option<Duration>,
    /// Whether sessions without a log at AWS are refused.
    pub(super) requires_log: bool,
}

/// The only live build of a target: `codebuild:BUILD`, BUILD alone, a task or a managed node.
pub(super) async fn resolve(target: &str, endpoint: &Endpoint) -> Result<VisibleBuild, String> {
    let found = if is_task(target) {
        match task_of_target(target) {
            Some((cluster, uuid)) => endpoint.builds.find(&uuid).await.and_then(|known| {
                let why = format!("the task is one of the cluster {}", known.task.cluster);
                let is_there = known.task.cluster == cluster;
                is_there.then_some(known).ok_or(why)
            }),
            None => Err("it is not of the form ecs:CLUSTER_TASK_RUNTIME".to_owned()),
        }
    } else if let Some(prefix) = node_of_target(target) {
        endpoint.builds.find(&prefix).await
    } else {
        endpoint.builds.find(target.strip_prefix(TARGET).unwrap_or(target)).await
    };
    found.map_err(|why| not_connected(target, &why))
}

/// Whether a target names a task.
pub(super) fn is_task(target: &str) -> bool {
    target.starts_with("ecs:")
}

/// A task's id: the build's uuid without dashes.
pub(super) fn task_id(known: &VisibleBuild) -> String {
    known.uuid.replace('-', "")
}

fn not_connected(target: &str, why: &str) -> String {
    let shown = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    format!("{} is not connected: {}.", shown(target), shown(why))
}

/// The build of a target, if it can take sessions; else the reason.
pub(super) async fn reachable(target: &str, known: VisibleBuild) -> Result<Reachable, String> {
    let mut reachable = check(known).await.map_err(|why| not_connected(target, &why))?;
    if is_task(target) {
        reachable.idle = ECS_IDLE;
        reachable.is_idle_fixed = true;
    }
    Ok(reachable)
}

/// The build with its limits, if it can take sessions; else the reason.
pub(super) async fn check(known: VisibleBuild) -> Result<Reachable, String> {
    let build = &known.record.id;
    if !known.is_live {
        return Err(format!("build {build} has ended"));
    }
    if !known.record.debug_session.session_enabled {
        return Err(format!("build {build} was started without --enable-session"));
    }
    let status = known.status().await.map_err(|error| format!("build {build}: {error}"))?;
    if !status.has_container {
        return Err(format!("build {build} has no container yet, or no longer"));
    }
    let longest = status.session_longest_s.map(Duration::from_secs);
    let idle = Duration::from_secs(status.session_idle_s);
    Ok(Reachable {
        known,
        idle,
        is_idle_given: status.is_idle_given,
        is_idle_fixed: false,
        longest,
        requires_log: status.requires_session_log,
    })
}

/// The session's plan. If a log is demanded, requires one.
pub(super) fn demanded(
    plan: SessionPlan,
    requires_log: bool,
    endpoint: &Endpoint,
) -> Result<SessionPlan, RefusedCall> {
    match requires_log || endpoint.requires_log {
        true => {
            plan.requiring_log().map_err(|text| RefusedCall::new("AccessDeniedException", text))
        }
        false => Ok(plan),
    }
}

/// The agent's configuration in a build: this endpoint's, restricted further by the image's.
pub(super) async fn agent_of(
    known: &VisibleBuild,
    endpoint: &Endpoint,
) -> Result<AgentConfig, String> {
    let image = known.image_agent().await;
    match image.map_err(|error| format!("build {}: {error}", known.record.id))? {
        Some(layer) => Ok(endpoint.agent.tightened(&layer).0),
        None => Ok(endpoint.agent.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let task = "0123456789abcdef0123456789abcdef";
        let good = format!("ecs:default_{task}_{task}-0123456789");
        let uuid = "01234567-89ab-cdef-0123-456789abcdef".to_owned();
        assert_eq!(task_of_target(&good), Some(("default", uuid.clone())));
        let other = format!("ecs:my_own_{task}_{task}-1");
        assert_eq!(task_of_target(&other), Some(("my_own", uuid)));
        for bad in [
            "ecs:",
            "codebuild:x",
            &format!("ecs:_{task}_{task}-1"),
            &format!("ecs:default_{task}_x"),
            &format!("ecs:default_{task}"),
            "ecs:default_../.._x",
        ] {
            assert_eq!(task_of_target(bad), None, "{bad}");
        }
        let node = node_of_target("mi-0123456789abcdef0");
        assert_eq!(node.as_deref(), Some("01234567-89ab-cdef-0"));
        for bad in
            ["mi-", "mi-0123456789abcdef", "mi-0123456789abcdeg0", "mi-0123456789abcdef01", "x"]
        {
            assert_eq!(node_of_target(bad), None, "{bad}");
        }
    }
}

//! Selects the builds of a command by name or by tags.

use super::{invalid, is_build};
use crate::aws::builds::VisibleBuild;
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::Endpoint;
use crate::aws::resources::{node_id, tags};
use crate::aws::targets::resolve;
use serde::Deserialize;
use serde_json::{Value, json};

/// Most names in a request.
const MOST: usize = 50;
/// The type of nodes in requests for resource groups.
const NODES: &str = "AWS::SSM::ManagedInstance";

/// A rule that selects nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Target {
    key: String,
    #[serde(default)]
    values: Vec<String>,
}

/// A selected node.
pub(super) struct NodeTarget {
    /// Its name in responses.
    pub(super) name: String,
    /// The build, or why there is none.
    pub(super) known: Result<VisibleBuild, String>,
}

/// The nodes with these names.
pub(super) async fn by_name(
    names: &[String],
    endpoint: &Endpoint,
) -> Result<Vec<NodeTarget>, RefusedCall> {
    if names.len() > MOST {
        return Err(invalid(format!("InstanceIds has at most {MOST} members")));
    }
    let mut wanted: Vec<NodeTarget> = Vec::with_capacity(names.len());
    for name in names {
        let known = resolve(name, endpoint).await;
        let is_same = |one: &NodeTarget| match (&one.known, &known) {
            (Ok(one), Ok(other)) => one.uuid == other.uuid,
            _ => one.name == *name,
        };
        if wanted.iter().any(is_same) {
            let text = format!("InstanceIds: {} stands there twice", shown(name));
            return Err(RefusedCall::new("DuplicateInstanceId", text));
        }
        wanted.push(NodeTarget { name: name.clone(), known });
    }
    Ok(wanted)
}

/// The live builds that match all rules.
pub(super) async fn by_rules(
    rules: &[Target],
    endpoint: &Endpoint,
) -> Result<Vec<NodeTarget>, RefusedCall> {
    if rules.len() > 5 {
        return Err(invalid("Targets has at most 5 members"));
    }
    for rule in rules {
        if rule.values.is_empty() || rule.values.len() > MOST {
            return Err(invalid(format!(
                "Targets: {} is to have 1 to {MOST} values",
                shown(&rule.key)
            )));
        }
        let is_known = matches!(
            &*rule.key,
            "InstanceIds"
                | "instanceids"
                | "resource-groups:Name"
                | "resource-groups:ResourceTypeFilters"
        );
        if !is_known && rule.key.strip_prefix("tag:").is_none_or(str::is_empty) {
            return Err(invalid(format!(
                "Targets: there is no key {}; there are InstanceIds, tag:NAME, resource-groups:Name and \
                 resource-groups:ResourceTypeFilters",
                shown(&rule.key)
            )));
        }
    }
    let mut nodes = Vec::new();
    for known in endpoint.builds.live().await? {
        if !known.record.debug_session.session_enabled {
            continue;
        }
        let of_project = of_project(&known, endpoint).await;
        if rules.iter().all(|rule| fits(rule, &known, &of_project)) {
            nodes.push(NodeTarget { name: node_id(&known.uuid), known: Ok(known) });
        }
    }
    Ok(nodes)
}

/// The tags of a build's project, if this endpoint has the project.
async fn of_project(known: &VisibleBuild, endpoint: &Endpoint) -> Vec<(String, String)> {
    let Some(service) = &endpoint.service else { return Vec::new() };
    let project = service.project(&known.record.project_name).await.ok().flatten();
    let tags = project.as_ref().map(runner_service::project::shown);
    let tags = tags.as_ref().and_then(|shown| shown.get("tags")?.as_array());
    let text = |tag: &Value, key: &str| Some(tag.get(key)?.as_str()?.to_owned());
    let tag = |tag: &Value| Some((text(tag, "key")?, text(tag, "value").unwrap_or_default()));
    tags.into_iter().flatten().filter_map(tag).collect()
}

fn fits(rule: &Target, known: &VisibleBuild, of_project: &[(String, String)]) -> bool {
    let any = |is: &dyn Fn(&str) -> bool| rule.values.iter().any(|value| is(value));
    match rule.key.as_str() {
        "InstanceIds" | "instanceids" => {
            any(&|value| is_build(value, &known.uuid, &known.record.id))
        }
        "resource-groups:Name" => any(&|value| value == known.record.project_name),
        "resource-groups:ResourceTypeFilters" => any(&|value| value == NODES),
        key => {
            let key = key.strip_prefix("tag:").unwrap_or(key);
            let own = tags(known);
            let own = own.iter().map(|(key, value)| (key.as_ref(), value.as_str()));
            let theirs = of_project.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let mut all = own.chain(theirs);
            all.any(|(name, value)| name == key && rule.values.iter().any(|wanted| wanted == value))
        }
    }
}

pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// The rules in the form of responses.
pub(super) fn as_value(rules: &[Target]) -> Value {
    rules.iter().map(|rule| json!({"Key": rule.key, "Values": rule.values})).collect()
}

//! The resources of access checks: builds, tasks, clusters, sessions and documents by their ARNs.
//!
//! A build is a task as well, so a rule about either covers both. A missing resource keeps the name
//! from the request: a caller without permission is refused whether or not it exists.

use super::builds::VisibleBuild;
use super::targets::{CLUSTER, TARGET, is_task, parts_of_task, task_id};
use runner_core::arn::{REGION, arn};
use runner_folder::state::{CommandNode, Task};
use std::borrow::Cow;

/// One resource with its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResourceNames {
    /// The names in the call: a rule that allows must match one of them.
    pub(super) names: Vec<String>,
    /// Its other names, and those of its project and cluster: a rule that denies applies to these,
    /// too.
    pub(super) also: Vec<String>,
    /// Its tags.
    pub(super) tags: Vec<(Cow<'static, str>, String)>,
    /// Its name in refusals: as requested, whether or not it exists.
    pub(super) shown: String,
}

impl ResourceNames {
    pub(super) fn named(name: String) -> Self {
        ResourceNames { shown: name.clone(), names: vec![name], ..ResourceNames::default() }
    }

    /// Everything, for operations that name no resource.
    pub(super) fn all() -> Self {
        ResourceNames::named("*".to_owned())
    }

    /// A cluster, given by name or ARN.
    pub(super) fn cluster(name: &str) -> Self {
        ResourceNames::named(cluster_arn(name))
    }

    pub(super) fn session(id: &str) -> Self {
        ResourceNames::named(arn("ssm", &format!("session/{id}")))
    }

    /// A document, given by name or ARN: the one that would run, whatever precedes its name. AWS's
    /// own documents belong to no account.
    pub(super) fn document(name: &str) -> Self {
        let name = last(name);
        ResourceNames::named(match name.starts_with("AWS-") {
            true => format!("arn:aws:ssm:{REGION}::document/{name}"),
            false => arn("ssm", &format!("document/{name}")),
        })
    }

    /// Adds a name under which it may be denied as well.
    pub(super) fn known_as(mut self, name: String) -> Self {
        self.also.push(name);
        self
    }

    /// Adds these tags.
    pub(super) fn tagged(mut self, tags: impl IntoIterator<Item = (String, String)>) -> Self {
        self.tags.extend(tags.into_iter().map(|(key, value)| (key.into(), value)));
        self
    }

    /// A build in a call of CodeBuild. AWS's rules for these calls name projects.
    pub(super) fn build(id: &str, known: Option<&VisibleBuild>) -> Self {
        match known {
            Some(known) => ResourceNames {
                names: vec![known.record.arn.clone(), project_arn(known)],
                also: vec![
                    task_arn(&known.task.cluster, &task_id(known)),
                    cluster_arn(&known.task.cluster),
                    node_arn(known),
                ],
                tags: tags(known),
                shown: build_arn(id),
            },
            None => ResourceNames::named(build_arn(id)),
        }
    }

    /// A project, given by name or ARN.
    pub(super) fn project(name: &str) -> Self {
        let full = if is_arn(name) {
            name.to_owned()
        } else {
            arn("codebuild", &format!("project/{name}"))
        };
        let plain = full.rsplit('/').next().unwrap_or(name).to_owned();
        ResourceNames {
            tags: vec![("codebuild:project".into(), plain)],
            ..ResourceNames::named(full)
        }
    }

    /// A project's build without a folder, by the names it will have, also as a task.
    pub(super) fn waiting(id: &str, project: &str, uuid: &str, as_task: Option<&Task>) -> Self {
        let own = format!("{project}:{uuid}");
        let cluster = as_task.map_or(CLUSTER, |task| &task.cluster);
        let (task, node) = names_of(uuid, cluster);
        let mut tags = vec![
            ("codebuild:project".into(), project.to_owned()),
            ("codebuild:build".into(), own.clone()),
        ];
        tags.extend(as_task.into_iter().flat_map(tags_of_task));
        ResourceNames {
            names: vec![arn("codebuild", &format!("build/{own}")), project_named(project)],
            also: vec![task, cluster_arn(cluster), node],
            tags,
            shown: build_arn(id),
        }
    }

    /// The same build in a call of ECS.
    pub(super) fn waiting_task(shown: &str, project: &str, uuid: &str, task: &Task) -> Self {
        let of = ResourceNames::waiting("", project, uuid, Some(task));
        let (names, also) = (of.names, of.also);
        let mut also = also.into_iter();
        let own = also.next().into_iter().collect();
        ResourceNames {
            names: own,
            also: names.into_iter().chain(also).collect(),
            tags: of.tags,
            shown: task_arn(&task.cluster, last(shown)),
        }
    }

    /// A batch, with its project and uuid if it exists.
    pub(super) fn batch(id: &str, found: Option<(&str, &str)>) -> Self {
        let shown = match is_arn(id) {
            true => id.to_owned(),
            false => arn("codebuild", &format!("build-batch/{id}")),
        };
        let Some((project, uuid)) = found else { return ResourceNames::named(shown) };
        ResourceNames {
            names: vec![
                arn("codebuild", &format!("build-batch/{project}:{uuid}")),
                project_named(project),
            ],
            tags: vec![("codebuild:project".into(), project.to_owned())],
            shown,
            ..ResourceNames::default()
        }
    }

    /// A log group, with the projects whose logs it holds.
    pub(super) fn log_group(arn: &str, projects: &[String]) -> Self {
        let project_arns = projects.iter().map(|name| project_named(name));
        ResourceNames {
            names: vec![arn.to_owned(), format!("{arn}:*")],
            also: project_arns.collect(),
            // Logs of a single project carry its tag.
            tags: match projects {
                [project] => vec![("codebuild:project".into(), project.clone())],
                _ => Vec::new(),
            },
            shown: format!("{arn}:log-stream:"),
        }
    }

    /// A log stream, with its build if that exists.
    pub(super) fn log_stream(
        arn: &str,
        group: &str,
        build: Option<(&str, &str, Option<Task>)>,
    ) -> Self {
        let mut resource = ResourceNames::named(arn.to_owned());
        if let Some((project, uuid, task)) = build {
            let of =
                ResourceNames::waiting(&format!("{project}:{uuid}"), project, uuid, task.as_ref());
            resource.also = of.names.into_iter().chain(of.also).collect();
            resource.tags = of.tags;
        }
        resource.also.push(group.to_owned());
        resource
    }

    /// A build in a call of ECS: a task of this cluster.
    pub(super) fn task(cluster: &str, task: &str, known: Option<&VisibleBuild>) -> Self {
        let id = known.map_or_else(|| last(task).to_owned(), task_id);
        // A build in another cluster is checked there as well.
        let elsewhere = known.filter(|known| known.task.cluster != last(cluster));
        let elsewhere = elsewhere.into_iter().flat_map(|known| {
            [task_arn(&known.task.cluster, &id), cluster_arn(&known.task.cluster)]
        });
        ResourceNames {
            names: vec![task_arn(cluster, &id)],
            also: known
                .map(|known| [known.record.arn.clone(), project_arn(known), node_arn(known)])
                .into_iter()
                .flatten()
                .chain([cluster_arn(cluster)])
                .chain(elsewhere)
                .collect(),
            tags: known.map(tags).unwrap_or_default(),
            shown: task_arn(cluster, last(task)),
        }
    }

    /// A node that a command was sent to, even if its build is gone.
    pub(super) fn node(node: &CommandNode, as_task: Option<&Task>) -> Self {
        let cluster = as_task.map_or(CLUSTER, |task| &task.cluster);
        let build = arn("codebuild", &format!("build/{}", node.build));
        let project = arn("codebuild", &format!("project/{}", node.project));
        let task = task_arn(cluster, &node.uuid.replace('-', ""));
        let mut tags = vec![
            ("codebuild:project".into(), node.project.clone()),
            ("codebuild:build".into(), node.build.clone()),
        ];
        tags.extend(as_task.into_iter().flat_map(tags_of_task));
        ResourceNames {
            also: vec![build, project, task, cluster_arn(cluster)],
            tags,
            ..ResourceNames::named(arn("ssm", &format!("managed-instance/{}", node.id)))
        }
    }

    /// The target of a session or a command.
    pub(super) fn target(target: &str, known: Option<&VisibleBuild>) -> Self {
        if is_task(target) {
            let (cluster, task) = parts_of_task(target).unwrap_or((CLUSTER, target));
            return ResourceNames::task(cluster, task, known);
        }
        if target.starts_with(NODE) {
            let named = ResourceNames::named(arn("ssm", &format!("managed-instance/{target}")));
            let Some(known) = known else { return named };
            let other = ResourceNames::build(target, Some(known));
            let also = other.names.into_iter().chain(other.also);
            let also = also.filter(|name| !named.names.contains(name)).collect();
            return ResourceNames { also, tags: other.tags, ..named };
        }
        let typed = target.strip_prefix(TARGET).unwrap_or(target);
        let mut resource = ResourceNames::build(typed, known);
        // Rules for sessions name machines, not projects, but a rule may deny a project.
        let project = resource.names.split_off(1);
        resource.also.extend(project);
        resource
    }
}

/// The prefix of a managed node's id.
const NODE: &str = "mi-";

/// A build's id as a managed node.
#[must_use]
pub fn node_id(uuid: &str) -> String {
    let digits: String = uuid.chars().filter(|c| *c != '-').take(17).collect();
    format!("{NODE}{digits}")
}

/// The tags of a build.
pub(super) fn tags(known: &VisibleBuild) -> Vec<(Cow<'static, str>, String)> {
    let own: [(Cow<'static, str>, String); 2] = [
        ("codebuild:project".into(), known.record.project_name.clone()),
        ("codebuild:build".into(), known.record.id.clone()),
    ];
    own.into_iter().chain(tags_of_task(&known.task)).collect()
}

fn tags_of_task(task: &Task) -> impl Iterator<Item = (Cow<'static, str>, String)> {
    task.tags.iter().map(|(key, value)| (key.clone().into(), value.clone()))
}

/// The ARN of a cluster, given by name or ARN.
pub(super) fn cluster_arn(name: &str) -> String {
    if is_arn(name) { name.to_owned() } else { arn("ecs", &format!("cluster/{name}")) }
}

/// The ARN of a task in this cluster.
pub(super) fn task_arn(cluster: &str, id: &str) -> String {
    arn("ecs", &format!("task/{}/{id}", last(cluster)))
}

/// The ARN of a build's project.
fn project_arn(known: &VisibleBuild) -> String {
    project_named(&known.record.project_name)
}

fn project_named(name: &str) -> String {
    arn("codebuild", &format!("project/{name}"))
}

/// The ARN of a build as a managed node.
fn node_arn(known: &VisibleBuild) -> String {
    names_of(&known.uuid, CLUSTER).1
}

/// The ARNs of a build as a task and as a managed node.
fn names_of(uuid: &str, cluster: &str) -> (String, String) {
    let node = arn("ssm", &format!("managed-instance/{}", node_id(uuid)));
    (task_arn(cluster, &uuid.replace('-', "")), node)
}

fn build_arn(id: &str) -> String {
    if is_arn(id) { id.to_owned() } else { arn("codebuild", &format!("build/{id}")) }
}

fn is_arn(name: &str) -> bool {
    name.starts_with("arn:")
}

/// The part after the last slash; a name stays unchanged.
pub(super) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::arn::ACCOUNT;

    #[test]
    fn what_nobody_finds_has_the_name_that_was_typed() {
        let name = |resource: ResourceNames| resource.names.join(" ");
        let own = format!("{REGION}:{ACCOUNT}");
        assert_eq!(
            name(ResourceNames::build("demo:1", None)),
            format!("arn:aws:codebuild:{own}:build/demo:1")
        );
        assert_eq!(
            name(ResourceNames::target("codebuild:1", None)),
            format!("arn:aws:codebuild:{own}:build/1")
        );
        let task = format!("arn:aws:ecs:{own}:task/web/1");
        for found in [
            ResourceNames::task("web", "1", None),
            ResourceNames::task(&cluster_arn("web"), &task, None),
            ResourceNames::target("ecs:web_1_1-2", None),
        ] {
            assert_eq!(found.also, [format!("arn:aws:ecs:{own}:cluster/web")]);
            assert_eq!(name(found), task);
        }
        for odd in ["ecs:", "ecs:x", "ecs:_", ""] {
            assert_eq!(ResourceNames::target(odd, None).names.len(), 1, "{odd}");
        }
    }

    #[test]
    fn nodes_have_all_names_of_their_builds() {
        let node = CommandNode {
            name: "codebuild:demo".to_owned(),
            id: node_id("01234567-89ab-cdef-0123-456789abcdef"),
            uuid: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            build: "demo:01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            project: "demo".to_owned(),
        };
        assert_eq!(node.id, "mi-0123456789abcdef0");
        let own = format!("{REGION}:{ACCOUNT}");
        let resource = ResourceNames::node(&node, None);
        assert_eq!(
            resource.names,
            [format!("arn:aws:ssm:{own}:managed-instance/mi-0123456789abcdef0")]
        );
        let (build, project) = (&node.build, &node.project);
        for also in [
            format!("arn:aws:codebuild:{own}:build/{build}"),
            format!("arn:aws:codebuild:{own}:project/{project}"),
            format!("arn:aws:ecs:{own}:task/default/0123456789abcdef0123456789abcdef"),
        ] {
            assert!(resource.also.contains(&also), "{also}");
        }
        // A missing target keeps the name from the request.
        assert_eq!(ResourceNames::target("mi-x", None).names[0].rsplit('/').next(), Some("mi-x"));
    }

    #[test]
    fn documents_of_aws_are_in_nobodys_account() {
        let name = |text: &str| ResourceNames::document(text).names.join(" ");
        assert_eq!(
            name("AWS-StartSSHSession"),
            format!("arn:aws:ssm:{REGION}::document/AWS-StartSSHSession")
        );
        assert_eq!(name("mine"), format!("arn:aws:ssm:{REGION}:{ACCOUNT}:document/mine"));
        // Matches the document that would run.
        for text in ["arn:x/AWS-StartSSHSession", "mine/AWS-StartSSHSession"] {
            assert_eq!(name(text), name("AWS-StartSSHSession"), "{text}");
        }
    }
}

//! Parses a project in CodeBuild's own format, as `aws codebuild batch-get-projects` prints it.
//!
//! Every key in AWS's API is accepted, even if it has no effect here. Any other key is an error.

mod keys;
#[cfg(test)]
mod tests;

use super::json::json;
use crate::spec::read::NodeSlot;
use crate::spec::yaml::{YamlNode, YamlValue};
use crate::spec::{Diagnostic, DiagnosticCode, Span, shape};
use keys::{ANSWER, PROJECT};
use serde::{Deserialize, Serialize};

/// A value with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place in the file.
    pub span: Span,
}

/// The buildspec of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectBuildspec {
    /// A file below the source directory.
    Path(String),
    /// The text itself.
    Inline(String),
    /// An object on S3, by its ARN.
    Object(String),
}

/// The type of a project variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableKind {
    /// The value itself.
    Plain,
    /// The name of a parameter in Parameter Store.
    Parameter,
    /// A reference to a secret in Secrets Manager.
    Secret,
}

/// A variable of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectVariable {
    /// Its name.
    pub name: String,
    /// Its value, or a reference to it.
    pub value: String,
    /// The type of the value.
    pub kind: VariableKind,
    /// Its place in the file.
    pub span: Span,
}

/// Where a project's artifacts go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectArtifacts {
    /// Identifier of a secondary artifact; `None` for the primary one.
    pub identifier: Option<String>,
    /// `S3`, `NO_ARTIFACTS` or `CODEPIPELINE`.
    pub kind: String,
    /// The bucket.
    pub location: Option<String>,
    /// A prefix of the key.
    pub path: String,
    /// Whether the key contains the build ID.
    pub has_build_id: bool,
    /// The name.
    pub name: Option<String>,
    /// Whether the files are packed into one ZIP.
    pub is_zip: bool,
    /// Whether the buildspec's name overrides this one.
    pub override_name: bool,
}

/// A project's cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectCache {
    /// `S3`, `LOCAL` or `NO_CACHE`.
    pub kind: String,
    /// Bucket and prefix.
    pub location: Option<String>,
    /// Modes of a local cache.
    pub modes: Vec<String>,
    /// Projects with the same namespace share caches.
    pub namespace: Option<String>,
}

/// A log group, and the prefix of a stream's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudWatchLogs {
    /// The group, if it is not the default one.
    pub group: Option<String>,
    /// Prefix of the stream's name.
    pub stream: Option<String>,
}

/// The settings of a project file that this program supports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectFile {
    /// Its name.
    pub name: Option<Located<String>>,
    /// Its buildspec, if it is not `buildspec.yml`.
    pub buildspec: Option<Located<ProjectBuildspec>>,
    /// Its image.
    pub image: Option<Located<String>>,
    /// Whether its containers are privileged.
    pub privileged: Option<Located<bool>>,
    /// Its variables.
    pub variables: Vec<ProjectVariable>,
    /// Time limit of a build, in minutes.
    pub timeout_minutes: Option<Located<u32>>,
    /// Memory (GiB) and number of processors of its compute type.
    pub compute: Option<Located<(u32, u32)>>,
    /// The primary artifact.
    pub artifacts: Option<Located<ProjectArtifacts>>,
    /// Secondary artifacts.
    pub secondary_artifacts: Vec<ProjectArtifacts>,
    /// Its cache.
    pub cache: Option<Located<ProjectCache>>,
    /// CloudWatch Logs destination of its logs.
    pub cloudwatch: Option<Located<CloudWatchLogs>>,
    /// Bucket and prefix of its logs.
    pub s3_logs: Option<Located<String>>,
    /// Settings that are not supported here.
    pub unheeded: Vec<Located<String>>,
}

/// Parses a project: the response of BatchGetProjects, or a single project. If there are several,
/// `wanted` is the name of the one to use.
///
/// # Errors
/// Every problem with it.
pub fn codebuild(text: &str, wanted: Option<&str>) -> Result<ProjectFile, Vec<Diagnostic>> {
    let node = json(text).map_err(|problem| vec![*problem])?;
    let project = choose(&node, wanted).map_err(|problem| vec![*problem])?;
    let mut problems = Vec::new();
    if std::ptr::eq(project, &raw const node) {
        shape::check_strictly(project, &PROJECT, "the project", &mut problems);
    } else {
        shape::check_strictly(&node, &ANSWER, "the answer", &mut problems);
    }
    let read = read(NodeSlot::root(project), &mut problems);
    problems.sort_by_key(|problem| (problem.span.line, problem.span.column));
    if problems.iter().any(Diagnostic::is_error) { Err(problems) } else { Ok(read) }
}

/// What the names of environment types begin with that are not Linux.
const ELSEWHERE: [&str; 2] = ["WINDOWS", "MAC"];

fn choose<'n>(node: &'n YamlNode, wanted: Option<&str>) -> Result<&'n YamlNode, Box<Diagnostic>> {
    let refuse = |message: String| Diagnostic::new(DiagnosticCode::BadValue, node.span, message);
    let YamlValue::Mapping(entries) = &node.value else {
        return Err(Box::new(refuse("a project is an object".to_owned())));
    };
    let is_answer =
        entries.iter().find(|(key, _)| key.value == YamlValue::Scalar("projects".to_owned()));
    let Some((_, projects)) = is_answer else { return Ok(node) };
    let YamlValue::Sequence(projects) = &projects.value else {
        return Err(Box::new(refuse("`projects` is a list".to_owned())));
    };
    let name = |node: &YamlNode| NodeSlot::root(node).get("name").string().unwrap_or_default();
    match (projects.as_slice(), wanted) {
        ([], _) => {
            Err(Box::new(refuse("there is no project in it".to_owned()).hint(
                "aws codebuild batch-get-projects --names NAME; is the Region the right one?",
            )))
        }
        ([one], _) => Ok(one),
        (several, wanted) => {
            let found = wanted.and_then(|wanted| several.iter().find(|node| name(node) == wanted));
            found.ok_or_else(|| {
                let names: Vec<String> = several.iter().map(name).collect();
                Box::new(
                    refuse(format!("there are {} projects in it", several.len()))
                        .hint(format!("choose one with --project: {}", names.join(", "))),
                )
            })
        }
    }
}

fn read(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> ProjectFile {
    let environment = map.get("environment");
    if let Some(kind) = environment.get("type").text()
        && ELSEWHERE.iter().any(|other| kind.text.to_ascii_uppercase().starts_with(other))
    {
        let message = format!("this machine has no {}", kind.text);
        problems.push(
            Diagnostic::new(DiagnosticCode::NotRunnable, kind.span, message)
                .hint("builds run in Linux containers here"),
        );
    }
    let mut project = ProjectFile {
        name: written(map.get("name")),
        buildspec: map
            .get("source")
            .get("buildspec")
            .text()
            .filter(|text| !text.text.is_empty())
            .map(|text| Located { value: buildspec(text.text), span: text.span }),
        image: written(environment.get("image")),
        privileged: flag(environment.get("privilegedMode")),
        variables: environment
            .get("environmentVariables")
            .items()
            .map(|item| ProjectVariable {
                name: item.get("name").string().unwrap_or_default(),
                value: item.get("value").string().unwrap_or_default(),
                kind: match item.get("type").string().as_deref() {
                    Some("PARAMETER_STORE") => VariableKind::Parameter,
                    Some("SECRETS_MANAGER") => VariableKind::Secret,
                    _ => VariableKind::Plain,
                },
                span: item.get("name").span(),
            })
            .collect(),
        timeout_minutes: map
            .get("timeoutInMinutes")
            .text()
            .and_then(|text| Some(Located { value: text.text.parse().ok()?, span: text.span })),
        compute: compute(environment),
        artifacts: map.get("artifacts").is_there().then(|| Located {
            value: artifacts(map.get("artifacts")),
            span: map.get("artifacts").span(),
        }),
        secondary_artifacts: map.get("secondaryArtifacts").items().map(artifacts).collect(),
        cache: map.get("cache").is_there().then(|| {
            let cache = map.get("cache");
            let value = ProjectCache {
                kind: cache.get("type").string().unwrap_or_default(),
                location: cache.get("location").string().filter(|text| !text.is_empty()),
                modes: cache.get("modes").texts().into_iter().map(|text| text.text).collect(),
                namespace: cache.get("cacheNamespace").string(),
            };
            Located { value, span: cache.span() }
        }),
        ..ProjectFile::default()
    };
    let logs = map.get("logsConfig");
    let is_enabled = |at: NodeSlot<'_>| at.get("status").string().as_deref() == Some("ENABLED");
    let (cloudwatch, s3) = (logs.get("cloudWatchLogs"), logs.get("s3Logs"));
    if is_enabled(cloudwatch) {
        let text = |name| cloudwatch.get(name).string().filter(|text: &String| !text.is_empty());
        let value = CloudWatchLogs { group: text("groupName"), stream: text("streamName") };
        project.cloudwatch = Some(Located { value, span: cloudwatch.span() });
    }
    if is_enabled(s3) {
        match s3.get("location").text().filter(|text| !text.text.is_empty()) {
            Some(text) => project.s3_logs = Some(Located { value: text.text, span: text.span }),
            None => problems.push(
                Diagnostic::new(
                    DiagnosticCode::MissingKey,
                    s3.span(),
                    "`location` is missing in logsConfig.s3Logs",
                )
                .hint("name bucket and prefix, or set `status` to DISABLED"),
            ),
        }
    }
    project.unheeded = unheeded(map);
    project
}

fn written(at: NodeSlot<'_>) -> Option<Located<String>> {
    at.text().map(|text| Located { value: text.text, span: text.span })
}

fn flag(at: NodeSlot<'_>) -> Option<Located<bool>> {
    Some(Located { value: at.flag()?, span: at.span() })
}

/// A text with a line break, or one that begins like a buildspec, is an inline buildspec.
fn buildspec(text: String) -> ProjectBuildspec {
    if text.contains('\n') || text.trim_start().starts_with("version") {
        ProjectBuildspec::Inline(text)
    } else if text.starts_with("arn:") {
        ProjectBuildspec::Object(text)
    } else {
        ProjectBuildspec::Path(text)
    }
}

fn artifacts(map: NodeSlot<'_>) -> ProjectArtifacts {
    let text = |name| map.get(name).string();
    ProjectArtifacts {
        identifier: text("artifactIdentifier"),
        kind: text("type").unwrap_or_default(),
        location: text("location").filter(|text| !text.is_empty()),
        path: text("path").unwrap_or_default(),
        has_build_id: text("namespaceType").as_deref() == Some("BUILD_ID"),
        name: text("name").filter(|text| !text.is_empty()),
        is_zip: text("packaging").as_deref() == Some("ZIP"),
        override_name: map.get("overrideArtifactName").flag().unwrap_or(false),
    }
}

/// Memory (GiB) and processors of a compute type in AWS.
fn compute(environment: NodeSlot<'_>) -> Option<Located<(u32, u32)>> {
    let at = environment.get("computeType");
    let own = environment.get("computeConfiguration");
    let number = |name| own.get(name).string().and_then(|text: String| text.parse::<u32>().ok());
    let value = match at.string()?.as_str() {
        "BUILD_GENERAL1_SMALL" => (4, 2),
        "BUILD_GENERAL1_MEDIUM" => (8, 4),
        "BUILD_GENERAL1_LARGE" => (16, 8),
        "BUILD_GENERAL1_XLARGE" => (72, 36),
        "BUILD_GENERAL1_2XLARGE" => (144, 72),
        "ATTRIBUTE_BASED_COMPUTE" => (number("memory")?, number("vCpu")?),
        _ => return None,
    };
    (value.0 > 0 && value.1 > 0).then(|| Located { value, span: at.span() })
}

/// Settings that would affect the build but are not supported here.
fn unheeded(map: NodeSlot<'_>) -> Vec<Located<String>> {
    let list = |name: &str| (map.get(name), map.get(name).items().count() > 0);
    let (sources, has_sources) = list("secondarySources");
    let (mounts, has_mounts) = list("fileSystemLocations");
    let vpc = map.get("vpcConfig");
    let environment = map.get("environment");
    let dockerd = environment.get("dockerServer");
    let kind = environment.get("type");
    let kind_text = kind.string().unwrap_or_default();
    [
        (
            kind,
            ["LINUX_LAMBDA", "LINUX_GPU"].iter().any(|other| kind_text.starts_with(other))
                || kind_text.starts_with("ARM") && !cfg!(target_arch = "aarch64"),
            "environment.type (builds run in containers of this machine)",
        ),
        (
            sources,
            has_sources,
            "secondarySources (give their directories: --secondary-source ID=DIR)",
        ),
        (mounts, has_mounts, "fileSystemLocations (show a directory: --mount SRC:DST)"),
        (vpc, vpc.get("vpcId").is_there(), "vpcConfig"),
        (dockerd, dockerd.is_there(), "environment.dockerServer"),
    ]
    .into_iter()
    .filter(|(_, is_there, _)| *is_there)
    .map(|(at, _, text)| Located { value: text.to_owned(), span: at.span() })
    .collect()
}

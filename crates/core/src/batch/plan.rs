//! Expands `batch:` into builds.

use crate::env::Variables;
use crate::spec::{
    Axis, BatchBuilds, BatchFanout, BatchMatrix, BatchSettings, BatchSpec, BatchTask, Diagnostic,
    DiagnosticCode, Dimension, MOST_BUILDS, SpannedText,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A project's limits for its batches.
#[derive(Clone, Debug)]
pub struct Restrictions {
    /// Maximum number of builds.
    pub most_builds: usize,
    /// Allowed compute types; empty allows all.
    pub compute_types: Vec<String>,
    /// Whether every build of the batch requests a debug session.
    pub debug_sessions: bool,
}

impl Default for Restrictions {
    fn default() -> Self {
        Restrictions { most_builds: MOST_BUILDS, compute_types: Vec::new(), debug_sessions: false }
    }
}

/// The builds of a batch and their dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPlan {
    /// Whether one failure stops the others.
    pub fast_fail: bool,
    /// The builds, in file order.
    pub builds: Vec<PlannedBuild>,
}

/// One build of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBuild {
    /// Its name in the batch.
    pub identifier: String,
    /// Builds that must end first, by index in the plan, without duplicates.
    pub depends_on: Vec<usize>,
    /// Whether the batch goes on as if this build had succeeded.
    pub ignore_failure: bool,
    /// Settings of this build only.
    pub settings: BatchBuildSettings,
    /// Its part of the tests.
    pub shard: Option<Shard>,
}

/// What the buildspec sets for one build of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the buildspec")]
pub struct BatchBuildSettings {
    pub buildspec: Option<String>,
    pub image: Option<String>,
    pub compute_type: Option<String>,
    pub environment_type: Option<String>,
    pub privileged: Option<bool>,
    pub debug_session: bool,
    pub variables: Variables,
}

/// One part of a test suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Index of the part, from 0.
    pub index: u32,
    /// Number of parts.
    pub count: u32,
}

/// Names that match no build of the batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no build {} in this batch", .0.join(", "))]
pub struct UnknownBuilds(pub Vec<String>);

/// Expands a batch that has been validated.
///
/// # Errors
/// Everything that the restrictions forbid.
pub fn plan(batch: &BatchSpec, restrictions: &Restrictions) -> Result<BatchPlan, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut refuse = |span, message: String, aws: Option<&str>| {
        let problem = Diagnostic::new(DiagnosticCode::BadValue, span, message);
        problems.push(match aws {
            Some(aws) => problem.aws(aws),
            None => problem,
        });
    };
    for SpannedText { text, span } in compute_types(&batch.builds) {
        let allowed = &restrictions.compute_types;
        if !allowed.is_empty() && !allowed.contains(text) {
            let message =
                format!("the project allows its batches {}, not {text}", allowed.join(", "));
            refuse(*span, message, Some("Invalid compute type"));
        }
    }
    if restrictions.debug_sessions && matches!(batch.builds, BatchBuilds::Matrix(_)) {
        refuse(batch.span, "the builds of a matrix have no debug sessions".to_owned(), None);
    }
    let count = count(&batch.builds);
    let most = restrictions.most_builds;
    if count > most as u64 {
        let message = format!("here are {count} builds, and the batch may have {most} at most");
        refuse(batch.span, message, None);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let builds = match &batch.builds {
        BatchBuilds::Tasks(tasks) => of_tasks(tasks),
        BatchBuilds::Matrix(matrix) => of_matrix(matrix),
        BatchBuilds::Fanout(fanout) => of_fanout(fanout),
    };
    Ok(BatchPlan { fast_fail: batch.fast_fail, builds })
}

/// Number of builds, which may be too large to list.
fn count(builds: &BatchBuilds) -> u64 {
    match builds {
        BatchBuilds::Tasks(tasks) => tasks.len() as u64,
        BatchBuilds::Matrix(matrix) => {
            let lengths = matrix.dimensions.iter().map(|dimension| dimension.values.len() as u64);
            lengths.fold(1, u64::saturating_mul)
        }
        BatchBuilds::Fanout(fanout) => u64::from(fanout.parallelism),
    }
}

fn compute_types(builds: &BatchBuilds) -> Vec<&SpannedText> {
    match builds {
        BatchBuilds::Tasks(tasks) => {
            tasks.iter().filter_map(|task| task.settings.compute_type.as_ref()).collect()
        }
        BatchBuilds::Matrix(matrix) => {
            let own = matrix.dimensions.iter().filter(|it| it.axis == Axis::ComputeType);
            own.flat_map(|dimension| &dimension.values).collect()
        }
        BatchBuilds::Fanout(fanout) => fanout.settings.compute_type.iter().collect(),
    }
}

fn of_tasks(tasks: &[BatchTask]) -> Vec<PlannedBuild> {
    let places: HashMap<&str, usize> =
        tasks.iter().enumerate().map(|(at, task)| (task.identifier.as_str(), at)).collect();
    let planned = tasks.iter().map(|task| {
        let found = task.depend_on.iter().filter_map(|name| places.get(name.as_str()).copied());
        let mut depends_on: Vec<usize> = found.collect();
        depends_on.sort_unstable();
        depends_on.dedup();
        PlannedBuild {
            identifier: task.identifier.clone(),
            depends_on,
            ignore_failure: task.ignore_failure,
            settings: BatchBuildSettings::from(&task.settings),
            shard: None,
        }
    });
    planned.collect()
}

fn of_matrix(matrix: &BatchMatrix) -> Vec<PlannedBuild> {
    let common = BatchBuildSettings {
        environment_type: text(matrix.environment_type.as_ref()),
        privileged: matrix.privileged,
        ..BatchBuildSettings::default()
    };
    let mut combinations = vec![common];
    // The first key in the file varies slowest, the last one fastest.
    for Dimension { axis, values } in &matrix.dimensions {
        let each = combinations.into_iter().flat_map(|settings| {
            values.iter().map(move |value| settings.clone().with(axis, &value.text))
        });
        combinations = each.collect();
    }
    let numbered = combinations.into_iter().enumerate();
    numbered.map(|(at, settings)| numbered_build(at, matrix.ignore_failure, settings)).collect()
}

fn of_fanout(fanout: &BatchFanout) -> Vec<PlannedBuild> {
    let count = fanout.parallelism;
    let settings = BatchBuildSettings::from(&fanout.settings);
    let shards = (0..count).map(|index| PlannedBuild {
        shard: Some(Shard { index, count }),
        ..numbered_build(index as usize, fanout.ignore_failure, settings.clone())
    });
    shards.collect()
}

/// Makes a build that has no name in the file.
fn numbered_build(
    number: usize,
    ignore_failure: bool,
    settings: BatchBuildSettings,
) -> PlannedBuild {
    let identifier = format!("build{number}");
    PlannedBuild { identifier, depends_on: Vec::new(), ignore_failure, settings, shard: None }
}

fn text(written: Option<&SpannedText>) -> Option<String> {
    written.map(|written| written.text.clone())
}

impl From<&BatchSettings> for BatchBuildSettings {
    fn from(settings: &BatchSettings) -> Self {
        let variables = settings.variables.iter();
        BatchBuildSettings {
            buildspec: text(settings.buildspec.as_ref()),
            image: text(settings.image.as_ref()),
            compute_type: text(settings.compute_type.as_ref()),
            environment_type: text(settings.environment_type.as_ref()),
            privileged: settings.privileged,
            debug_session: settings.debug_session,
            variables: variables.map(|it| (it.name.clone(), it.value.clone())).collect(),
        }
    }
}

impl BatchBuildSettings {
    fn with(mut self, axis: &Axis, value: &str) -> Self {
        let value = value.to_owned();
        match axis {
            Axis::Buildspec => self.buildspec = Some(value),
            Axis::Image => self.image = Some(value),
            Axis::ComputeType => self.compute_type = Some(value),
            Axis::Variable(name) => self.variables.push((name.clone(), value)),
        }
        self
    }
}

impl BatchPlan {
    /// Keeps only these builds. Dependencies on removed builds are dropped.
    ///
    /// # Errors
    /// Names that match no build.
    pub fn only(mut self, names: &[String]) -> Result<Self, UnknownBuilds> {
        let is_known = |name: &&String| self.builds.iter().any(|it| it.identifier == **name);
        let unknown: Vec<String> = names.iter().filter(|name| !is_known(name)).cloned().collect();
        if !unknown.is_empty() {
            return Err(UnknownBuilds(unknown));
        }
        let mut places: Vec<Option<usize>> = Vec::with_capacity(self.builds.len());
        let mut count = 0;
        for build in &self.builds {
            let is_kept = names.contains(&build.identifier);
            places.push(is_kept.then_some(count));
            count += usize::from(is_kept);
        }
        self.builds.retain(|build| names.contains(&build.identifier));
        for build in &mut self.builds {
            build.depends_on = build.depends_on.iter().filter_map(|at| places[*at]).collect();
        }
        Ok(self)
    }

    /// The plan as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let name = |at: &usize| self.builds[*at].identifier.as_str();
        let builds = self.builds.iter().map(|build| {
            let own = &build.settings;
            let variables: serde_json::Map<String, Value> =
                own.variables.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "identifier": build.identifier,
                "dependsOn": build.depends_on.iter().map(name).collect::<Vec<_>>(),
                "ignoreFailure": build.ignore_failure,
                "buildspec": own.buildspec,
                "image": own.image,
                "computeType": own.compute_type,
                "type": own.environment_type,
                "privilegedMode": own.privileged,
                "debugSession": own.debug_session,
                "variables": variables,
                "shard": build.shard,
            })
        });
        let builds: Vec<Value> = builds.collect();
        json!({ "schemaVersion": 1, "fastFail": self.fast_fail, "builds": builds })
    }
}

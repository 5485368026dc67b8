//! The builds that `batch:` stands for.

use crate::env::Variables;
use crate::spec::{
    Axis, BatchBuilds, BatchFanout, BatchMatrix, BatchSettings, BatchSpec, BatchTask, Diagnostic,
    DiagnosticCode, Dimension, MOST_BUILDS, SpannedText,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;

/// What a project allows its batches.
#[derive(Clone, Debug)]
pub struct Restrictions {
    /// The most builds.
    pub most_builds: usize,
    /// Compute types; all where there are none.
    pub compute_types: Vec<String>,
    /// Whether sessions are asked for, for all of its builds.
    pub debug_sessions: bool,
}

impl Default for Restrictions {
    fn default() -> Self {
        Restrictions { most_builds: MOST_BUILDS, compute_types: Vec::new(), debug_sessions: false }
    }
}

/// The builds of a batch, and how they hang together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPlan {
    /// Whether one failure stops the others.
    pub fast_fail: bool,
    /// In the order of the file.
    pub builds: Vec<PlannedBuild>,
}

/// One build of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBuild {
    /// Its name in the batch.
    pub identifier: String,
    /// Builds that must have ended before, by their place in the plan, each once.
    pub depends_on: Vec<usize>,
    /// Whether the batch goes on as if it had succeeded.
    pub ignore_failure: bool,
    /// What is its own.
    pub settings: BatchBuildSettings,
    /// Which part of the tests is its.
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

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

/// Names that no build of a batch has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no build {} in this batch", .0.join(", "))]
pub struct UnknownBuilds(pub Vec<String>);

/// Expands a batch, which the buildspec's reader has found sound.
///
/// # Errors
/// Everything in it that the restrictions forbid.
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

/// How many builds it stands for, which may be more than could be listed.
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
    // The first key of the file is the slowest: each later one is gone through for each value of it.
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

/// A build that has no name in the file.
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
    /// The part of it with these builds only. Whoever waits for one that is left out does not wait.
    ///
    /// # Errors
    /// Names that no build has.
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

    /// For programs.
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

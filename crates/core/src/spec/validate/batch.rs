//! `batch`: the builds of a batch build.
//!
//! [`batch`] reports problems that are wrong in any case. [`check`] reports those that matter only
//! if the file is run as a batch.

use super::super::diagnostic::{Diagnostic, DiagnosticCode};
use super::super::model::{
    Axis, BatchBuilds, BatchFanout, BatchMatrix, BatchSettings, BatchSpec, BatchTask, Dimension,
    SpannedText,
};
use super::super::read::{NodeSlot, Text};
use super::super::shape::nearest;
use super::{env, graph, is_identifier, strings};
use std::collections::HashSet;

/// Maximum number of builds in a batch.
pub const MOST_BUILDS: usize = 100;

/// The ways to define builds. A batch uses exactly one.
const KINDS: [&str; 4] = ["build-list", "build-graph", "build-matrix", "build-fanout"];
/// CodeBuild's name for the build that downloads a batch's source.
const RESERVED: &str = "DOWNLOAD_SOURCE";
const COMPUTE_TYPES: [&str; 12] = [
    "BUILD_GENERAL1_SMALL",
    "BUILD_GENERAL1_MEDIUM",
    "BUILD_GENERAL1_LARGE",
    "BUILD_GENERAL1_XLARGE",
    "BUILD_GENERAL1_2XLARGE",
    "BUILD_LAMBDA_1GB",
    "BUILD_LAMBDA_2GB",
    "BUILD_LAMBDA_4GB",
    "BUILD_LAMBDA_8GB",
    "BUILD_LAMBDA_10GB",
    "ATTRIBUTE_BASED_COMPUTE",
    "CUSTOM_INSTANCE_TYPE",
];
/// Environment types that this machine can stand in for.
const TYPES_HERE: [&str; 3] = ["LINUX_CONTAINER", "LINUX_GPU_CONTAINER", "LINUX_EC2"];
const TYPES_ELSEWHERE: [&str; 9] = [
    "WINDOWS_CONTAINER",
    "ARM_CONTAINER",
    "WINDOWS_SERVER_2019_CONTAINER",
    "WINDOWS_SERVER_2022_CONTAINER",
    "LINUX_LAMBDA_CONTAINER",
    "ARM_LAMBDA_CONTAINER",
    "ARM_EC2",
    "WINDOWS_EC2",
    "MAC_ARM",
];

/// The ways used to define builds.
fn kinds(map: NodeSlot<'_>) -> Vec<&'static str> {
    KINDS.into_iter().filter(|name| map.get(name).is_there()).collect()
}

pub(super) fn batch(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Option<BatchSpec> {
    if !map.is_there() {
        return None;
    }
    let written = kinds(map);
    if let [_, second, ..] = written.as_slice() {
        let message =
            format!("a batch has one kind of builds, and here are {}", written.join(", "));
        problems.push(Diagnostic::new(DiagnosticCode::BadValue, map.get(second).span(), message));
    }
    let Some(&kind) = written.first() else {
        problems.push(
            Diagnostic::new(DiagnosticCode::MissingKey, map.span(), "`batch` names no builds")
                .hint(format!("it needs one of {}", KINDS.join(", "))),
        );
        return None;
    };
    let at = map.get(kind);
    let builds = match kind {
        "build-matrix" => BatchBuilds::Matrix(matrix(at, problems)),
        "build-fanout" => BatchBuilds::Fanout(BatchFanout {
            parallelism: at.get("parallelism").string().and_then(|n| n.parse().ok()).unwrap_or(1),
            ignore_failure: at.get("ignore-failure").flag().unwrap_or(false),
            settings: settings(at, problems),
        }),
        _ => BatchBuilds::Tasks(tasks(at, kind == "build-graph", problems)),
    };
    let fast_fail = map.get("fast-fail").flag().unwrap_or(false);
    Some(BatchSpec { fast_fail, builds, span: map.span() })
}

fn tasks(list: NodeSlot<'_>, is_graph: bool, problems: &mut Vec<Diagnostic>) -> Vec<BatchTask> {
    let mut tasks: Vec<BatchTask> = Vec::new();
    let mut waits: Vec<(String, Text)> = Vec::new();
    let mut seen = HashSet::new();
    for item in list.items() {
        let Some(identifier) = item.get("identifier").text() else { continue };
        if !is_identifier(&identifier.text) {
            problems.push(Diagnostic::new(
                DiagnosticCode::BadValue,
                identifier.span,
                "identifier must contain only alphanumeric characters and underscores and be less \
                 than 128 characters in length",
            ));
        }
        if !seen.insert(identifier.text.clone()) {
            let message = format!("there is another build `{}` in this batch", identifier.text);
            problems.push(Diagnostic::new(DiagnosticCode::BadValue, identifier.span, message));
        }
        let depend_on = if is_graph { item.get("depend-on").texts() } else { Vec::new() };
        waits.extend(depend_on.iter().map(|name| (identifier.text.clone(), name.clone())));
        tasks.push(BatchTask {
            span: identifier.span,
            identifier: identifier.text,
            depend_on: strings(depend_on),
            ignore_failure: item.get("ignore-failure").flag().unwrap_or(false),
            settings: settings(item, problems),
        });
    }
    graph::check(&seen, &waits, problems);
    tasks
}

/// Reads the settings of one build.
fn settings(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> BatchSettings {
    let environment = map.get("env");
    if environment.get("fleet").is_there() && environment.get("compute-type").is_there() {
        let message = "`fleet` and `compute-type` exclude each other";
        problems.push(Diagnostic::new(
            DiagnosticCode::BadValue,
            environment.get("fleet").span(),
            message,
        ));
    }
    BatchSettings {
        buildspec: written(map.get("buildspec")),
        debug_session: map.get("debug-session").flag().unwrap_or(false),
        image: written(environment.get("image")),
        compute_type: written(environment.get("compute-type")),
        environment_type: written(environment.get("type")),
        privileged: environment.get("privileged-mode").flag(),
        variables: env::variables([environment.get("variables"), environment.get("")], problems),
    }
}

fn written(at: NodeSlot<'_>) -> Option<SpannedText> {
    at.text().map(|Text { text, span, .. }| SpannedText { text, span })
}

fn matrix(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> BatchMatrix {
    let all = map.get("static");
    let mut dimensions = Vec::new();
    for (name, at) in map.get("dynamic").entries() {
        match name.text.as_str() {
            "buildspec" => dimensions.extend(dimension(Axis::Buildspec, at)),
            "env" => {
                for (name, at) in at.entries() {
                    match name.text.as_str() {
                        "image" => dimensions.extend(dimension(Axis::Image, at)),
                        "compute-type" => dimensions.extend(dimension(Axis::ComputeType, at)),
                        "variables" => {
                            let known = at.entries().into_iter();
                            let known = known.filter(|(name, _)| env::check_name(name, problems));
                            dimensions.extend(
                                known.filter_map(|(name, at)| {
                                    dimension(Axis::Variable(name.text), at)
                                }),
                            );
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    BatchMatrix {
        ignore_failure: all.get("ignore-failure").flag().unwrap_or(false),
        environment_type: written(all.get("env").get("type")),
        privileged: all.get("env").get("privileged-mode").flag(),
        dimensions,
    }
}

/// Reads a dimension. A key without a value counts as absent.
fn dimension(axis: Axis, at: NodeSlot<'_>) -> Option<Dimension> {
    let values = at.texts().into_iter().map(|Text { text, span, .. }| SpannedText { text, span });
    at.is_there().then(|| Dimension { axis, values: values.collect() })
}

/// The buildspecs that builds of a batch name: files, or the texts themselves.
pub(in super::super) fn buildspecs(document: NodeSlot<'_>) -> Vec<SpannedText> {
    let map = document.get("batch");
    let Some(&kind) = kinds(map).first() else { return Vec::new() };
    let at = map.get(kind);
    let found: Vec<NodeSlot<'_>> = match kind {
        "build-matrix" => vec![at.get("dynamic").get("buildspec")],
        "build-fanout" => vec![at.get("buildspec")],
        _ => at.items().map(|item| item.get("buildspec")).collect(),
    };
    let texts = found.into_iter().flat_map(NodeSlot::texts);
    texts.map(|Text { text, span, .. }| SpannedText { text, span }).collect()
}

/// Reports what keeps a document from running as a batch. `has_phases` says whether a build can use
/// this file itself.
pub(super) fn check(
    document: NodeSlot<'_>,
    has_phases: bool,
    is_wanted: bool,
    problems: &mut Vec<Diagnostic>,
) {
    let map = document.get("batch");
    if !map.is_there() {
        if is_wanted {
            let message = "this buildspec has no `batch`";
            problems.push(
                Diagnostic::new(DiagnosticCode::MissingKey, super::FILE, message)
                    .hint("run it as one build: runner run"),
            );
        }
        return;
    }
    let Some(&kind) = kinds(map).first() else { return };
    let at = map.get(kind);
    let mut look = BatchCheck { has_phases, problems };
    let count = match kind {
        "build-matrix" => look.matrix(at),
        "build-fanout" => {
            look.settings(at, at.get("parallelism"));
            at.get("parallelism").string().and_then(|text| text.parse().ok()).unwrap_or(1)
        }
        _ => {
            for item in at.items() {
                look.settings(item, item.get("identifier"));
                if let Some(name) = item.get("identifier").text().filter(|it| it.text == RESERVED) {
                    look.bad(name.span, format!("CodeBuild keeps `{RESERVED}` for itself"));
                }
            }
            at.items().count() as u64
        }
    };
    let span = at.span();
    match count {
        0 => look.bad(span, "a batch without a build".to_owned()),
        count if count > MOST_BUILDS as u64 => {
            look.bad(
                span,
                format!("here are {count} builds, and a batch has {MOST_BUILDS} at most"),
            );
        }
        _ => {}
    }
}

struct BatchCheck<'p> {
    has_phases: bool,
    problems: &'p mut Vec<Diagnostic>,
}

impl BatchCheck<'_> {
    fn bad(&mut self, span: super::Span, message: String) {
        self.problems.push(Diagnostic::new(DiagnosticCode::BadValue, span, message));
    }

    /// Checks the settings of one build. `at` is the place of the build.
    fn settings(&mut self, map: NodeSlot<'_>, at: NodeSlot<'_>) {
        self.buildspecs(map.get("buildspec"), at);
        let environment = map.get("env");
        self.compute_types(environment.get("compute-type"));
        self.environment_type(environment.get("type"));
        let fleet = environment.get("fleet");
        if fleet.is_there() {
            let message = "`fleet` has no effect: this machine runs the build";
            self.problems.push(Diagnostic::new(DiagnosticCode::NoEffect, fleet.span(), message));
        }
    }

    /// Checks a matrix and returns its number of builds.
    fn matrix(&mut self, map: NodeSlot<'_>) -> u64 {
        let all = map.get("static").get("env");
        for name in ["image", "compute-type", "variables"] {
            let at = all.get(name);
            if at.is_there() {
                let message = format!("`{name}` has no effect in `static`");
                self.problems.push(
                    Diagnostic::new(DiagnosticCode::NoEffect, at.span(), message)
                        .hint(format!("write it in `dynamic`, as a list: env, {name}")),
                );
            }
        }
        self.environment_type(all.get("type"));
        let dynamic = map.get("dynamic");
        let environment = dynamic.get("env");
        self.buildspecs(dynamic.get("buildspec"), map);
        self.compute_types(environment.get("compute-type"));
        let own =
            [dynamic.get("buildspec"), environment.get("image"), environment.get("compute-type")];
        let variables = environment.get("variables").entries();
        let all = own.into_iter().chain(variables.into_iter().map(|(_, at)| at));
        let mut count: u64 = 1;
        for at in all.filter(|at| at.is_there()) {
            match at.texts().len() as u64 {
                0 => self.bad(at.span(), "no values, and so no builds".to_owned()),
                values => count = count.saturating_mul(values),
            }
        }
        count
    }

    fn buildspecs(&mut self, named: NodeSlot<'_>, at: NodeSlot<'_>) {
        for Text { text, span, .. } in named.texts() {
            if text.starts_with("arn:") || text.starts_with("s3://") {
                let message =
                    format!("the buildspec is an object on S3 ({text}), which is not fetched");
                self.problems.push(Diagnostic::new(DiagnosticCode::NotRunnable, span, message));
            }
        }
        if !self.has_phases && !named.is_there() {
            let message = "a build of this buildspec, which has no `phases`";
            self.problems.push(
                Diagnostic::new(DiagnosticCode::MissingKey, at.span(), message)
                    .hint("name its buildspec: `buildspec: FILE`; or give this one `phases`"),
            );
        }
    }

    fn compute_types(&mut self, at: NodeSlot<'_>) {
        for Text { text, span, .. } in at.texts() {
            if !COMPUTE_TYPES.contains(&text.as_str()) {
                self.unknown("compute type", &text, span, &COMPUTE_TYPES);
            }
        }
    }

    fn environment_type(&mut self, at: NodeSlot<'_>) {
        let Some(Text { text, span, .. }) = at.text() else { return };
        if TYPES_HERE.contains(&text.as_str()) {
            return;
        }
        if TYPES_ELSEWHERE.contains(&text.as_str()) {
            let message = format!("this machine has no {text}");
            self.problems.push(Diagnostic::new(DiagnosticCode::NotRunnable, span, message));
            return;
        }
        let known: Vec<&str> = TYPES_HERE.into_iter().chain(TYPES_ELSEWHERE).collect();
        self.unknown("environment type", &text, span, &known);
    }

    fn unknown(&mut self, what: &str, text: &str, span: super::Span, known: &[&'static str]) {
        let problem =
            Diagnostic::new(DiagnosticCode::BadValue, span, format!("there is no {what} `{text}`"))
                .aws(format!("Invalid {what}"));
        self.problems.push(match nearest(text, known.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }
}

//! `batch`: the builds of a batch build, looked at though not run.

use super::super::diagnostic::{Code, Diagnostic};
use super::super::model::{Batch, BatchBuilds, BatchMatrix, BatchTask};
use super::super::read::{At, Text};
use super::{env, is_identifier, strings};
use std::collections::{HashMap, HashSet};

/// The ways to name builds, of which a batch has one.
const TYPES: [&str; 4] = ["build-list", "build-graph", "build-matrix", "build-fanout"];

pub(super) fn batch(map: At<'_>, problems: &mut Vec<Diagnostic>) -> Option<Batch> {
    if !map.is_there() {
        return None;
    }
    problems.push(
        Diagnostic::new(
            Code::NotSupportedYet,
            map.span(),
            "`batch` is not carried out by this version",
        )
        .hint("the phases of this file run as one build"),
    );
    let written: Vec<&str> = TYPES.into_iter().filter(|name| map.get(name).is_there()).collect();
    if let [_, second, ..] = written.as_slice() {
        let message =
            format!("a batch has one kind of builds, and here are {}", written.join(", "));
        problems.push(Diagnostic::new(Code::BadValue, map.get(second).span(), message));
    }
    let Some(&kind) = written.first() else {
        problems.push(
            Diagnostic::new(Code::MissingKey, map.span(), "`batch` names no builds")
                .hint(format!("it needs one of {}", TYPES.join(", "))),
        );
        return None;
    };
    let at = map.get(kind);
    let builds = match kind {
        "build-matrix" => BatchBuilds::Matrix(matrix(at, problems)),
        "build-fanout" => BatchBuilds::Fanout {
            parallelism: at.get("parallelism").string().and_then(|n| n.parse().ok()).unwrap_or(1),
            ignore_failure: at.get("ignore-failure").flag().unwrap_or(false),
        },
        _ => BatchBuilds::Tasks(tasks(at, problems)),
    };
    let fast_fail = map.get("fast-fail").flag().unwrap_or(false);
    Some(Batch { fast_fail, builds, span: map.span() })
}

fn tasks(list: At<'_>, problems: &mut Vec<Diagnostic>) -> Vec<BatchTask> {
    let mut tasks: Vec<BatchTask> = Vec::new();
    let mut waits: Vec<(String, Text)> = Vec::new();
    let mut seen = HashSet::new();
    for item in list.items() {
        let Some(identifier) = item.get("identifier").text() else { continue };
        if !is_identifier(&identifier.text) {
            problems.push(Diagnostic::new(
                Code::BadValue,
                identifier.span,
                "identifier must contain only alphanumeric characters and underscores and be less \
                 than 128 characters in length",
            ));
        }
        if !seen.insert(identifier.text.clone()) {
            let message = format!("there is another build `{}` in this batch", identifier.text);
            problems.push(Diagnostic::new(Code::BadValue, identifier.span, message));
        }
        let environment = item.get("env");
        if environment.get("fleet").is_there() && environment.get("compute-type").is_there() {
            let message = "`fleet` and `compute-type` exclude each other";
            problems.push(Diagnostic::new(
                Code::BadValue,
                environment.get("fleet").span(),
                message,
            ));
        }
        let depend_on = item.get("depend-on").texts();
        waits.extend(depend_on.iter().map(|name| (identifier.text.clone(), name.clone())));
        tasks.push(BatchTask {
            span: identifier.span,
            identifier: identifier.text,
            buildspec: item.get("buildspec").string(),
            debug_session: item.get("debug-session").flag().unwrap_or(false),
            depend_on: strings(depend_on),
            ignore_failure: item.get("ignore-failure").flag().unwrap_or(false),
            image: environment.get("image").string(),
            compute_type: environment.get("compute-type").string(),
            variables: env::variables(
                [environment.get("variables"), environment.get("")],
                problems,
            ),
        });
    }
    check_graph(&tasks, &waits, problems);
    tasks
}

/// Names that nobody has, and builds that wait for each other.
fn check_graph(tasks: &[BatchTask], waits: &[(String, Text)], problems: &mut Vec<Diagnostic>) {
    let names: HashSet<&str> = tasks.iter().map(|task| task.identifier.as_str()).collect();
    for (_, name) in waits.iter().filter(|(_, name)| !names.contains(name.text.as_str())) {
        let message = format!("there is no build `{}` in this batch", name.text);
        problems.push(Diagnostic::new(Code::BadValue, name.span, message));
    }
    // Builds that wait for nobody can run, and then those that have waited for these only; what is left
    // in the end never can.
    let mut waiting: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut left: HashMap<&str, usize> = names.iter().map(|name| (*name, 0)).collect();
    for (task, name) in waits.iter().filter(|(_, name)| names.contains(name.text.as_str())) {
        waiting.entry(&name.text).or_default().push(task);
        *left.entry(task).or_default() += 1;
    }
    let mut ready: Vec<&str> =
        left.iter().filter(|(_, n)| **n == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        left.remove(name);
        for task in waiting.remove(name).unwrap_or_default() {
            let Some(waits_for) = left.get_mut(task) else { continue };
            *waits_for -= 1;
            if *waits_for == 0 {
                ready.push(task);
            }
        }
    }
    let in_circle = |(task, name): &&(String, Text)| {
        left.contains_key(task.as_str()) && left.contains_key(name.text.as_str())
    };
    if let Some((task, name)) = waits.iter().find(in_circle) {
        let message = format!("`{task}` waits for `{}`, which waits for it in turn", name.text);
        problems.push(Diagnostic::new(Code::BadValue, name.span, message));
    }
}

fn matrix(map: At<'_>, problems: &mut Vec<Diagnostic>) -> BatchMatrix {
    let dynamic = map.get("dynamic");
    let environment = dynamic.get("env");
    let variables = environment.get("variables").entries().into_iter();
    BatchMatrix {
        ignore_failure: map.get("static").get("ignore-failure").flag().unwrap_or(false),
        buildspecs: strings(dynamic.get("buildspec").texts()),
        images: strings(environment.get("image").texts()),
        compute_types: strings(environment.get("compute-type").texts()),
        variables: variables
            .filter(|(name, _)| env::check_name(name, problems))
            .map(|(name, values)| (name.text, strings(values.texts())))
            .collect(),
    }
}

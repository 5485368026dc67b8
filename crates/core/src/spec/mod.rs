//! The buildspec language. [`yaml`] parses a text into a tree, `shape` compares it with `language`,
//! and `validate` turns it into a [`BuildSpec`]. For [`check`], `lint` adds warnings.
//!
//! Each step takes the result of the one before. [`parse`] runs all of them and returns either a
//! valid buildspec with warnings, or every problem.

mod diagnostic;
pub(crate) mod language;
mod lint;
mod model;
pub(crate) mod places;
pub(crate) mod read;
mod schema;
pub(crate) mod shape;
mod shell;
mod unset;
mod validate;
pub mod yaml;

pub use diagnostic::{Diagnostic, DiagnosticCode, Few, LineColumn, Severity, Span};
pub use lint::{LostState, lost};
pub use model::{
    Artifact, Artifacts, Axis, BatchBuilds, BatchFanout, BatchMatrix, BatchSettings, BatchSpec,
    BatchTask, BuildSpec, Cache, Dimension, OnFailure, PhaseSpec, Proxy, ReportGroup, Retry,
    Runtime, SecretReference, SecretVariable, SecretVersion, SpannedText, SpecCommand, SpecShell,
    SpecVariable, SpecVersion, USER_PHASES, UserPhase,
};
pub use schema::schema;
pub use unset::{Unset, unset};
pub use validate::{MOST_BUILDS, is_identifier, secret_reference};

use read::NodeSlot;
use validate::Purpose;

/// Parses a buildspec for a single build. Warnings are in file order.
///
/// # Errors
/// Every error and warning, in file order.
pub fn parse(source: &str) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    read(source, Purpose::Build, |_, _, _| ())
}

/// Like [`parse`], but for a batch. The buildspec needs no phases if each of its builds has its own
/// buildspec.
///
/// # Errors
/// The same as for [`parse`].
pub fn parse_batch(source: &str) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    read(source, Purpose::Batch, |_, _, _| ())
}

/// Like [`parse`], with additional warnings where a valid buildspec may not do what its author
/// expects.
///
/// # Errors
/// The same as for [`parse`].
pub fn check(source: &str) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    read(source, Purpose::Check, lint::lint)
}

/// The buildspecs that builds of a batch name: files, or the texts themselves. Works on invalid
/// buildspecs too.
#[must_use]
pub fn batch_buildspecs(source: &str) -> Vec<SpannedText> {
    let document = yaml::parse(source);
    document.map_or_else(|_| Vec::new(), |it| validate::buildspecs(NodeSlot::root(&it.root)))
}

/// A check that runs on a valid buildspec.
type LintPass = fn(&BuildSpec, &yaml::YamlNode, &mut Vec<Diagnostic>);

fn read(
    source: &str,
    purpose: Purpose,
    look: LintPass,
) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
    let yaml::YamlDocument { root: node, next } =
        yaml::parse(source).map_err(|problem| vec![*problem])?;
    let mut problems = Vec::new();
    if let Some(span) = next {
        problems.push(more_documents(source, span));
    }
    let spec = judge(&node, purpose, &mut problems);
    if let Some(spec) = &spec {
        look(spec, &node, &mut problems);
    }
    problems.sort_by_key(|problem| (problem.span.line, problem.span.column));
    match spec {
        Some(spec) if !problems.iter().any(Diagnostic::is_error) => Ok((spec, problems)),
        _ => Err(problems),
    }
}

fn more_documents(source: &str, span: Span) -> Diagnostic {
    let line = source.lines().nth((span.line as usize).saturating_sub(1)).unwrap_or_default();
    let message = "the buildspec ends here: CodeBuild reads the first document of a file only";
    let hint = match line.starts_with("---") || line.starts_with("...") {
        true => "remove the `---` and everything after it, or move that to another file",
        false => "indent it as the first key of the file, or remove it",
    };
    Diagnostic::new(DiagnosticCode::MoreDocuments, span, message).hint(hint)
}

fn judge(
    node: &yaml::YamlNode,
    purpose: Purpose,
    problems: &mut Vec<Diagnostic>,
) -> Option<BuildSpec> {
    if node.value == yaml::YamlValue::Null {
        let span = Span::new(1, 1, 1);
        problems.push(
            Diagnostic::new(DiagnosticCode::MissingKey, span, "the buildspec is empty")
                .hint("it needs at least `version: 0.2` and `phases:`"),
        );
        return None;
    }
    shape::check(node, &language::DOCUMENT, "", problems);
    if !matches!(node.value, yaml::YamlValue::Mapping(_)) {
        return None;
    }
    validate::validate(node, purpose, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_come_at_once_in_file_order() {
        let source = "version: 0.3\nenv:\n  shel: bash\n  variables:\n    A-B: 1\n    CODEBUILD_X: 2\n\
                      phases:\n  biuld:\n    commands: [x]\n  build:\n    on-failure: PANIC\n    \
                      commands:\n      - echo a: b\n      - ok\n";
        let problems = parse(source).expect_err("has errors");
        let told: Vec<_> = problems
            .iter()
            .map(|problem| (problem.code.name(), problem.span.line, problem.span.column))
            .collect();
        assert_eq!(
            told,
            [
                ("bad-value", 1, 10),
                ("unknown-key", 3, 3),
                ("bad-name", 5, 5),
                ("reserved-name", 6, 5),
                ("unknown-key", 8, 3),
                ("bad-value", 11, 17),
                ("command-is-map", 13, 9),
            ]
        );
        assert!(problems[4].hint.as_deref().is_some_and(|hint| hint.contains("`build`")));
        assert_eq!(
            problems[6].aws.as_deref(),
            Some(
                "Expected Commands[0] to be of string type: found subkeys instead at line 13, value \
                 of the key tag on line 12 might be empty"
            )
        );
    }

    #[test]
    fn a_small_buildspec_becomes_four_phases() {
        let (spec, warnings) = parse(
            "version: 0.2\nphases:\n  build:\n    run-as: bob\n    commands: echo hi\n    finally:\n    \
             - 3\n    - # nothing\n",
        )
        .expect("is sound");
        let told: Vec<_> = warnings.iter().map(|w| (w.code.name(), w.span.line)).collect();
        assert_eq!(told, [("empty", 8)]);
        assert_eq!(spec.phases.iter().filter(|phase| phase.present).count(), 1);
        let build = &spec.phases[2];
        assert_eq!(build.run_as.as_deref(), Some("bob"));
        assert_eq!(build.commands.len(), 1);
        assert_eq!(build.finally.iter().map(|c| c.text.as_str()).collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn every_key_comes_into_the_model() {
        let (spec, warnings) = parse(include_str!("every_key.yml")).expect("is sound");
        let told: Vec<_> = warnings.iter().map(|w| (w.span.line, w.code.name())).collect();
        assert_eq!(told, [(15, "not-supported-yet")]);
        assert_eq!(spec.run_as.as_deref(), Some("builder"));
        assert_eq!(spec.parameters[0].value, "/app/token");
        assert_eq!(spec.secrets[0].secret.json_key.as_deref(), Some("password"));
        assert_eq!(spec.exported, ["A", "B"]);
        assert!(spec.git_credential_helper && spec.proxy.logs && !spec.proxy.upload_artifacts);
        assert_eq!(spec.runtimes[1].version, "3.10");
        assert_eq!((spec.runtimes[1].span.line, spec.secrets[0].span.column), (41, 15));
        assert_eq!(spec.reports[1].format, "CLOVERXML");
        let artifacts = spec.artifacts.expect("has artifacts");
        assert_eq!(artifacts.primary.files, ["**/*"]);
        assert_eq!(artifacts.primary.exclude_paths, ["*.tmp", "x/**"]);
        assert_eq!(artifacts.secondary[0].0, "other");
        let cache = spec.cache.expect("has a cache");
        assert!(cache.restore && !cache.save);
        assert_eq!(cache.fallback_keys, ["npm-", "n"]);
        let Some(BatchSpec { builds: BatchBuilds::Tasks(tasks), fast_fail: true, .. }) = spec.batch
        else {
            panic!("{:?}", spec.batch)
        };
        assert_eq!(tasks[1].depend_on, ["one"]);
        let own = &tasks[0].settings;
        assert_eq!(own.image.as_ref().map(|image| image.span.line), Some(27));
        assert_eq!((own.privileged, own.debug_session), (Some(false), true));
    }

    #[test]
    fn values_are_judged_where_they_stand() {
        for (source, line, message) in [
            ("env: {git-credential-helper: maybe}", 1, "is `yes` or `no`, not `maybe`"),
            ("env: {secrets-manager: {A: 'x:y:S:1'}}", 1, "by its stage or by its id"),
            ("env: {parameter-store: {A: ''}}", 1, "names nothing"),
            ("env: {exported-variables: {A: 1}}", 1, "must be a list of texts"),
            ("cache: {action: keep}", 1, "cannot be `keep`"),
            ("cache: {key: k, fallback-keys: [1,2,3,4,5,6]}", 1, "at most 5"),
            (
                "reports:\n  group:\n    file-format: JUNITXM\n    files: x",
                3,
                "cannot be `JUNITXM`",
            ),
            (
                "reports:\n  group:\n    file-format: JUNITXML",
                3,
                "`files` is missing in reports.group",
            ),
            ("artifacts:\n  name: x", 1, "`files` is missing in artifacts"),
            (
                "artifacts:\n  secondary-artifacts:\n    a-b: {files: x}",
                3,
                "identifier of an artifact",
            ),
            (
                "batch:\n  build-graph:\n    - identifier: a\n      depend-on: [b]",
                4,
                "no build `b`",
            ),
            (
                "batch:\n  build-graph:\n    - identifier: a\n      depend-on: [b]\n    - identifier: \
                 b\n      depend-on: [a]",
                4,
                "`a` waits for `b`",
            ),
            ("batch:\n  build-list:\n    - buildspec: x", 3, "`identifier` is missing"),
            ("batch: {fast-fail: true}", 1, "names no builds"),
            ("batch: {build-list: [], build-matrix: {}}", 1, "one kind of builds"),
            ("batch: {build-fanout: {parallelism: many}}", 1, "whole number, not `many`"),
        ] {
            let source = format!("{source}\nversion: 0.2\nphases: {{build: {{commands: [x]}}}}\n");
            let problems = parse(&source).expect_err(&source);
            assert!(
                problems
                    .iter()
                    .any(|p| p.is_error() && p.span.line == line && p.message.contains(message)),
                "{source}: {problems:#?}"
            );
        }
        let problems = parse(
            "version: 0.2\nphases:\n  install:\n    runtime-versions:\n  build:\n    steps: []\n",
        )
        .expect_err("has errors");
        assert_eq!(problems.len(), 3, "{problems:?}");
    }

    #[test]
    fn aliases_that_never_end_are_refused() {
        for source in
            ["a: &a [*a]\n", "a: &a {b: *a}\n", "version: &v 0.2\nphases: &p {build: *p}\n"]
        {
            assert!(parse(source).is_err(), "{source}");
        }
        let (spec, _) = parse(
            "version: 0.2\nphases:\n  pre_build: &p\n    commands: [a]\n  build: *p\n  post_build:\n    <<: \
             *p\n    finally: [b]\n",
        )
        .expect("is sound");
        assert_eq!(spec.phases.iter().map(|phase| phase.commands.len()).sum::<usize>(), 3);
    }

    #[test]
    fn the_schema_knows_every_key() {
        let text = schema().to_string();
        for key in [
            "fallback-keys",
            "depend-on",
            "runtime-versions",
            "git-credential-helper",
            "parallelism",
        ] {
            assert!(text.contains(&format!("\"{key}\"")), "{key}");
        }
    }

    #[test]
    fn no_phases_no_build() {
        for (source, message) in [
            ("version: 0.2\n", "`phases` is missing"),
            ("version: 0.2\nbatch:\n  build-list: []\n", "batch builds only"),
            ("", "empty"),
            ("- a\n", "must be a map"),
            ("phases:\n", "`version` is missing"),
        ] {
            let problems = parse(source).expect_err(source);
            assert!(
                problems.iter().any(|problem| problem.message.contains(message)),
                "{source:?}: {problems:?}"
            );
        }
    }
}

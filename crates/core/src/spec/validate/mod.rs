//! Turns the tree into a valid buildspec, or reports why it cannot.
//!
//! Takes a tree that `shape` has checked; `plan` uses the result. Checks syntax of values, required
//! keys and names. There is one file for each part of the document.

mod batch;
mod env;
mod graph;
mod outputs;
mod phases;

pub use batch::MOST_BUILDS;
pub(super) use batch::buildspecs;
pub use env::secret_reference;

use super::diagnostic::{Diagnostic, DiagnosticCode, Span};
use super::model::{BuildSpec, SpecVersion, USER_PHASES};
use super::read::{NodeSlot, Text};
use super::yaml::YamlNode;

/// The place of the file as a whole.
const FILE: Span = Span::new(1, 1, 1);

/// The purpose of reading a buildspec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To run one build; `batch` is ignored.
    Build,
    /// To run a batch.
    Batch,
    /// To report all problems.
    Check,
}

/// Validates the document. Returns `None` if it has no valid version.
pub(super) fn validate(
    node: &YamlNode,
    purpose: Purpose,
    problems: &mut Vec<Diagnostic>,
) -> Option<BuildSpec> {
    let document = NodeSlot::root(node);
    let version = version(document.get("version").text().as_ref(), problems);
    let old = document.get("environment_variables");
    if version == Some(SpecVersion::V0_2) && old.is_there() {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::UnknownKey,
                old.span(),
                "`environment_variables` belongs to version 0.1",
            )
            .hint("in version 0.2 write `env:` with `variables:` under it"),
        );
    }
    let written = document.get("phases");
    let has_phases = !written.entries().is_empty();
    let is_batch = document.get("batch").is_there();
    if !written.is_written() || !has_phases && !is_batch {
        missing_phases(document, purpose, problems);
    }
    if purpose != Purpose::Build {
        batch::check(document, has_phases, purpose == Purpose::Batch, problems);
    }
    let env = document.get("env");
    Some(BuildSpec {
        run_as: phases::user_name(document.get("run-as"), problems),
        shell: env::shell(env.get("shell").text().as_ref(), problems),
        variables: env::variables([env.get("variables"), old.get("plaintext")], problems),
        parameters: env::parameters(env.get("parameter-store"), problems),
        secrets: env::secrets(env.get("secrets-manager"), problems),
        exported: env::exported(env.get("exported-variables"), problems),
        git_credential_helper: env.get("git-credential-helper").flag().unwrap_or(false),
        phases: USER_PHASES.map(|phase| phases::phase(phase, written.get(phase.key()), problems)),
        runtimes: phases::runtimes(written.get("install").get("runtime-versions"), problems),
        reports: outputs::reports(document.get("reports"), problems),
        artifacts: outputs::artifacts(document.get("artifacts"), problems),
        cache: outputs::cache(document.get("cache"), problems),
        proxy: outputs::proxy(document.get("proxy"), problems),
        batch: batch::batch(document.get("batch"), problems),
        // Last, so that everything else is checked in any case.
        version: version?,
    })
}

fn version(written: Option<&Text>, problems: &mut Vec<Diagnostic>) -> Option<SpecVersion> {
    let Some(written) = written else {
        problems.push(
            Diagnostic::new(DiagnosticCode::MissingKey, FILE, "`version` is missing")
                .hint("start the file with `version: 0.2`")
                .aws("Invalid buildspec version: "),
        );
        return None;
    };
    match written.text.as_str() {
        "0.2" => Some(SpecVersion::V0_2),
        "0.1" => Some(SpecVersion::V0_1),
        other => {
            problems.push(
                Diagnostic::new(
                    DiagnosticCode::BadValue,
                    written.span,
                    format!("there is no buildspec version `{other}`"),
                )
                .hint("write `version: 0.2`")
                .aws(format!("Invalid buildspec version: {other}")),
            );
            None
        }
    }
}

fn missing_phases(document: NodeSlot<'_>, purpose: Purpose, problems: &mut Vec<Diagnostic>) {
    let (batch, phases) = (document.get("batch"), document.get("phases"));
    problems.push(if batch.is_there() {
        if purpose != Purpose::Build {
            return;
        }
        Diagnostic::new(
            DiagnosticCode::NotRunnable,
            batch.span(),
            "this buildspec is for batch builds only: it has no `phases`",
        )
        .hint("run all of its builds: runner batch")
    } else {
        let (span, message) = match phases.is_written() {
            true => (phases.span(), "`phases` is empty"),
            false => (FILE, "`phases` is missing"),
        };
        Diagnostic::new(DiagnosticCode::MissingKey, span, message)
            .hint("a build needs at least `phases:`, `build:` and `commands:`")
    });
}

/// Whether CodeBuild accepts a text as the identifier of a source, an artifact or a build in a
/// batch.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text.len() < 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reports a list that is too long.
fn at_most(
    most: usize,
    found: usize,
    what: &str,
    at: NodeSlot<'_>,
    problems: &mut Vec<Diagnostic>,
) {
    if found > most {
        let message = format!("there are {found} {what}, but CodeBuild accepts at most {most}");
        problems.push(Diagnostic::new(DiagnosticCode::BadValue, at.span(), message));
    }
}

fn strings(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.text).collect()
}

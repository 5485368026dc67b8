//! `runner check`: reports problems of a buildspec without running it.
//!
//! The report goes to standard output: as text, as JSON, or as SARIF for tools that annotate pull
//! requests.

use super::error::{CliError, USAGE};
use super::render;
use clap::{Args, ValueEnum};
use runner_build::BuildspecFile;
use runner_core::plain;
use runner_core::spec::{Diagnostic, DiagnosticCode, Few, LineColumn, Severity, schema};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Longest source line that the JSON report repeats, in bytes.
const MAX_LINE: usize = 4096;

/// Options of `runner check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 if a build would begin, even with warnings; 2 if it would be rejected.")]
pub(super) struct CheckArgs {
    /// Buildspec to check [default: buildspec.yml in the source directory]
    buildspec: Option<PathBuf>,
    /// Source directory
    #[arg(long, value_name = "DIR", default_value = ".")]
    source: PathBuf,
    /// Output format of the report
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
    /// Ignore warnings of this kind, named in brackets in the report
    #[arg(long, value_name = "CODE", value_parser = warning)]
    allow: Vec<DiagnosticCode>,
    /// Print the buildspec language as JSON Schema instead
    #[arg(long, conflicts_with_all = ["buildspec", "source", "format", "allow"])]
    schema: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CheckFormat {
    /// Text for people
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// A kind of warning, by name. Errors cannot be allowed.
fn warning(name: &str) -> Result<DiagnosticCode, String> {
    let warnings =
        || DiagnosticCode::ALL.into_iter().filter(|code| code.severity() == Severity::Warning);
    warnings().find(|code| code.name() == name).ok_or_else(|| {
        let names: Vec<&str> = warnings().map(DiagnosticCode::name).collect();
        format!("no such kind of warning; there are {}", names.join(", "))
    })
}

/// Prints the report. Returns the exit code.
pub(super) fn check(args: &CheckArgs) -> Result<u8, CliError> {
    if args.schema {
        return super::answer(pretty(&schema()));
    }
    let source = std::fs::canonicalize(&args.source).map_err(|error| {
        CliError::usage(format!("source directory {}: {error}", args.source.display()))
    })?;
    let file = BuildspecFile::read(args.buildspec.as_deref(), &source);
    let mut problems = match file.check() {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    problems.extend(file.check_builds(&source));
    for problem in &mut problems {
        // CodeBuild accepts it, but it cannot run here, which is worth a message.
        if problem.code == DiagnosticCode::NotRunnable {
            problem.severity = Severity::Warning;
        }
    }
    problems.retain(|problem| problem.is_error() || !args.allow.contains(&problem.code));
    problems.sort_by_key(|problem| (problem.span.line, problem.span.column));
    let report = match args.format {
        CheckFormat::Text => text(&file, &problems),
        CheckFormat::Json => pretty(&as_json(&file, &problems)),
        CheckFormat::Sarif => pretty(&as_sarif(&file, &problems)),
    };
    super::answer(report)?;
    Ok(if problems.iter().any(Diagnostic::is_error) { USAGE } else { 0 })
}

fn text(file: &BuildspecFile, problems: &[Diagnostic]) -> String {
    let mut report = render::diagnostics(&file.shown(), file.text().unwrap_or_default(), problems);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let count = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    report.push_str(&format!(
        "{}: {}, {}\n",
        plain::line(&file.shown()),
        count(errors, "error"),
        count(problems.len() - errors, "warning")
    ));
    report
}

fn pretty(report: &Value) -> String {
    plain::json(&format!("{report:#}\n")).into_owned()
}

fn name(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn as_json(file: &BuildspecFile, problems: &[Diagnostic]) -> Value {
    let few = Few::of(problems);
    let lines = render::lines_of(file.text().unwrap_or_default(), &few.shown);
    let problems: Vec<Value> = few
        .shown
        .iter()
        .map(|problem| {
            // Do not repeat a long, unreadable line for each of its problems.
            let line = lines.get(&problem.span.line).filter(|line| line.len() <= MAX_LINE);
            json!({
                "code": problem.code.name(),
                "severity": name(problem.severity),
                "line": problem.span.line,
                "column": problem.span.column,
                "length": problem.span.length,
                "message": problem.message,
                "hint": problem.hint,
                "written": problem.span.written,
                "source": line,
            })
        })
        .collect();
    let omitted = few.left_out();
    json!({ "schemaVersion": 1, "file": file.shown(), "problems": problems, "omitted": omitted })
}

fn as_sarif(file: &BuildspecFile, problems: &[Diagnostic]) -> Value {
    let rules: Vec<Value> = DiagnosticCode::ALL
        .iter()
        .map(|code| json!({ "id": code.name(), "shortDescription": { "text": code.about() } }))
        .collect();
    let few = Few::of(problems);
    let results: Vec<Value> = few
        .shown
        .iter()
        .map(|problem| {
            let mut message = problem.message.clone();
            if let Some(hint) = &problem.hint {
                message = format!("{message} ({hint})");
            }
            let mut place = json!({ "artifactLocation": { "uri": file.shown() } });
            // SARIF counts from 1; a problem of the whole file has no region.
            if problem.span.line > 0 {
                let column = problem.span.column.max(1);
                place["region"] = json!({
                    "startLine": problem.span.line,
                    "startColumn": column,
                    "endColumn": column + problem.span.length.max(1),
                });
            }
            let mut result = json!({
                "ruleId": problem.code.name(),
                "level": name(problem.severity),
                "message": { "text": message },
                "locations": [{ "physicalLocation": place }],
            });
            if let Some(LineColumn { line, column }) = problem.span.written {
                let region = json!({ "startLine": line, "startColumn": column });
                let file = json!({ "uri": file.shown() });
                let place = json!({ "artifactLocation": file, "region": region });
                result["relatedLocations"] = json!([{
                    "physicalLocation": place,
                    "message": { "text": "its text is here" },
                }]);
            }
            result
        })
        .collect();
    let mut run = json!({
        "tool": { "driver": {
            "name": "runner",
            "version": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        } },
        "columnKind": "unicodeCodePoints",
        "results": results,
    });
    if let Some(rest) = few.rest() {
        let note = json!({ "level": "note", "message": { "text": rest } });
        run["invocations"] =
            json!([{ "executionSuccessful": true, "toolExecutionNotifications": [note] }]);
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    })
}

//! `env`: the shell, variables, and sources of their values.

use super::super::diagnostic::{Diagnostic, DiagnosticCode};
use super::super::model::{
    SecretReference, SecretVariable, SecretVersion, SpecShell, SpecVariable,
};
use super::super::read::{NodeSlot, Text};
use super::{FILE, at_most};
use crate::env::is_name;
use std::collections::HashSet;

/// Number of colon-separated fields in a Secrets Manager ARN.
const ARN_FIELDS: usize = 7;
/// The default version of a secret.
const CURRENT: &str = "AWSCURRENT";

pub(super) fn shell(written: Option<&Text>, problems: &mut Vec<Diagnostic>) -> SpecShell {
    let program = match written.map(|shell| shell.text.as_str()) {
        None | Some("sh" | "/bin/sh") => "/bin/sh",
        Some(shell @ ("bash" | "/bin/bash")) => shell,
        Some(other) => {
            let (code, hint) = match other {
                "powershell.exe" | "cmd.exe" | "pwsh" => {
                    (DiagnosticCode::NotRunnable, "Windows shells run on Windows images only")
                }
                _ => (DiagnosticCode::BadValue, "CodeBuild knows `sh` and `bash` on Linux"),
            };
            let message = format!("commands cannot be run with `{other}`");
            let span = written.map_or(FILE, |shell| shell.span);
            problems.push(Diagnostic::new(code, span, message).hint(hint));
            other
        }
    };
    SpecShell { program: program.to_owned() }
}

pub(super) fn variables(
    maps: [NodeSlot<'_>; 2],
    problems: &mut Vec<Diagnostic>,
) -> Vec<SpecVariable> {
    let entries = maps.into_iter().flat_map(NodeSlot::named_texts);
    entries
        .filter(|(name, _)| check_name(name, problems))
        .map(|(name, value)| SpecVariable { name: name.text, value: value.text, span: value.span })
        .collect()
}

pub(super) fn parameters(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Vec<SpecVariable> {
    let entries = map.named_texts().into_iter();
    entries
        .filter(|(name, value)| check_name(name, problems) & names_something(value, problems))
        .map(|(name, value)| SpecVariable { name: name.text, value: value.text, span: value.span })
        .collect()
}

pub(super) fn secrets(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Vec<SecretVariable> {
    let entries = map.named_texts().into_iter();
    entries
        .filter_map(|(name, value)| {
            let fits = check_name(&name, problems) & names_something(&value, problems);
            let secret = fits.then(|| reference(&value, problems))??;
            Some(SecretVariable { name: name.text, secret, span: value.span })
        })
        .collect()
}

pub(super) fn exported(list: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Vec<String> {
    let names = list.texts();
    at_most(100, names.len(), "exported variables", list, problems);
    let mut exported = Vec::new();
    let mut seen = HashSet::new();
    for name in names {
        if name.text.starts_with("AWS_") {
            problems.push(
                Diagnostic::new(
                    DiagnosticCode::ReservedName,
                    name.span,
                    format!(
                        "`{}`: variables whose names start with AWS_ cannot be exported",
                        name.text
                    ),
                )
                .hint("export a copy under another name"),
            );
        } else if !is_name(&name.text) {
            bad_name(&name, problems);
        } else if seen.insert(name.text.clone()) {
            exported.push(name.text);
        }
    }
    exported
}

/// Checks that a reference is not empty.
fn names_something(value: &Text, problems: &mut Vec<Diagnostic>) -> bool {
    let is_empty = value.text.trim().is_empty();
    if is_empty {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::BadValue,
                value.span,
                "this names nothing to take a value from",
            )
            .hint("write the name of the parameter or the secret"),
        );
    }
    !is_empty
}

/// Parses `secret-id[:json-key[:version-stage[:version-id]]]`.
fn reference(written: &Text, problems: &mut Vec<Diagnostic>) -> Option<SecretReference> {
    let fields: Vec<&str> = written.text.split(':').collect();
    let own = if fields[0] == "arn" { ARN_FIELDS.min(fields.len()) } else { 1 };
    let (id, rest) = (fields[..own].join(":"), &fields[own..]);
    let part =
        |at: usize| rest.get(at).filter(|text| !text.is_empty()).map(|&text| text.to_owned());
    let refused = match (rest.len(), part(1), part(2)) {
        (0..=3, Some(_), Some(_)) => "a version is named by its stage or by its id, not by both",
        (0..=3, ..) if !id.is_empty() => {
            let version = match (part(1), part(2)) {
                (_, Some(id)) => SecretVersion::Id(id),
                (stage, None) => SecretVersion::Stage(stage.unwrap_or_else(|| CURRENT.to_owned())),
            };
            return Some(SecretReference { id, json_key: part(0), version });
        }
        (0..=3, ..) => "there is no secret name before the first colon",
        _ => "here are more fields than a reference to a secret has",
    };
    problems.push(
        Diagnostic::new(DiagnosticCode::BadValue, written.span, refused)
            .hint("it is secret-id[:json-key[:version-stage[:version-id]]]"),
    );
    None
}

/// Parses a reference outside of a buildspec.
///
/// # Errors
/// The first problem with it.
pub fn secret_reference(text: &str) -> Result<SecretReference, Box<Diagnostic>> {
    let mut problems = Vec::new();
    let written = Text::new(text, FILE);
    reference(&written, &mut problems).ok_or_else(|| {
        let none = || Diagnostic::new(DiagnosticCode::BadValue, FILE, "it names no secret");
        Box::new(problems.pop().unwrap_or_else(none))
    })
}

/// Checks that a name is valid for a shell variable. Also reports reserved names.
pub(super) fn check_name(name: &Text, problems: &mut Vec<Diagnostic>) -> bool {
    let fits = is_name(&name.text);
    if !fits {
        bad_name(name, problems);
    } else if name.text.starts_with("CODEBUILD_") {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::ReservedName,
                name.span,
                format!("`{}`: names that start with CODEBUILD_ are CodeBuild's own", name.text),
            )
            .hint("choose another name; CodeBuild may overwrite this one"),
        );
    }
    fits
}

fn bad_name(name: &Text, problems: &mut Vec<Diagnostic>) {
    problems.push(
        Diagnostic::new(
            DiagnosticCode::BadName,
            name.span,
            format!("a shell cannot have a variable named `{}`; it is left out", name.text),
        )
        .hint("use letters, digits and `_`, and no digit first"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, Option<String>, SecretVersion)> {
        let written = Text::new(text, FILE);
        let found = reference(&written, &mut Vec::new())?;
        Some((found.id, found.json_key, found.version))
    }

    #[test]
    fn every_form_of_a_reference_is_read() {
        let stage = |name: &str| SecretVersion::Stage(name.to_owned());
        let id = |name: &str| SecretVersion::Id(name.to_owned());
        let own = |text: &str| text.to_owned();
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf";
        for (text, wanted) in [
            ("db", Some((own("db"), None, stage(CURRENT)))),
            ("db:user", Some((own("db"), Some(own("user")), stage(CURRENT)))),
            ("db:", Some((own("db"), None, stage(CURRENT)))),
            ("db:user:OLD", Some((own("db"), Some(own("user")), stage("OLD")))),
            ("db:user::v1", Some((own("db"), Some(own("user")), id("v1")))),
            ("db:::v1", Some((own("db"), None, id("v1")))),
            ("a/b_c:k", Some((own("a/b_c"), Some(own("k")), stage(CURRENT)))),
            (arn, Some((own(arn), None, stage(CURRENT)))),
            (&format!("{arn}:user::v1"), Some((own(arn), Some(own("user")), id("v1")))),
            ("db:user:OLD:v1", None),
            ("db:a:b:c:d", None),
            (":user", None),
        ] {
            assert_eq!(parsed(text), wanted, "{text}");
        }
    }
}

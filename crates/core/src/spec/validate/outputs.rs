//! Outputs of a build and their settings: `artifacts`, `reports`, `cache` and `proxy`.

use super::super::diagnostic::{Diagnostic, DiagnosticCode};
use super::super::model::{Artifact, Artifacts, Cache, Proxy, ReportGroup};
use super::super::read::NodeSlot;
use super::{at_most, is_identifier, strings};

/// Maximum number of each in CodeBuild.
const MAX_REPORTS: usize = 5;
const MAX_SECONDARY: usize = 12;
const MAX_FALLBACK_KEYS: usize = 5;

pub(super) fn artifacts(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Option<Artifacts> {
    if !map.is_there() {
        return None;
    }
    let ids = map.get("secondary-artifacts");
    let entries = ids.entries();
    at_most(MAX_SECONDARY, entries.len(), "secondary artifacts", ids, problems);
    let primary = artifact(map);
    if primary.files.is_empty() && entries.is_empty() {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::MissingKey,
                map.span(),
                "`files` is missing in artifacts",
            )
            .hint("name the files to collect, such as `- '**/*'`"),
        );
    }
    let secondary = entries
        .into_iter()
        .map(|(id, map)| {
            if !is_identifier(&id.text) {
                problems.push(
                    Diagnostic::new(
                        DiagnosticCode::BadValue,
                        id.span,
                        format!("`{}` cannot be the identifier of an artifact", id.text),
                    )
                    .hint("use letters, digits and `_`, less than 128 of them"),
                );
            }
            let artifact = artifact(map);
            if artifact.files.is_empty() {
                let message =
                    format!("`files` is missing in artifacts.secondary-artifacts.{}", id.text);
                problems.push(Diagnostic::new(DiagnosticCode::MissingKey, map.span(), message));
            }
            (id.text, artifact)
        })
        .collect();
    Some(Artifacts { primary, secondary })
}

fn artifact(map: NodeSlot<'_>) -> Artifact {
    let flag = |name| map.get(name).flag().unwrap_or(false);
    Artifact {
        files: strings(map.get("files").texts()),
        name: map.get("name").string(),
        discard_paths: flag("discard-paths"),
        base_directory: map.get("base-directory").string(),
        exclude_paths: strings(map.get("exclude-paths").texts()),
        enable_symlinks: flag("enable-symlinks"),
        s3_prefix: map.get("s3-prefix").string(),
        span: map.span(),
    }
}

pub(super) fn reports(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Vec<ReportGroup> {
    let entries = map.entries();
    at_most(MAX_REPORTS, entries.len(), "report groups", map, problems);
    entries
        .into_iter()
        .map(|(group, map)| ReportGroup {
            span: group.span,
            group: group.text,
            files: strings(map.get("files").texts()),
            format: map
                .get("file-format")
                .string()
                .map_or_else(|| "JUNITXML".to_owned(), |format| format.to_ascii_uppercase()),
            base_directory: map.get("base-directory").string(),
            discard_paths: map.get("discard-paths").flag().unwrap_or(false),
        })
        .collect()
}

pub(super) fn cache(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Option<Cache> {
    if !map.is_there() {
        return None;
    }
    let (key, fallback) = (map.get("key").string(), map.get("fallback-keys"));
    let fallback_keys = strings(fallback.texts());
    at_most(MAX_FALLBACK_KEYS, fallback_keys.len(), "fallback keys", fallback, problems);
    if key.is_none() && !fallback_keys.is_empty() {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::NoEffect,
                fallback.span(),
                "`fallback-keys` has no effect without `key`",
            )
            .hint("give the cache a `key`"),
        );
    }
    let action = map.get("action").string().map(|action| action.to_ascii_lowercase());
    Some(Cache {
        paths: strings(map.get("paths").texts()),
        key,
        fallback_keys,
        restore: action.as_deref() != Some("save"),
        save: action.as_deref() != Some("restore"),
        span: map.span(),
    })
}

pub(super) fn proxy(map: NodeSlot<'_>, problems: &mut Vec<Diagnostic>) -> Proxy {
    let flag = |name| map.get(name).flag().unwrap_or(false);
    let proxy =
        Proxy { upload_artifacts: flag("upload-artifacts"), logs: flag("logs"), span: map.span() };
    if proxy.upload_artifacts || proxy.logs {
        problems.push(
            Diagnostic::new(
                DiagnosticCode::NotSupportedYet,
                map.span(),
                "`proxy` is not carried out: nothing of a local build is sent to CodeBuild",
            )
            .hint("--proxy gives the build the caller's proxy variables"),
        );
    }
    proxy
}

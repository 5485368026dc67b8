//! What a person wants to see first of a run: why it failed, its last lines, what it changed.
//!
//! Used by `command` if the build could stop after the run.

use super::shell::BuildShell;
use super::watch::RunWatch;
use super::{SharedSnapshot, ShellSnapshot};
use runner_core::debug::compare;
use runner_core::event::{ChangedVariable, CommandOutcome, Scene};
use runner_core::explain::{FailedCommand, nearest, not_found};
use runner_core::mask::Secrets;
use runner_engine::{Container, OpenMode};
use rustix::fs::Dir;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::timeout;

/// Maximum directories and names searched for one similar to a missing name.
const DIRECTORIES: usize = 32;
const NAMES: usize = 20_000;

/// Time limit for reading a directory.
const ANSWER: Duration = Duration::from_millis(200);

/// Collects this for a finished run.
pub(super) async fn of(
    watch: &RunWatch,
    container: &dyn Container,
    shell: &BuildShell,
    (outcome, cause): (&CommandOutcome, Option<&str>),
    (snapshot, secrets): (&SharedSnapshot, &Secrets),
) -> Scene {
    let mut scene = Scene::default();
    let seen = snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (scene.changed, scene.more_changed) = changed(&seen, secrets);
    if outcome.succeeded() {
        return scene;
    }
    let output = watch.output(Scene::BYTES);
    let missing = not_found(outcome, &output);
    let near = match &missing {
        Some(name) => near(container, shell, name).await,
        None => None,
    };
    let failure = FailedCommand { outcome, output: &output, cause, near: near.as_deref() };
    scene.failure = Some(failure.explained());
    scene.output = Scene::last_lines(&output);
    scene
}

/// Variables changed by the run: the first few, and the number of others.
fn changed(seen: &ShellSnapshot, secrets: &Secrets) -> (Vec<ChangedVariable>, usize) {
    let Some(before) = &seen.before else { return (Vec::new(), 0) };
    let compared = compare(before, &seen.env);
    let all = compared.iter().filter(|one| one.is_changed());
    // Mask before cutting: half a secret would not be recognized.
    let text = |value: &[u8]| {
        let masked = secrets.mask_bytes(value);
        String::from_utf8_lossy(&masked[..masked.len().min(Scene::BYTES)]).into_owned()
    };
    let shown = all.clone().take(Scene::VARIABLES).map(|one| ChangedVariable {
        name: text(one.name),
        before: one.before.map(text),
        now: one.now.map(text),
    });
    (shown.collect(), all.count().saturating_sub(Scene::VARIABLES))
}

/// A program on the build's PATH with a similar name.
async fn near(container: &dyn Container, shell: &BuildShell, name: &str) -> Option<String> {
    let path = shell.variable("PATH")?;
    let mut names = Vec::new();
    for directory in path.split(':').filter(|dir| dir.starts_with('/')).take(DIRECTORIES) {
        let Ok(opened) = container.open(Path::new(directory), OpenMode::Read).await else {
            continue;
        };
        let left = NAMES.saturating_sub(names.len());
        // The build may have mounted a file system that never responds.
        let listed = tokio::task::spawn_blocking(move || listed(&opened, left));
        if let Ok(Ok(more)) = timeout(ANSWER, listed).await {
            names.extend(more);
        }
    }
    nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

fn listed(directory: &OwnedFd, most: usize) -> Vec<String> {
    let Ok(entries) = Dir::read_from(directory) else { return Vec::new() };
    let entries = entries.filter_map(Result::ok).take(most);
    entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).collect()
}

//! Finds the runtimes a container already has, by asking their programs for versions.
//!
//! Used by `setup` if an image has no catalog to install runtimes from.

use runner_core::env::DEFAULT_PATH;
use runner_core::installed::{self, InstalledVersions};
use runner_engine::{Container, ExecSpec, Ids, ProgramEnds, SignalReach, Stdio};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Maximum bytes read of an answer.
const MOST: u64 = 4 << 10;
/// How long a program may take to report its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for the versions of those names that have a known query, concurrently.
pub(super) async fn find(
    container: &dyn Container,
    names: Vec<String>,
    variables: &BTreeMap<String, String>,
) -> InstalledVersions {
    let asked = names.into_iter().filter_map(|name| {
        let question = installed::question(&name)?;
        Some(async move {
            // If it does not answer, nothing is known of it.
            let answer = ask(container, question, variables).await?;
            Some((name, answer.and_then(|text| installed::version_in(&text))))
        })
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

/// A program's output; `Some(None)` if the program does not exist.
async fn ask(
    container: &dyn Container,
    question: &[&str],
    variables: &BTreeMap<String, String>,
) -> Option<Option<String>> {
    let spec = ExecSpec {
        argv: question.iter().map(|word| word.as_bytes().to_vec()).collect(),
        path: variables.get("PATH").map_or(DEFAULT_PATH, String::as_str).as_bytes().to_vec(),
        env: variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        cwd: b"/".to_vec(),
        cwd_or_root: true,
        user: Ids::default(),
        stdio: Stdio::Merged,
        toolbox: false,
        of_build: false,
    };
    let process = match container.exec(spec).await {
        Ok(process) => process,
        Err(error) if error.is_missing_program() => return Some(None),
        Err(_) => return None,
    };
    let ProgramEnds::Merged(pipe) = process.ends else { return None };
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::from(pipe).take(MOST).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    });
    let answer = tokio::time::timeout(PATIENCE, read).await;
    process.signals.send(nix::libc::SIGKILL, SignalReach::Session).await;
    answer.ok()?.ok()?.map(Some)
}

//! Runs an image's ENTRYPOINT before the first command of a privileged build.
//!
//! The entrypoints of CodeBuild's own images start a Docker daemon and then run their arguments,
//! which at AWS is the agent. Here it is one of our programs, which reports the variables it finds
//! and keeps running. Without privileges such an entrypoint would wait a minute for a daemon that
//! cannot start, and many other images have one that is no wrapper, so it is not run.
//!
//! Used by `setup`. The entrypoint's output is untrusted: it is read within bounds and never
//! logged.

use super::shell::ShellError;
use runner_core::env::{DEFAULT_PATH, Variables, is_name};
use runner_engine::{Container, ExecError, ExecSpec, Ids, ProgramEnds, Stdio};
use runner_wire::abi::AGENT_NAME;
use runner_wire::init::Exit;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Maximum bytes kept of its output. Linux accepts no larger environment.
const MOST: usize = 8 << 20;
/// How long its child may take to report after the entrypoint itself has exited.
const GRACE: Duration = Duration::from_secs(5);
/// Variables that shells set themselves.
const OF_SHELLS: [&str; 4] = ["_", "OLDPWD", "PWD", "SHLVL"];

/// The variables the entrypoint was run with. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Entrypoint(Arc<Mutex<Option<Variables>>>);

impl Entrypoint {
    /// Runs the entrypoint with these variables. Returns the image's variables with its changes.
    pub(super) async fn run(
        &self,
        container: &dyn Container,
        passed: Variables,
    ) -> Result<Variables, ShellError> {
        *self.lock() = Some(passed.clone());
        run(container, passed).await
    }

    /// Runs it again in the container that replaced the one it ran in.
    pub(super) async fn again(&self, container: &dyn Container) -> Result<(), ShellError> {
        let passed = self.lock().clone();
        match passed {
            Some(passed) => run(container, passed).await.map(drop),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Variables>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(container: &dyn Container, passed: Variables) -> Result<Variables, ShellError> {
    let config = container.image_config();
    let token = uuid::Uuid::new_v4().simple().to_string();
    let mut variables: BTreeMap<String, String> = BTreeMap::from([
        ("HOME".to_owned(), "/root".to_owned()),
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
    ]);
    variables.extend(passed);
    let agent = container.programs().join(AGENT_NAME);
    let mut argv: Vec<Vec<u8>> =
        config.entrypoint.iter().map(|word| word.clone().into_bytes()).collect();
    argv.extend([agent.as_os_str().as_bytes().to_vec(), token.clone().into_bytes()]);
    let cwd = if config.working_dir.starts_with('/') { &*config.working_dir } else { "/" };
    let spec = ExecSpec {
        argv,
        path: variables["PATH"].clone().into_bytes(),
        env: variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        cwd: cwd.as_bytes().to_vec(),
        cwd_or_root: true,
        user: Ids::default(),
        stdio: Stdio::Merged,
        toolbox: false,
        of_build: true,
    };
    let process = container.exec(spec).await?;
    let ProgramEnds::Merged(pipe) = process.ends else {
        return Err(ExecError::ContainerGone.into());
    };
    let (told_tx, mut told_rx) = oneshot::channel();
    let mark = token.into_bytes();
    tokio::task::spawn_blocking(move || listen(pipe, &mark, told_tx));
    let mut exit = process.exit;
    let (told, how) = tokio::select! {
        told = &mut told_rx => {
            let told = told.unwrap_or(Err(Vec::new()));
            // When its output ends, it has usually exited as well.
            let how = match told {
                Ok(_) => None,
                Err(_) => tokio::time::timeout(GRACE, exit).await.ok(),
            };
            (told, how)
        }
        // Processes it started may keep running.
        how = &mut exit => {
            let told = tokio::time::timeout(GRACE, told_rx).await;
            (told.map_or_else(|_| Err(Vec::new()), |told| told.unwrap_or(Err(Vec::new()))), Some(how))
        }
    };
    let said = match told {
        Ok(found) => return Ok(merged(config.env.clone(), &variables, &found)),
        Err(said) => said,
    };
    let how = match how.map(|how| how.unwrap_or(Err(ExecError::ContainerGone))) {
        None => "it has closed its output".to_owned(),
        Some(Ok(Exit::Code(code))) => format!("exit status {code}"),
        Some(Ok(Exit::Signal(signal))) => format!("signal {signal}"),
        Some(Err(ExecError::ContainerGone)) => return Err(ExecError::ContainerGone.into()),
        Some(Err(error)) => error.to_string(),
    };
    Err(ended(config.entrypoint.join(" "), how, &said))
}

/// Hint for an entrypoint that failed.
pub(super) const HINT: &str = "with --privileged the image's entrypoint has to run what it is given \
                               (eval \"$@\" at its end, as CodeBuild's own images do); without \
                               --privileged it is not run at all";

fn ended(program: String, how: String, said: &[u8]) -> ShellError {
    const SHOWN: usize = 2000;
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SHOWN)..]).trim().to_owned();
    let said = if said.is_empty() { said } else { format!("; its last words: {said}") };
    ShellError::Entrypoint { program, how, said }
}

/// Reads until the agent has written between two marks, and keeps reading so that nobody blocks on
/// a full pipe. Sends the agent's text, or all output if the agent wrote none.
fn listen(pipe: OwnedFd, mark: &[u8], told: oneshot::Sender<Result<Vec<u8>, Vec<u8>>>) {
    let mut pipe = File::from(pipe);
    let mut told = Some(told);
    let mut heard: Vec<u8> = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let got = pipe.read(&mut part).unwrap_or(0);
        if got == 0 {
            break;
        }
        let Some(waiting) = told.take() else { continue };
        heard.extend_from_slice(&part[..got]);
        match between(&heard, mark) {
            // A send fails only when nobody waits any more.
            Some(said) => drop(waiting.send(Ok(said.to_vec()))),
            None => {
                if heard.len() > MOST {
                    heard.drain(..MOST / 2);
                }
                told = Some(waiting);
            }
        }
    }
    if let Some(told) = told {
        let _ = told.send(Err(heard));
    }
}

/// The text between the first and the second mark.
fn between<'a>(heard: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let find = |bytes: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
    let first = find(heard)? + mark.len();
    let rest = &heard[first..];
    Some(&rest[..find(rest)?])
}

/// The image's variables as the entrypoint left them: with what it set or changed, without what it
/// unset. Other variables belong to other layers.
fn merged(image: Variables, passed: &BTreeMap<String, String>, found: &[u8]) -> Variables {
    let found: BTreeMap<String, String> = found
        .split(|byte| *byte == 0)
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
        .filter(|(name, _)| is_name(name) && !OF_SHELLS.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let kept = image.into_iter().filter(|(name, _)| found.contains_key(name));
    let changed = found.iter().filter(|(name, value)| passed.get(*name) != Some(*value));
    let changed: Variables = changed.map(|(name, value)| (name.clone(), value.clone())).collect();
    kept.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_told_stands_between_two_marks() {
        assert_eq!(between(b"noise TTA=1\0TT more", b"TT"), Some(&b"A=1\0"[..]));
        assert_eq!(between(b"noise TTA=1\0", b"TT"), None);
        assert_eq!(between(b"", b"TT"), None);
    }

    #[test]
    fn only_changes_join_the_variables_of_the_image() {
        let image = pairs(&[("PATH", "/bin"), ("GONE", "1"), ("KEPT", "2")]);
        let passed =
            pairs(&[("PATH", "/bin"), ("GONE", "1"), ("KEPT", "2"), ("CODEBUILD_CI", "true")]);
        let found =
            b"PATH=/new:/bin\0KEPT=2\0CODEBUILD_CI=true\0NEW=x=y\0SHLVL=1\0BAD-NAME=1\0junk\0";
        let merged = merged(image, &passed.into_iter().collect(), found);
        assert_eq!(
            merged,
            pairs(&[("PATH", "/bin"), ("KEPT", "2"), ("NEW", "x=y"), ("PATH", "/new:/bin")])
        );
    }
}

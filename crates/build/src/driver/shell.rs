//! Runs commands of the buildspec: one script and one new shell for each.
//!
//! Used by `effects`. In version 0.2, directory and variables carry over from command to command
//! through files in the container; in version 0.1, each command starts afresh. The files are opened
//! once, through PID 1, and then written and read by descriptor: the host never resolves a path in
//! the container.

use runner_core::env::DEFAULT_PATH;
use runner_core::event::ExportedVariable;
use runner_core::exports;
use runner_core::machine::{CommandRun, ShellVariables};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::plan::ContainerPaths;
use runner_core::spec::SpecVersion;
use runner_engine::{
    Container, EngineError, ExecError, ExecSpec, Ids, OpenMode, StartedProgram, Stdio,
};
use runner_outputs::ShellValues;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Last line of a completely saved state.
const SAVED: &[u8] = b"\n#\n";
/// Maximum bytes read of a state file. Linux accepts no larger environment.
const MAX_STATE: u64 = 8 << 20;

/// CodeBuild's message for a build whose container died.
pub(super) const FOUND_DEAD: &str = "Build container found dead before completing the build. Build \
                                     container died because it was out of memory, or the Docker image \
                                     is not supported.";

/// A shell's directory and variables between two commands.
#[derive(Clone, Debug, Default)]
pub struct ShellSnapshot {
    /// Variables as `NAME=value`.
    pub env: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    /// Variables before the last command, if it changed them.
    pub before: Option<Vec<Vec<u8>>>,
}

/// The newest snapshot, for sessions.
pub type SharedSnapshot = Arc<Mutex<ShellSnapshot>>;

/// Runs commands.
pub(super) struct BuildShell {
    container: Arc<dyn Container>,
    version: SpecVersion,
    program: String,
    source: String,
    /// Directory of the state files in the container.
    state_dir: String,
    files: StateFiles,
    /// The last completely saved state; restored if a command dies while saving.
    state: Vec<u8>,
    directory: Vec<u8>,
    /// State and directory before the last command, if it changed them.
    begun_with: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether the files contain exactly that.
    is_written: bool,
    snapshot: SharedSnapshot,
}

/// A shell's state between two commands, as kept in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bookmark {
    state: Arc<[u8]>,
    directory: Arc<[u8]>,
}

struct StateFiles {
    script: StateFile,
    env: StateFile,
    dir: StateFile,
}

/// A file in the container that the host holds open.
struct StateFile {
    path: String,
    file: File,
}

/// Why the runner could not run a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    #[error("cannot write {path} in the container: {source}")]
    State { path: String, source: io::Error },
    #[error("the image has no `{program}` to run commands with")]
    NoShell { program: String },
    #[error(
        "the image's entrypoint {program} ended without running what it was given ({how}){said}"
    )]
    Entrypoint { program: String, how: String, said: String },
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Engine(EngineError),
}

/// The error context of a build whose shell cannot go on.
pub(super) fn fault(error: &ShellError) -> PhaseContext {
    match error {
        ShellError::NoShell { .. } | ShellError::Entrypoint { .. } => {
            PhaseContext::new(StatusCode::None, format!("{FOUND_DEAD} ({error})"))
        }
        ShellError::Engine(error) => PhaseContext::new(error.code.clone(), error.message.clone()),
        ShellError::State { .. } | ShellError::Exec(_) => {
            PhaseContext::new(StatusCode::InternalServiceError, error.to_string())
        }
    }
}

impl BuildShell {
    /// Writes the initial state.
    pub(super) async fn prepare(
        container: Arc<dyn Container>,
        version: SpecVersion,
        program: String,
        places: &ContainerPaths,
        variables: &BTreeMap<String, String>,
        snapshot: SharedSnapshot,
    ) -> Result<Self, ShellError> {
        let state_dir = format!("{}/output/tmp", places.root);
        let source = places.source.clone();
        let files = StateFiles::open(&*container, &state_dir).await?;
        let state = initial_state(variables);
        let directory = source.clone().into_bytes();
        let shell = BuildShell {
            container,
            version,
            program,
            source,
            state_dir,
            files,
            state,
            directory,
            begun_with: None,
            is_written: false,
            snapshot,
        };
        shell.publish();
        Ok(shell)
    }

    /// Starts a command. It has ended when its process has exited and [`Self::finished`] was
    /// called.
    pub(super) async fn start(
        &mut self,
        run: &CommandRun,
        user: Ids,
    ) -> Result<StartedProgram, ShellError> {
        if run.again {
            self.go_back();
        }
        self.begun_with = None;
        let (succeeding, exit) =
            (if run.succeeding { "1" } else { "0" }, run.last_exit.to_string());
        let managed =
            [("CODEBUILD_BUILD_SUCCEEDING", succeeding), ("CODEBUILD_LAST_EXIT", exit.as_str())];
        let own = run.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.set(managed.into_iter().chain(own));
        self.unset(&run.unset);
        let (files, container) = (&mut self.files, &*self.container);
        // Concurrently: a container may be far away.
        let (script_is_new, env_is_new, dir_is_new) = tokio::try_join!(
            files.script.renew(container),
            files.env.renew(container),
            files.dir.renew(container)
        )?;
        self.is_written &= !(script_is_new || env_is_new || dir_is_new);
        self.files.script.write(&script(self.version, &self.source, &self.state_dir, &run.text))?;
        if !self.is_written {
            self.files.env.write(&self.state)?;
            self.files.dir.write(&line(&self.directory))?;
            self.is_written = true;
        }
        let argv = [self.program.as_bytes(), self.files.script.path.as_bytes()];
        let spec = ExecSpec {
            argv: argv.map(<[u8]>::to_vec).into(),
            path: DEFAULT_PATH.into(),
            // Everything else is in the state; variables that were unset there must not come back.
            env: Vec::new(),
            cwd: self.source.clone().into_bytes(),
            cwd_or_root: false,
            user,
            toolbox: false,
            of_build: true,
            stdio: Stdio::Merged,
        };
        Ok(self.container.exec(spec).await?)
    }

    /// Goes back to the variables and directory with which the last run began.
    pub(super) fn go_back(&mut self) {
        if let Some((state, directory)) = self.begun_with.take() {
            (self.state, self.directory, self.is_written) = (state, directory, false);
            self.publish();
        }
    }

    pub(super) fn bookmark(&self) -> Bookmark {
        Bookmark {
            state: self.state.as_slice().into(),
            directory: self.directory.as_slice().into(),
        }
    }

    /// Where its files are in the container.
    pub(super) fn state_dir(&self) -> &str {
        &self.state_dir
    }

    /// Opens the files again, because the mounts at their location have changed.
    pub(super) async fn reopen(&mut self) -> Result<(), ShellError> {
        self.files = StateFiles::open(&*self.container, &self.state_dir).await?;
        self.is_written = false;
        Ok(())
    }

    /// Continues from a bookmark, in another container.
    pub(super) async fn restore(
        &mut self,
        container: Arc<dyn Container>,
        bookmark: &Bookmark,
    ) -> Result<(), ShellError> {
        self.files = StateFiles::open(&*container, &self.state_dir).await?;
        self.container = container;
        self.state = bookmark.state.to_vec();
        self.directory = bookmark.directory.to_vec();
        self.begun_with = None;
        self.is_written = false;
        self.publish();
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).before = None;
        Ok(())
    }

    /// Turns a failure to start a program into a shell error.
    pub(super) fn explain(&self, error: ExecError) -> ShellError {
        if error.is_missing_program() {
            ShellError::NoShell { program: self.program.clone() }
        } else {
            ShellError::Exec(error)
        }
    }

    /// Takes over the state that a command has saved.
    pub(super) async fn finished(&mut self) {
        if self.version == SpecVersion::V0_1 {
            return;
        }
        // A command that removes the files creates new ones when it saves. If this fails, the next
        // command tries again.
        let (files, container) = (&mut self.files, &*self.container);
        let _ = tokio::join!(files.env.renew(container), files.dir.renew(container));
        // A truncated state is not taken over; the next command gets the last complete one.
        self.is_written = false;
        if let (Some(state), Some(directory)) = (self.files.env.read(), self.files.dir.read())
            && state.ends_with(SAVED)
            && let Some(directory) = directory.strip_suffix(b"\n")
            && directory.starts_with(b"/")
        {
            let before = std::mem::replace(&mut self.state, state);
            let directory = std::mem::replace(&mut self.directory, directory.to_vec());
            self.begun_with = Some((before, directory));
            self.is_written = true;
            self.publish();
        } else {
            self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).before = None;
        }
    }

    /// Sets variables for the next command and those after it.
    fn set<'v>(&mut self, values: impl Iterator<Item = (&'v str, &'v str)>) {
        let known = exports::parse(&self.state);
        for (name, value) in values {
            let current = known.iter().rev().find(|(known, _)| known == name.as_bytes());
            if current.is_none_or(|(_, current)| current != value.as_bytes()) {
                self.state.truncate(self.state.len() - SAVED.len() + 1);
                let line = format!("export {name}={}", exports::quote(value));
                self.state.extend_from_slice(line.as_bytes());
                self.state.extend_from_slice(SAVED);
                self.is_written = false;
            }
        }
    }

    /// Unsets variables for the next command and those after it.
    fn unset(&mut self, names: &[String]) {
        for name in names {
            self.state.truncate(self.state.len() - SAVED.len() + 1);
            self.state.extend_from_slice(format!("unset {name}").as_bytes());
            self.state.extend_from_slice(SAVED);
            self.is_written = false;
        }
    }

    /// Variables of the next command.
    pub(super) fn variables(&self) -> ShellVariables {
        exports::parse(&self.state).into()
    }

    /// The value of a variable.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let known = exports::parse(&self.state);
        let (_, value) = known.iter().rev().find(|(known, _)| known == name.as_bytes())?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The directory in which the next command begins.
    pub(super) fn directory(&self) -> String {
        String::from_utf8_lossy(&self.directory).into_owned()
    }

    /// Values of these variables after the last command; names without a value are left out.
    pub(super) fn values(&self, names: &[String]) -> Vec<ExportedVariable> {
        let known = exports::parse(&self.state);
        let value = |name: &String| {
            let (_, value) = known.iter().rev().find(|(known, _)| known == name.as_bytes())?;
            let value = String::from_utf8_lossy(value).into_owned();
            Some(ExportedVariable { name: name.clone(), value })
        };
        names.iter().filter_map(value).collect()
    }

    /// The state after the last command, for evaluations outside the build.
    pub(super) fn surroundings(&self) -> ShellValues {
        let env = exports::parse(&self.state);
        let pair = |(name, value): (Vec<u8>, Vec<u8>)| [name.as_slice(), b"=", &value].concat();
        ShellValues {
            shell: self.program.clone(),
            env: env.into_iter().map(pair).collect(),
            cwd: self.directory.clone(),
        }
    }

    fn publish(&self) {
        let env = exports::parse(&self.state)
            .into_iter()
            .map(|(name, value)| [name.as_slice(), b"=", &value].concat())
            .collect();
        let cwd = self.directory.clone();
        let mut shared = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Some(std::mem::take(&mut shared.env));
        *shared = ShellSnapshot { env, cwd, before };
    }
}

impl StateFiles {
    async fn open(container: &dyn Container, dir: &str) -> Result<Self, ShellError> {
        let open = |name: &str| StateFile::open(container, format!("{dir}/{name}"));
        let (script, env, dir) =
            tokio::try_join!(open("script.sh"), open("env.sh"), open("dir.txt"))?;
        Ok(StateFiles { script, env, dir })
    }
}

impl StateFile {
    async fn open(container: &dyn Container, path: String) -> Result<Self, ShellError> {
        match container.open(Path::new(&path), OpenMode::ReadWriteCreate).await {
            Ok(fd) => {
                let file = File::from(fd);
                // Commands of other users save their state there too; inside a container nobody
                // else has access.
                let mode = if container.is_shared() { 0o600 } else { 0o666 };
                let users = std::os::unix::fs::PermissionsExt::from_mode(mode);
                match file.set_permissions(users) {
                    // Root in a daemon's container is another user; the mode was set on creation.
                    Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                        Err(ShellError::State { path, source: error })
                    }
                    _ => Ok(StateFile { path, file }),
                }
            }
            Err(source) => Err(ShellError::State { path, source }),
        }
    }

    /// Recreates the file if the build removed or replaced it. Returns whether it did.
    async fn renew(&mut self, container: &dyn Container) -> Result<bool, ShellError> {
        if self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0) {
            return Ok(false);
        }
        *self = Self::open(container, self.path.clone()).await?;
        Ok(true)
    }

    fn write(&self, contents: &[u8]) -> Result<(), ShellError> {
        self.file
            .write_all_at(contents, 0)
            .and_then(|()| self.file.set_len(contents.len() as u64))
            .map_err(|source| ShellError::State { path: self.path.clone(), source })
    }

    fn read(&self) -> Option<Vec<u8>> {
        let length = self.file.metadata().ok()?.len();
        if length > MAX_STATE {
            return None;
        }
        let mut contents = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut contents, 0).ok()?;
        Some(contents)
    }
}

fn line(text: &[u8]) -> Vec<u8> {
    [text, b"\n"].concat()
}

fn initial_state(variables: &BTreeMap<String, String>) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in variables {
        text.push_str("export ");
        text.push_str(name);
        text.push('=');
        text.push_str(&exports::quote(value));
        text.push('\n');
    }
    text.push_str("#\n");
    text.into_bytes()
}

/// The script of one command. In every version the command's text starts on line 4, as in AWS.
///
/// Our own lines call no program: images without `cat` exist, and each call would cost as much as
/// the command. The empty line after the text absorbs a trailing backslash.
fn script(version: SpecVersion, source: &str, state_dir: &str, text: &str) -> Vec<u8> {
    let dir = exports::quote(state_dir);
    let script = match version {
        SpecVersion::V0_2 => format!(
            "IFS= read -r OLDPWD < {dir}/dir.txt; cd \"$OLDPWD\"\n\
             set -a\n\
             . {dir}/env.sh\n\
             {text}\n\
             \n\
             CODEBUILD_LAST_EXIT=$?\n\
             {{ export -p; echo '#'; }} > {dir}/env.sh\n\
             pwd > {dir}/dir.txt\n\
             exit $CODEBUILD_LAST_EXIT\n"
        ),
        SpecVersion::V0_1 => format!(
            "cd {}\n\
             set -a\n\
             . {dir}/env.sh\n\
             {text}\n",
            exports::quote(source)
        ),
    };
    script.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commands_text_starts_on_line_four() {
        for version in [SpecVersion::V0_1, SpecVersion::V0_2] {
            let script = script(version, "/src/it's", "/state", "echo one\necho two");
            let text = String::from_utf8(script).expect("text");
            assert_eq!(text.lines().nth(3), Some("echo one"), "{version:?}");
            assert_eq!(text.lines().nth(4), Some("echo two"), "{version:?}");
        }
    }
}

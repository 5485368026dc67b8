//! Commands of Run Command: the request, its state at each node, and its scripts' output.
//!
//! ```text
//! commands/<id>/lock                        held by flock by the process that executes it
//! commands/<id>/cancel                      a pipe for requests to end it
//! commands/<id>/command.json                the request; at the end also all final states
//! commands/<id>/<node>/invocation.json      the state at a node; missing until it has begun
//! commands/<id>/<node>/delivery-<step>      why that output is not in AWS yet
//! commands/<id>/<node>/<plugin>/<step>/     the step's stdout and stderr, and cut.json with the
//!                                           excerpts for responses; with a `root`, below that
//!                                           folder of the node
//! ```
//!
//! Readers take no lock. A command exists once its folder has its final name, which it gets
//! complete and locked. An unfinished command whose lock nobody holds was left by a dead process;
//! nobody resumes it, so no script runs twice.

mod delivery;
mod outputs;

pub use outputs::{CutOutput, StepOutputs};

use super::home::Home;
use nix::sys::stat::Mode;
use runner_core::destination::Destinations;
use runner_core::run_command::StatusDetails;
use runner_core::time::WallTime;
use runner_host::private::{make_private, write_durably};
use runner_host::users;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name prefix of incomplete folders.
const NEW: &str = ".new-";
const COMMAND: &str = "command.json";
const INVOCATION: &str = "invocation.json";
const LOCK: &str = "lock";
const CANCEL: &str = "cancel";
/// Exists once the full outputs are removed.
const SWEPT: &str = "swept";
/// Most bytes of any of our files.
const MAX_FILE: u64 = 8 << 20;

/// The request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SentCommand {
    pub id: String,
    pub document: String,
    /// As requested; may be empty.
    pub document_version: String,
    pub comment: String,
    pub parameters: BTreeMap<String, Vec<String>>,
    /// Nodes and targets as requested.
    pub instance_ids: Vec<String>,
    pub targets: serde_json::Value,
    pub requested: WallTime,
    pub expires: WallTime,
    pub timeout_s: u64,
    pub max_concurrency: String,
    pub max_errors: String,
    pub errors_allowed: usize,
    /// Where AWS stores its output.
    #[serde(default)]
    pub destinations: Destinations,
    /// The requester's ARN, then the id that survives a change of their name, and the key they
    /// used.
    pub owner: String,
    #[serde(default)]
    pub owner_id: String,
    #[serde(default)]
    pub owner_key: String,
    /// A folder at each node that contains its plugins' folders; empty for the node's own folder.
    #[serde(default)]
    pub root: String,
    /// Facts that AWS's agent would report about its system.
    #[serde(default)]
    pub system: BTreeMap<String, String>,
    pub nodes: Vec<CommandNode>,
    pub steps: Vec<CommandStep>,
    /// The state at each node, once the command has ended everywhere.
    #[serde(default)]
    pub ended: Option<Vec<StatusDetails>>,
}

/// A node that a command was sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandNode {
    /// The name in responses: as requested.
    pub name: String,
    /// Its id as a managed node, and the name of its folder.
    pub id: String,
    pub uuid: String,
    pub build: String,
    pub project: String,
}

/// A step of a command's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandStep {
    pub name: String,
    pub plugin: String,
    pub folder: String,
}

impl CommandStep {
    /// The path of its outputs relative to its node, the same here and in a bucket.
    pub fn path(&self) -> String {
        let plugin: String = self.plugin.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{plugin}/{}", self.folder)
    }

    /// Its name within log stream names.
    pub fn stream(&self) -> String {
        self.name.replace([':', '*'], "-")
    }
}

/// A command's state at one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invocation {
    pub details: StatusDetails,
    /// Messages in addition to the scripts' output.
    #[serde(default)]
    pub trace: String,
    /// Time of the last change.
    pub changed: Option<WallTime>,
    /// In the document's order, without steps that have not begun.
    pub steps: Vec<StepState>,
}

impl Invocation {
    /// The state before anything has happened.
    pub fn pending() -> Self {
        let (trace, steps) = (String::new(), Vec::new());
        Invocation { details: StatusDetails::Pending, trace, changed: None, steps }
    }

    /// Marks an unfinished command as failed, because its process is gone.
    fn left(mut self) -> Self {
        if !self.details.is_end() {
            self.details = StatusDetails::Failed;
            STOPPED.clone_into(&mut self.trace);
            for step in self.steps.iter_mut().filter(|step| step.ended.is_none()) {
                step.status = "Failed".to_owned();
                step.details = "Failed".to_owned();
                step.ended = self.changed;
            }
        }
        self
    }
}

/// The message for a command whose process is gone.
pub const STOPPED: &str = "the endpoint was stopped";

/// The state of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepState {
    pub status: String,
    pub details: String,
    pub code: i32,
    pub started: Option<WallTime>,
    pub ended: Option<WallTime>,
}

/// All commands of a state folder.
#[derive(Clone, Debug)]
pub struct Commands {
    dir: PathBuf,
}

/// A command that this process executes.
#[derive(Debug)]
pub struct OwnedCommand {
    dir: PathBuf,
    root: String,
    _lock: File,
}

/// A stored command.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundCommand {
    pub command: SentCommand,
    /// Whether a process executes it.
    pub is_live: bool,
    dir: PathBuf,
}

impl Commands {
    pub fn of(home: &Home) -> Self {
        Commands { dir: home.root().join("commands") }
    }

    /// Stores a new command. It is complete on disk when this returns.
    pub fn create(&self, command: &SentCommand) -> io::Result<OwnedCommand> {
        let dir = self.folder(&command.id).ok_or(io::ErrorKind::InvalidInput)?;
        let new = self.dir.join(format!("{NEW}{}", command.id));
        make_private(&new)?;
        let lock = private().open(new.join(LOCK))?;
        users::give(&new.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
        })?;
        nix::unistd::mkfifo(&new.join(CANCEL), Mode::S_IRUSR | Mode::S_IWUSR)?;
        users::give(&new.join(CANCEL))?;
        for node in &command.nodes {
            make_private(&new.join(&node.id))?;
        }
        write_durably(&new.join(COMMAND), &serde_json::to_vec(command)?)?;
        fs::rename(&new, &dir)?;
        Ok(OwnedCommand { dir, root: command.root.clone(), _lock: lock })
    }

    /// Ids, newest first. They begin with the time, so they sort in the order of the commands.
    pub fn ids(&self) -> io::Result<Vec<String>> {
        let mut ids = self.names()?;
        ids.retain(|name| is_id(name));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// The command with this id.
    pub fn find(&self, id: &str) -> io::Result<Option<FoundCommand>> {
        let Some(dir) = self.folder(id) else { return Ok(None) };
        // Checked first, so that what its process wrote before it released the lock is read
        // afterwards.
        let is_live = is_held(&dir)?;
        let command = read::<SentCommand>(&dir.join(COMMAND))?;
        Ok(command.map(|command| FoundCommand { command, is_live, dir }))
    }

    /// Removes full outputs and records that are too old. Files that another process removes
    /// meanwhile are no error.
    pub fn sweep(&self, now: WallTime, outputs: Duration, records: Duration) -> io::Result<()> {
        let mut failed: Option<io::Error> = None;
        for name in self.names()? {
            let dir = self.dir.join(&name);
            let is_old = match name.strip_prefix(NEW) {
                // Its process was killed before it was complete. Leave some time to one still being
                // made.
                Some(id) if is_id(id) => age(id, now).map(|age| age > Duration::from_secs(3600)),
                Some(_) => None,
                None if is_id(&name) => age(&name, now).map(|age| age > records),
                None => None,
            };
            match is_old {
                // A command that cannot be swept does not stop the others.
                Some(true) => failed = failed.or(remove(&dir).err()),
                Some(false)
                    if age(&name, now).unwrap_or_default() > outputs
                        && !dir.join(SWEPT).exists() =>
                {
                    failed = failed.or(self.forget(&name, &dir).err());
                }
                _ => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn forget(&self, name: &str, dir: &Path) -> io::Result<()> {
        if let Some(found) = self.find(name)?.filter(|found| !found.is_live) {
            found.forget_outputs()?;
            private().open(dir.join(SWEPT))?;
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().into_string().ok()).transpose()
        };
        entries.filter_map(name).collect()
    }

    fn folder(&self, id: &str) -> Option<PathBuf> {
        is_id(id).then(|| self.dir.join(id))
    }
}

impl OwnedCommand {
    /// Stores the state at a node. A final state survives a power loss.
    pub fn save(&self, node: &CommandNode, invocation: &Invocation) -> io::Result<()> {
        let (path, text) =
            (self.dir.join(&node.id).join(INVOCATION), serde_json::to_vec(invocation)?);
        if invocation.details.is_end() {
            return write_durably(&path, &text);
        }
        replace(&path, &text)
    }

    /// Stores the command as ended everywhere.
    pub fn end(&self, command: &SentCommand) -> io::Result<()> {
        write_durably(&self.dir.join(COMMAND), &serde_json::to_vec(command)?)?;
        match fs::remove_file(self.dir.join(CANCEL)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The pipe through which others request its end.
    pub fn cancel_path(&self) -> PathBuf {
        self.dir.join(CANCEL)
    }

    /// A step's output at a node.
    pub fn step(&self, node: &CommandNode, step: &CommandStep) -> StepOutputs {
        StepOutputs::of(&self.dir, &self.root, node, step)
    }

    /// Removes the full outputs at a node. The excerpts for responses stay.
    pub fn forget(&self, node: &CommandNode, steps: &[CommandStep]) -> io::Result<()> {
        steps.iter().try_for_each(|step| self.step(node, step).forget())
    }

    /// The same for steps whose output has arrived at AWS.
    pub fn forget_arrived(&self, node: &CommandNode, steps: &[CommandStep]) -> io::Result<()> {
        delivery::forget_arrived(&self.dir, &self.root, node, steps)
    }

    /// The file that is locked during execution, relative to the state folder.
    pub fn lock_path(command: &str) -> PathBuf {
        Path::new("commands").join(command).join(LOCK)
    }
}

impl FoundCommand {
    /// The state at a node.
    pub fn invocation(&self, node: &CommandNode) -> io::Result<Invocation> {
        let path = self.dir.join(&node.id).join(INVOCATION);
        let read = read::<Invocation>(&path)?.unwrap_or_else(Invocation::pending);
        let mut read = if self.is_live { read } else { read.left() };
        delivery::add(&self.dir.join(&node.id), &self.command.steps, &mut read.trace);
        Ok(read)
    }

    /// The state at each node.
    pub fn details(&self) -> io::Result<Vec<StatusDetails>> {
        match &self.command.ended {
            Some(ended) => Ok(ended.clone()),
            None => {
                let nodes = self.command.nodes.iter();
                nodes.map(|node| Ok(self.invocation(node)?.details)).collect()
            }
        }
    }

    /// A step's output at a node.
    pub fn step(&self, node: &CommandNode, step: &CommandStep) -> StepOutputs {
        StepOutputs::of(&self.dir, &self.command.root, node, step)
    }

    /// Asks the executing process to end the command at these nodes. If there is none, the command
    /// has ended.
    pub fn cancel(&self, nodes: &[&CommandNode]) -> io::Result<()> {
        let open =
            OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(self.dir.join(CANCEL));
        let mut pipe = match open {
            // The pipe has no reader, or is gone.
            Err(error) if error.raw_os_error() == Some(ENXIO) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            open => open?,
        };
        // One write per line: short writes to a pipe are never mixed with others.
        for node in nodes {
            pipe.write_all(format!("{}\n", node.id).as_bytes())?;
        }
        Ok(())
    }

    /// Removes the full outputs at a node that have arrived at AWS. The excerpts stay.
    pub fn forget_arrived(&self, node: &CommandNode) -> io::Result<()> {
        delivery::forget_arrived(&self.dir, &self.command.root, node, &self.command.steps)
    }

    fn forget_outputs(&self) -> io::Result<()> {
        for node in &self.command.nodes {
            for step in &self.command.steps {
                self.step(node, step).forget()?;
            }
        }
        Ok(())
    }
}

const O_NONBLOCK: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits();
const ENXIO: i32 = nix::errno::Errno::ENXIO as i32;

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Replaces a file atomically.
fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir)?;
    file.write_all(contents)?;
    users::give(file.path())?;
    file.persist(path)?;
    Ok(())
}

/// Removes the folder of a command that no process executes.
fn remove(dir: &Path) -> io::Result<()> {
    if is_held(dir)? {
        return Ok(());
    }
    match fs::remove_dir_all(dir) {
        // Another endpoint sweeps as well.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whether a process executes the command in this folder.
fn is_held(dir: &Path) -> io::Result<bool> {
    let lock = match File::open(dir.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        lock => lock?,
    };
    // Released at once.
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    let damaged = |error| io::Error::other(format!("{} is damaged ({error})", path.display()));
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Whether the name can be an id, which never leads out of the folder.
fn is_id(name: &str) -> bool {
    let is_digit = |(at, c): (usize, char)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => matches!(c, '0'..='9' | 'a'..='f'),
    };
    name.len() == 36 && name.chars().enumerate().all(is_digit)
}

/// The age of the command with this id. Ids begin with milliseconds since 1970.
fn age(id: &str, now: WallTime) -> Option<Duration> {
    let digits: String = id.chars().filter(|c| *c != '-').take(12).collect();
    let made = u64::from_str_radix(&digits, 16).ok()?;
    let now = u64::try_from(now.epoch_millis()).ok()?;
    Some(Duration::from_millis(now.saturating_sub(made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199f000-0000-7000-8000-00000000000a";

    pub(super) fn command(id: &str) -> SentCommand {
        SentCommand {
            id: id.to_owned(),
            document: "AWS-RunShellScript".to_owned(),
            document_version: String::new(),
            comment: String::new(),
            parameters: BTreeMap::new(),
            instance_ids: Vec::new(),
            targets: serde_json::Value::Null,
            requested: WallTime(1),
            expires: WallTime(2),
            timeout_s: 3600,
            max_concurrency: "50".to_owned(),
            max_errors: "0".to_owned(),
            errors_allowed: 0,
            destinations: Destinations::default(),
            owner: "arn".to_owned(),
            owner_id: "AIDA".to_owned(),
            owner_key: "AKIA".to_owned(),
            root: String::new(),
            system: BTreeMap::new(),
            nodes: vec![CommandNode {
                name: "codebuild:x".to_owned(),
                id: "mi-0123456789abcdef0".to_owned(),
                uuid: "x".to_owned(),
                build: "demo:x".to_owned(),
                project: "demo".to_owned(),
            }],
            steps: vec![CommandStep {
                name: "aws:runShellScript".to_owned(),
                plugin: "aws:runShellScript".to_owned(),
                folder: "0.awsrunShellScript".to_owned(),
            }],
            ended: None,
        }
    }

    fn commands() -> (tempfile::TempDir, Commands) {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let commands = Commands::of(&home);
        (dir, commands)
    }

    #[test]
    fn a_command_that_its_process_has_left_has_failed() {
        let (_dir, commands) = commands();
        assert!(commands.ids().expect("none").is_empty());
        let asked = command(ID);
        let node = &asked.nodes[0];
        let owned = commands.create(&asked).expect("created");
        let found = commands.find(ID).expect("read").expect("there");
        assert!(found.is_live);
        assert_eq!(found.command, asked);
        assert_eq!(found.details().expect("read"), [StatusDetails::Pending]);
        let mut invocation =
            Invocation { details: StatusDetails::InProgress, ..Invocation::pending() };
        owned.save(node, &invocation).expect("saved");
        assert_eq!(found.details().expect("read"), [StatusDetails::InProgress]);
        drop(owned);
        let found = commands.find(ID).expect("read").expect("there");
        let left = found.invocation(node).expect("read");
        assert_eq!((left.details, &*left.trace), (StatusDetails::Failed, STOPPED));
        // A finished command stays finished.
        let other = command("0199f000-0000-7000-8000-00000000000b");
        let owned = commands.create(&other).expect("created");
        invocation.details = StatusDetails::Success;
        owned.save(node, &invocation).expect("saved");
        drop(owned);
        let found = commands.find(&other.id).expect("read").expect("there");
        assert_eq!(found.details().expect("read"), [StatusDetails::Success]);
        assert_eq!(commands.ids().expect("ids"), [other.id.as_str(), ID]);
    }

    #[test]
    fn what_is_old_goes() {
        let (dir, commands) = commands();
        let asked = command(ID);
        let (node, step) = (&asked.nodes[0], &asked.steps[0]);
        let owned = commands.create(&asked).expect("created");
        drop(owned.step(node, step).files().expect("files"));
        let hour = Duration::from_secs(3600);
        let at = |hours: u32| {
            let made = u64::from_str_radix("0199f0000000", 16).expect("a number");
            WallTime(i64::try_from(made * 1000 + u64::from(hours) * 3_600_000_000).expect("fits"))
        };
        let folder = dir.path().join("commands").join(ID);
        let stdout =
            folder.join("mi-0123456789abcdef0/awsrunShellScript/0.awsrunShellScript/stdout");
        // While its process lives, nothing is removed.
        commands.sweep(at(900), hour, hour * 2).expect("swept");
        assert!(stdout.exists());
        drop(owned);
        commands.sweep(at(1), hour, hour * 4).expect("swept");
        assert!(stdout.exists());
        commands.sweep(at(3), hour, hour * 4).expect("swept");
        assert!(!stdout.exists() && folder.join(COMMAND).exists());
        commands.sweep(at(5), hour, hour * 4).expect("swept");
        assert!(!folder.exists());
    }

    #[test]
    fn an_end_is_asked_for_by_a_pipe() {
        let (_dir, commands) = commands();
        let asked = command(ID);
        let node = &asked.nodes[0];
        let owned = commands.create(&asked).expect("created");
        let found = commands.find(ID).expect("read").expect("there");
        // The pipe has no reader yet.
        found.cancel(&[node]).expect("said");
        let reader = OpenOptions::new().read(true).write(true).open(owned.cancel_path());
        let mut reader = reader.expect("the pipe");
        found.cancel(&[node, node]).expect("said");
        let mut line = [0; 42];
        reader.read_exact(&mut line).expect("two lines");
        assert_eq!(&line[..21], b"mi-0123456789abcdef0\n");
        owned.end(&asked).expect("ended");
        found.cancel(&[node]).expect("it has ended");
        for odd in ["", "..", "x", "0199f000-0000-7000-8000-00000000000A"] {
            assert_eq!(commands.find(odd).expect("none"), None, "{odd}");
        }
    }
}

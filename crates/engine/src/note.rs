//! Notes on how a container was made and what it lacks.
//!
//! Sent by the engines. A build shows the sentences; the doctor checks which note it is.

use super::limits;
use crate::docker::DaemonProgram;
use crate::image;
use runner_core::event::NoticeLevel;
use runner_host::users;
use std::fmt;
use std::path::PathBuf;

/// Files named in a note; the rest are counted.
const NAMED: usize = 3;

/// A note sent while a container is made or running.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineNote {
    /// A note on its image.
    Image(image::ImageNote),
    /// The engine `auto` uses this one because the first does not work.
    Fallback { engine: DaemonProgram, because: String },
    /// The engine `process` makes no container.
    NotIsolated,
    /// The engine `process` neither grants nor removes rights.
    PrivilegedIsIdle,
    /// The source is at its own path instead of the usual one.
    SourceElsewhere { usual: &'static str, target: PathBuf },
    /// `--privileged` has limits without root.
    LessPrivileged,
    /// Root is the container's only user.
    OneUser { refused: Option<String> },
    /// The layer is not in the first place tried.
    LayerIn { place: LayerPlace, failures: Vec<String> },
    /// The daemon was started with runc.
    UsesRunc,
    /// Files of a source that the caller cannot read.
    NotCopied(Vec<PathBuf>),
    /// A limit does not hold.
    NotEnforced { options: String, by: Option<DaemonProgram>, cause: String },
    /// Whether a limit is enforced is unknown.
    PerhapsNotEnforced { options: String, by: DaemonProgram, cause: String },
    /// Limits of a container on another machine.
    EnforcedUnseen { options: String, by: DaemonProgram },
    /// No limit can be enforced at all.
    NoGroups { cause: String },
    /// The program that carried the network has ended.
    NetworkLost { said: String },
    /// Sessions have only the image's programs.
    ToolboxNotShown,
    /// The container is on another machine.
    ThroughExec { elsewhere: String },
    /// The endpoint for credentials is unreachable.
    NoCredentials,
}

/// Where a layer lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerPlace {
    Directory(PathBuf),
    /// A tmpfs of at most this many bytes.
    Memory(u64),
}

const LESS_PRIVILEGED: &str = "--privileged without root: the build has all rights within its own user \
                               namespace and none outside of it, so no devices of this machine but \
                               those you may use, no modules, no file systems on disks; a Docker \
                               daemon in it has to be a rootless one";

const NO_CREDENTIALS: &str = "the build gets no AWS credentials: their endpoint is on this machine's \
                              loopback, which its container does not reach; -e AWS_ACCESS_KEY_ID and its \
                              like pass yours through";

impl EngineNote {
    pub fn level(&self) -> NoticeLevel {
        match self {
            EngineNote::Image(_)
            | EngineNote::Fallback { .. }
            | EngineNote::NotIsolated
            | EngineNote::PrivilegedIsIdle
            | EngineNote::SourceElsewhere { .. }
            | EngineNote::LessPrivileged
            | EngineNote::OneUser { .. }
            | EngineNote::LayerIn { .. }
            | EngineNote::UsesRunc
            | EngineNote::NotCopied(_) => NoticeLevel::Note,
            EngineNote::NotEnforced { .. }
            | EngineNote::PerhapsNotEnforced { .. }
            | EngineNote::EnforcedUnseen { .. }
            | EngineNote::NoGroups { .. }
            | EngineNote::NetworkLost { .. }
            | EngineNote::ToolboxNotShown
            | EngineNote::ThroughExec { .. }
            | EngineNote::NoCredentials => NoticeLevel::Warning,
        }
    }
}

impl fmt::Display for EngineNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineNote::Image(note) => note.fmt(f),
            EngineNote::Fallback { engine, because } => write!(f, "engine {}, because {because}", engine.command()),
            EngineNote::NotIsolated => f.write_str(
                "engine process: nothing is isolated; the build has this machine's files, processes \
                 and network, with your rights",
            ),
            EngineNote::PrivilegedIsIdle => f.write_str(
                "--privileged changes nothing with the engine process: the build has your rights, no more \
                 and no less",
            ),
            EngineNote::SourceElsewhere { usual, target } => write!(
                f,
                "{usual} is in use or cannot be created: the build's source is at {}",
                target.display()
            ),
            EngineNote::LessPrivileged => f.write_str(LESS_PRIVILEGED),
            EngineNote::OneUser { refused } => write!(
                f,
                "the container has one user only, root ({}): apt, chown, sudo and run-as will fail in \
                 it; {}",
                refused.as_deref().unwrap_or("this user has no subordinate ids"),
                users::advice()
            ),
            EngineNote::LayerIn { place, failures } => write!(
                f,
                "the build's files are stored in {place}, because other directories cannot hold \
                 them:\n  {}",
                failures.join("\n  ")
            ),
            EngineNote::UsesRunc => {
                f.write_str("Podman: crun refuses this machine's control groups; using runc")
            }
            EngineNote::NotCopied(paths) => not_copied(paths, f),
            EngineNote::NotEnforced { options, by: None, cause } => {
                write!(f, "{options} is not enforced: {cause} ({})", limits::mend())
            }
            EngineNote::NotEnforced { options, by: Some(daemon), cause } => {
                write!(f, "{options} is not enforced by {daemon}: {cause}")
            }
            EngineNote::PerhapsNotEnforced { options, by, cause } => {
                write!(f, "{options}: {by} may or may not enforce it ({cause})")
            }
            EngineNote::EnforcedUnseen { options, by } => write!(
                f,
                "{options}: the runner cannot see whether {by} enforces it, and does not report \
                 its effect on the build"
            ),
            EngineNote::NoGroups { cause } => write!(f, "no limit can be enforced: {cause}"),
            EngineNote::NetworkLost { said } => {
                write!(f, "pasta has ended; the build no longer has a network {said}")
            }
            EngineNote::ToolboxNotShown => f.write_str(
                "--toolbox: only an engine of our own can show it to sessions alone; here they have what \
                 the image has",
            ),
            EngineNote::ThroughExec { elsewhere } => write!(
                f,
                "{elsewhere}: using its exec API, in which commands and files take longer; the network is \
                 that of the daemon's machine"
            ),
            EngineNote::NoCredentials => f.write_str(NO_CREDENTIALS),
        }
    }
}

impl fmt::Display for LayerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayerPlace::Directory(dir) => dir.display().fmt(f),
            LayerPlace::Memory(bytes) => write!(f, "memory (at most {} MiB)", bytes >> 20),
        }
    }
}

fn not_copied(paths: &[PathBuf], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let named: Vec<String> =
        paths.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    let more = match paths.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    write!(f, "not in the container, because you may not read it: {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_a_warning() {
        let place = LayerPlace::Memory(512 << 20);
        let elsewhere = EngineNote::LayerIn { place, failures: vec!["/a: full".to_owned()] };
        assert_eq!(elsewhere.level(), NoticeLevel::Note);
        assert_eq!(
            elsewhere.to_string(),
            "the build's files are stored in memory (at most 512 MiB), because other directories \
             cannot hold them:\n  /a: full"
        );
        let (options, cause) = ("--memory 1G".to_owned(), "no group".to_owned());
        let unlimited = EngineNote::NotEnforced { options, by: Some(DaemonProgram::Podman), cause };
        assert_eq!(unlimited.level(), NoticeLevel::Warning);
        assert_eq!(unlimited.to_string(), "--memory 1G is not enforced by Podman: no group");
        let paths = ["a", "b", "c", "d", "e"].map(PathBuf::from).to_vec();
        let text = "not in the container, because you may not read it: a, b, c and 2 more";
        assert_eq!(EngineNote::NotCopied(paths).to_string(), text);
    }
}
